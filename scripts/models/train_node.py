#!/usr/bin/env python3
"""Make everything in `node/`: an int8 forecaster for a node's one temperature channel.

    train_node.py            write `node/`

The model looks at 16 readings of a housing's temperature (10 Hz, degrees Celsius) and
forecasts the temperature one second later. Its score is that forecast, so an operator sees
degrees, and the decision is a warning above 60 degrees before they are reached.

The training data follow Newton's law of heating and cooling, dT/dt = (T_end - T) / tau, with
a random end temperature and time constant per run and the reading noise of a tmp105 (0.0625
degrees a step). The forecaster is linear, fitted by least squares with a small ridge, and
quantised like the pump's model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import autoencoder
from autoencoder import Array

HERE = Path(__file__).resolve().parent
NODE = HERE / "node"
ROWS = 16
AHEAD = 10
RATE_HZ = 10.0
STEP = 0.0625
SEED = 5000
MEAN = 40.0
STD = 25.0


def run(rng: np.random.Generator, length: int) -> Array:
    """One heating or cooling curve in degrees Celsius, as the sensor reads it."""
    start, end = rng.uniform(-10.0, 95.0, 2)
    tau = rng.uniform(2.0, 60.0)
    time = np.arange(length) / RATE_HZ
    curve = end + (start - end) * np.exp(-time / tau)
    noisy = curve + rng.normal(0.0, STEP, length)
    return (np.round(noisy / STEP) * STEP).astype(np.float32)


def samples(rng: np.random.Generator, runs: int) -> tuple[Array, Array]:
    """Normalised windows [n, 16] and the normalised temperature a second later [n]."""
    windows, targets = [], []
    for _ in range(runs):
        curve = (run(rng, 120) - MEAN) / STD
        for first in range(0, len(curve) - ROWS - AHEAD, 4):
            windows.append(curve[first : first + ROWS])
            targets.append(curve[first + ROWS + AHEAD - 1])
    return np.array(windows, np.float32), np.array(targets, np.float32)


def to_onnx(kernel: Array, bias: float) -> onnx.ModelProto:
    """One Gemm whose result is in degrees Celsius: f32 [1, 16] to f32 [1, 1]."""
    weights = [
        numpy_helper.from_array(
            (kernel * STD).reshape(ROWS, 1).astype(np.float32), "w"
        ),
        numpy_helper.from_array(np.array([bias * STD + MEAN], np.float32), "b"),
    ]
    graph = helper.make_graph(
        [
            helper.make_node(
                "Gemm", [autoencoder.INPUT, "w", "b"], [autoencoder.OUTPUT], "forecast"
            )
        ],
        "temperature-forecast",
        [
            helper.make_tensor_value_info(
                autoencoder.INPUT, TensorProto.FLOAT, [1, ROWS]
            )
        ],
        [helper.make_tensor_value_info(autoencoder.OUTPUT, TensorProto.FLOAT, [1, 1])],
        weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", autoencoder.OPSET)],
        producer_name="drover",
    )
    model.ir_version = autoencoder.IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


SPEC = f"""\
# Written by train_node.py. Paths are relative to this file.
[bundle]
name = "node-temperature"
version = "1.0.0"
counter = 1
description = "Forecasts a node's temperature one second ahead, degrees Celsius"

[model]
file = "temperature-1.0.0.onnx"

[requires]
memory_bytes = 16_000_000

[input]
tensor = "{autoencoder.INPUT}"
window = {{ rows = {ROWS}, stride = 1 }}
normalisation = {{ kind = "z-score", mean = [{MEAN}], std = [{STD}], clip = 4.0 }}

[[input.channels]]
name = "temperature_degc"
unit = "degC"

[output]
tensor = "{autoencoder.OUTPUT}"
scoring = {{ kind = "first" }}
decision = {{ kind = "threshold", threshold = 60.0, median_of = 5 }}

[golden]
inputs = "golden_in.npy"
outputs = "golden_out-1.0.0.npy"
tolerance = {{ kind = "range", fraction = 0.02 }}

[baseline]
csv = "baseline.csv"
bins = 16
"""


def main() -> None:
    """Fit, quantise, write, and say how well it forecasts."""
    rng = np.random.default_rng(SEED)
    windows, targets = samples(rng, 400)
    design = np.hstack([windows, np.ones((len(windows), 1), np.float32)]).astype(
        np.float64
    )
    ridge = 10.0 * np.eye(ROWS + 1)
    ridge[-1, -1] = 0.0
    solution = np.linalg.solve(design.T @ design + ridge, design.T @ targets)
    model = to_onnx(solution[:-1].astype(np.float32), float(solution[-1]))
    quantised = autoencoder.quantise(model, windows[::20])

    held_out, wanted = samples(rng, 50)
    forecast = autoencoder.predict(quantised, held_out)[:, 0]
    error = forecast - (wanted * STD + MEAN)
    print(
        f"held-out error: mean {error.mean():.2f}, rms {np.sqrt((error**2).mean()):.2f} degrees"
    )

    NODE.mkdir(exist_ok=True)
    (NODE / "temperature-1.0.0.onnx").write_bytes(quantised)
    golden = held_out[:: len(held_out) // 8][:8]
    np.save(NODE / "golden_in.npy", golden)
    np.save(NODE / "golden_out-1.0.0.npy", autoencoder.predict(quantised, golden))
    rows = np.concatenate([run(rng, 120) for _ in range(10)])
    text = "temperature_degc\n" + "".join(f"{value:.4f}\n" for value in rows)
    (NODE / "baseline.csv").write_text(text, encoding="utf-8")
    (NODE / "temperature-1.0.0.toml").write_text(SPEC, encoding="utf-8")


if __name__ == "__main__":
    main()
