"""The autoencoder: fit it, write it as ONNX, quantise it, run it.

Owns the network's shape and its numerics. Knows nothing of pumps, thresholds or
bundles. All of it is deterministic for equal inputs and equal package versions
on one machine; another processor may round the training differently.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

Array = NDArray[np.float32]

HIDDEN = (96, 16, 96)
INPUT = "window"
OUTPUT = "reconstruction"
# The oldest opset with per-channel DequantizeLinear: every engine reads it.
OPSET = 13
IR_VERSION = 8


def fit(windows: Array, seed: int, epochs: int) -> MLPRegressor:
    """Train a dense autoencoder on `windows` [n, features], `epochs` passes."""
    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        activation="relu",
        solver="adam",
        alpha=1e-5,
        batch_size=256,
        learning_rate_init=1e-3,
        max_iter=epochs,
        n_iter_no_change=epochs,
        tol=0.0,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The number of epochs is the stop rule here, so this is no news.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(windows, windows)
    return network


def to_onnx(network: MLPRegressor) -> onnx.ModelProto:
    """The fitted network as float ONNX: Gemm and Relu, f32 [1, n] in and out."""
    features = network.n_features_in_
    nodes = []
    weights = []
    tensor = INPUT
    last = len(network.coefs_) - 1
    for index, (kernel, bias) in enumerate(
        zip(network.coefs_, network.intercepts_, strict=True)
    ):
        names = [f"w{index}", f"b{index}"]
        for name, values in zip(names, (kernel, bias), strict=True):
            weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        result = OUTPUT if index == last else f"sum{index}"
        nodes.append(
            helper.make_node("Gemm", [tensor, *names], [result], f"dense{index}")
        )
        tensor = result
        if index != last:
            tensor = f"act{index}"
            nodes.append(helper.make_node("Relu", [result], [tensor], f"relu{index}"))
    shape = [1, features]
    graph = helper.make_graph(
        nodes,
        "pump-autoencoder",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="drover"
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, windows: Array) -> None:
        self._windows: Iterator[Array] = iter(windows)

    def get_next(self) -> dict[str, Array] | None:
        window = next(self._windows, None)
        return None if window is None else {INPUT: window[np.newaxis, :]}


def quantise(model: onnx.ModelProto, calibration: Array) -> bytes:
    """Static int8 quantisation of `model`, calibrated on `calibration` [n, features].

    QDQ form, signed activations and weights, one scale per output channel; the
    model's own input and output stay f32.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "float.onnx")
        target = Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Calibration(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        quantised = onnx.load(target)
    # The quantiser walks sets; sorted initialisers make the file reproducible.
    initialisers = sorted(quantised.graph.initializer, key=lambda tensor: tensor.name)
    del quantised.graph.initializer[:]
    quantised.graph.initializer.extend(initialisers)
    del quantised.metadata_props[:]
    onnx.checker.check_model(quantised, full_check=True)
    return bytes(quantised.SerializeToString(deterministic=True))


def predict(model: bytes, windows: Array, *, optimised: bool = True) -> Array:
    """Reconstructions of `windows` [n, features] by onnxruntime, one at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    results = [session.run([OUTPUT], {INPUT: window[None, :]})[0] for window in windows]
    return np.concatenate(results)
