#!/usr/bin/env python3
"""Makes a zoo of small quantised networks that no pass of the compiler was written for.

Every network is drawn from a seed, quantised by onnxruntime in the ways that it has, and
written with inputs and onnxruntime's outputs:

    NAME.in.npy            inputs of all float-fed variants, one row each
    NAME.VARIANT.onnx      a model
    NAME.VARIANT.in.npy    inputs of a variant that takes integers
    NAME.VARIANT.out.npy   what onnxruntime answers
    NAME.VARIANT.plain.npy what it answers with its optimiser off

The weights are random: outputs mean nothing, and any difference of a step shows.
Usage: zoo.py FOLDER [--all] [--only TEXT]. Needs onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import copy
import logging
import pathlib
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import zoo_networks

ROWS = 16
"""Inputs of each network."""
CALIBRATION = 64
"""Rows that onnxruntime takes its ranges from, other ones than the inputs."""

U8, S8, U16 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16
QDQ, QOP = QuantFormat.QDQ, QuantFormat.QOperator


class Rows(CalibrationDataReader):
    """Feeds rows to onnxruntime's calibration, one at a time."""

    def __init__(self, name: str, rows: np.ndarray) -> None:
        self.feeds = iter([{name: row[np.newaxis]} for row in rows])

    def get_next(self):
        return next(self.feeds, None)


def static(form, activation, weight, **more):
    """A variant by static quantisation."""

    def make(source: pathlib.Path, target: pathlib.Path, name: str, rows: np.ndarray) -> None:
        quantize_static(
            source,
            target,
            Rows(name, rows),
            quant_format=form,
            activation_type=activation,
            weight_type=weight,
            **more,
        )

    return make


def dynamic(weight, **more):
    """A variant whose activations are quantised as they come."""

    def make(source: pathlib.Path, target: pathlib.Path, _name: str, _rows: np.ndarray) -> None:
        quantize_dynamic(source, target, weight_type=weight, **more)

    return make


def weights_only(per_channel: bool):
    """A variant that stores int8 weights and computes in float."""

    def make(source: pathlib.Path, target: pathlib.Path, _name: str, _rows: np.ndarray) -> None:
        model = onnx.load(source)
        graph, nodes = model.graph, []
        weights = {i.name: i for i in graph.initializer}
        for node in graph.node:
            weight = weights.get(node.input[1]) if len(node.input) > 1 else None
            if node.op_type in ("Conv", "MatMul", "Gemm") and weight is not None:
                array = numpy_helper.to_array(weight)
                axis = 0 if node.op_type == "Conv" else array.ndim - 1
                if node.op_type == "Gemm" and any(
                    a.name == "transB" and a.i for a in node.attribute
                ):
                    axis = 0
                others = tuple(a for a in range(array.ndim) if a != axis) if per_channel else None
                largest = np.abs(array).max(axis=others, keepdims=True)
                scale = np.maximum(largest, 1e-9).astype(np.float32) / np.float32(127)
                stored = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
                name = weight.name
                graph.initializer.remove(weight)
                graph.initializer.extend(
                    [
                        numpy_helper.from_array(stored, name + "_int8"),
                        numpy_helper.from_array(
                            scale.reshape(-1) if per_channel else scale.reshape(()), name + "_scale"
                        ),
                    ]
                )
                nodes.append(
                    helper.make_node(
                        "DequantizeLinear",
                        [name + "_int8", name + "_scale"],
                        [name],
                        **({"axis": axis} if per_channel else {}),
                    )
                )
                del weights[name]
            nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)
        onnx.save(model, target)

    return make


def as_constants(source: pathlib.Path, target: pathlib.Path, name: str, rows: np.ndarray) -> None:
    """A variant whose constants are nodes, as torch's and Paddle's exporters write them."""
    VARIANTS["qdq_u8s8"](source, target, name, rows)
    model = onnx.load(target)
    graph, nodes = model.graph, list(model.graph.node)
    made = [helper.make_node("Constant", [], [i.name], value=i) for i in graph.initializer]
    del graph.initializer[:]
    del graph.node[:]
    graph.node.extend(made + nodes)
    onnx.save(model, target)


