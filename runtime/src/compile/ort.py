"""Computes reference outputs with onnxruntime.

Usage: ort.py MODEL INPUTS.npy OUTPUTS.npy. The first axis of both arrays is the case; each case
is one input of the model, its batch axis included. The first output of the model is stored.
"""

import sys

import numpy
import onnxruntime


def main(model, inputs, outputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    first = session.get_outputs()[0].name
    results = [session.run([first], {name: case})[0] for case in numpy.load(inputs)]
    numpy.save(outputs, numpy.ascontiguousarray(numpy.stack(results)))


main(*sys.argv[1:])