VARIANTS = {
    "f32": None,
    "qdq_u8s8": static(QDQ, U8, S8),
    "qdq_s8s8_pc": static(QDQ, S8, S8, per_channel=True),
    "qop_u8s8": static(QOP, U8, S8),
    "dyn_u8": dynamic(U8),
    "qdq_u8u8": static(QDQ, U8, U8),
    "qdq_s8s8_sym": static(
        QDQ, S8, S8, extra_options={"ActivationSymmetric": True, "WeightSymmetric": True}
    ),
    "qdq_pairs": static(
        QDQ,
        U8,
        S8,
        per_channel=True,
        extra_options={"AddQDQPairToWeight": True, "DedicatedQDQPair": True},
    ),
    "qdq_fbias": static(QDQ, S8, S8, extra_options={"QuantizeBias": False}),
    "qdq_i8io": static(QDQ, S8, S8, per_channel=True),
    "qdq_u8io": static(QDQ, U8, U8),
    "qdq_conv": static(QDQ, U8, S8, op_types_to_quantize=["Conv", "ConvTranspose"]),
    "qdq_matmul": static(QDQ, S8, S8, op_types_to_quantize=["MatMul", "Gemm"]),
    "qdq_range": static(QDQ, U8, S8, reduce_range=True),
    "qdq_asym": static(QDQ, U8, S8, extra_options={"WeightSymmetric": False}),
    "qdq_tightest": static(QDQ, S8, S8, extra_options={"CalibTensorRangeSymmetric": True}),
    "qdq_u16": static(QDQ, U16, S8, extra_options={"UseQDQContribOps": True}),
    "qop_u8u8": static(QOP, U8, U8),
    "qop_s8s8_pc": static(QOP, S8, S8, per_channel=True),
    "dyn_s8_pc": dynamic(S8, per_channel=True),
    "qdq_constants": as_constants,
    "weights": weights_only(False),
    "weights_pc": weights_only(True),
}
EVERY = 5
"""The first so many variants are made of every network, of the others some of each."""
MORE = 4


def chosen(place: int, everything: bool) -> list[str]:
    """Variants of the network at `place`; over all networks each variant comes up."""
    names = list(VARIANTS)
    if everything:
        return names
    rest = names[EVERY:]
    return names[:EVERY] + [rest[(place * MORE + n) % len(rest)] for n in range(MORE)]


def integer_borders(model: onnx.ModelProto) -> np.ndarray | None:
    """Takes the first quantiser and the last dequantiser off, as converters of TFLite do.

    Gives scale and zero point of the input; nothing where the model has no such border.
    """
    graph = model.graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    types = {i.name: i.data_type for i in graph.initializer}
    source, sink = graph.input[0], graph.output[0]
    readers = [n for n in graph.node if source.name in n.input]
    makers = [n for n in graph.node if sink.name in n.output]
    if [n.op_type for n in readers + makers] != ["QuantizeLinear", "DequantizeLinear"]:
        return None
    first, last = readers[0], makers[0]
    if any(last.input[0] == o for n in graph.node for o in n.input if n is not last):
        return None
    border = (constants[first.input[1]], constants[first.input[2]])
    types_of = (types[first.input[2]], types[last.input[2]])
    graph.node.remove(first)
    graph.node.remove(last)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == first.output[0]:
                node.input[place] = source.name
        for place, name in enumerate(node.output):
            if name == last.input[0]:
                node.output[place] = sink.name
    source.type.tensor_type.elem_type, sink.type.tensor_type.elem_type = types_of
    del graph.value_info[:]
    return border


def answers(model: onnx.ModelProto, rows: np.ndarray, optimised: bool) -> np.ndarray:
    """onnxruntime's first output for each row."""
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: row[np.newaxis]})[0] for row in rows])


def write(
    folder: pathlib.Path, name: str, network: onnx.ModelProto, variants: list[str], seed: int
) -> None:
    """Makes all `variants` of one network."""
    shape = [d.dim_value or 1 for d in network.graph.input[0].type.tensor_type.shape.dim]
    draw = np.random.default_rng(seed)
    drawn = draw.standard_normal((ROWS + CALIBRATION, *shape[1:])).astype(np.float32)
    rows, calibration = drawn[:ROWS], drawn[ROWS:]
    np.save(folder / f"{name}.in.npy", rows)
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch) / "float.onnx"
        onnx.save(network, source)
        for variant in variants:
            target = folder / f"{name}.{variant}.onnx"
            make = VARIANTS[variant]
            feed = rows
            try:
                if make is None:
                    model = copy.deepcopy(network)
                else:
                    make(source, target, network.graph.input[0].name, calibration)
                    model = onnx.load(target)
                if variant.endswith("io"):
                    border = integer_borders(model)
                    if border is None:
                        raise ValueError("its borders are not quantised")
                    scale, zero = border
                    low, high = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
                    feed = np.clip(np.rint(rows / scale) + zero, low, high).astype(zero.dtype)
                    np.save(folder / f"{name}.{variant}.in.npy", feed)
                plain = answers(model, feed, False)
                # Its optimiser computes stored weights in fewer bits than the graph says.
                wanted = plain if variant.startswith("weights") else answers(model, feed, True)
            except Exception as error:  # onnxruntime has many types of them
                target.unlink(missing_ok=True)
                print(f"{name}.{variant}: not made: {str(error).splitlines()[0][:160]}")
                continue
            onnx.save(model, target)
            np.save(folder / f"{name}.{variant}.out.npy", wanted)
            np.save(folder / f"{name}.{variant}.plain.npy", plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--all", action="store_true", help="every variant of every network")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for place, (name, network) in enumerate(zoo_networks.networks()):
        if arguments.only in name:
            write(arguments.folder, name, network, chosen(place, arguments.all), 1000 + place)
    print(f"{len(list(arguments.folder.glob('*.out.npy')))} models in {arguments.folder}")


if __name__ == "__main__":
    main()
