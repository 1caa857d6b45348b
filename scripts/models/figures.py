"""What the detector achieves, measured on runs that no training saw.

Owns the evaluation protocol and the table of the README. Each model is judged
by its int8 file as onnxruntime runs it, never by the float network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autoencoder
import detector
import pump_rig
from detector import Normalisation, Recording

NORMAL_SEEDS = range(3000, 3004)
FAULT_SEEDS = range(3100, 3103)
ROWS = 3000
FAULT_AT = 1000
FAULT_RAMP = 100
SITE_OFFSET_DEGC = 1.0
BINS = 16

Figures = dict[str, Any]


def measure(model: bytes, norm: Normalisation, threshold: float) -> Figures:
    """Alarm shares of one model on normal, faulty and shifted runs."""

    def alarms(recording: Recording) -> np.ndarray[Any, np.dtype[np.bool_]]:
        windows = norm.windows(recording)
        raw = detector.scores(windows, autoencoder.predict(model, windows))
        return detector.smoothed(raw) > threshold

    faults: Figures = {}
    for fault in pump_rig.FAULTS:
        before, after, delays = [], [], []
        for seed in FAULT_SEEDS:
            run = Recording.of(
                pump_rig.rows(
                    ROWS, seed, fault=fault, fault_at=FAULT_AT, fault_ramp=FAULT_RAMP
                )
            )
            alarm = alarms(run)
            start = FAULT_AT - detector.WINDOW_ROWS + 1
            before.append(alarm[:start])
            after.append(alarm[start + FAULT_RAMP :])
            hits = np.flatnonzero(alarm[start:])
            delays.append(int(hits[0]) if len(hits) else ROWS)
        faults[fault] = {
            "detected": _share(after),
            "false_alarms_before": _share(before),
            "rows_to_first_alarm": int(np.median(delays)),
        }
    shifted = {"motor_temperature_degc": SITE_OFFSET_DEGC}
    return {
        "bytes": len(model),
        "threshold": threshold,
        "false_alarms": _share([alarms(run) for run in _normal_runs()]),
        "false_alarms_at_shifted_site": _share(
            [alarms(run) for run in _normal_runs(shifted)]
        ),
        "faults": faults,
        "optimisation_gap": optimisation_gap(model, norm),
    }


def optimisation_gap(model: bytes, norm: Normalisation) -> float:
    """Largest difference between onnxruntime with and without graph optimisation.

    As a share of the output's range, over normal and faulty windows: the least
    that a golden tolerance must allow.
    """
    runs = [
        Recording.of(pump_rig.rows(600, 3200, fault=fault, fault_at=300))
        for fault in pump_rig.FAULTS
    ]
    windows = np.concatenate([norm.windows(run) for run in runs])
    expected = autoencoder.predict(model, windows)
    plain = autoencoder.predict(model, windows, optimised=False)
    gap = float(np.max(np.abs(expected - plain)))
    return float(f"{gap / float(np.ptp(expected)):.3g}")


def drift(baseline: Recording) -> Figures:
    """Worst stability index over channels and runs, against the drift baseline."""
    shifted = {"motor_temperature_degc": SITE_OFFSET_DEGC}
    temperature = pump_rig.CHANNELS.index("motor_temperature_degc")

    def worst(runs: list[Recording], channels: list[int]) -> float:
        return round(
            max(
                detector.psi(
                    baseline.values[:, channel], run.values[:1000, channel], BINS
                )
                for run in runs
                for channel in channels
            ),
            2,
        )

    every = list(range(len(pump_rig.CHANNELS)))
    return {
        "psi_normal_worst": worst(_normal_runs(), every),
        "psi_shifted_temperature_least": round(
            min(worst([run], [temperature]) for run in _normal_runs(shifted)), 2
        ),
    }


def table(measured: Figures) -> str:
    """The figures as the Markdown block of the README."""
    models = measured["models"]
    lines = [
        "| figure | " + " | ".join(models) + " |",
        "|---|" + "---|" * len(models),
    ]

    def line(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    figures = list(models.values())
    line("size of the int8 ONNX, bytes", [str(one["bytes"]) for one in figures])
    line("threshold", [str(one["threshold"]) for one in figures])
    line(
        "false alarms, normal runs", [_percent(one["false_alarms"]) for one in figures]
    )
    line(
        f"false alarms, site {SITE_OFFSET_DEGC:g} degC warmer",
        [_percent(one["false_alarms_at_shifted_site"]) for one in figures],
    )
    for fault in pump_rig.FAULTS:
        cells = [one["faults"][fault] for one in figures]
        line(
            f"{fault}: detected; false alarms before; rows to first alarm",
            [
                f"{_percent(cell['detected'])};"
                f" {_percent(cell['false_alarms_before'])};"
                f" {cell['rows_to_first_alarm']}"
                for cell in cells
            ],
        )
    line(
        "onnxruntime, graph optimisation on against off, share of range",
        [_percent(one["optimisation_gap"]) for one in figures],
    )
    drifted = measured["drift"]
    lines += [
        "",
        f"Drift baseline against 1000 rows of other runs, {BINS} quantile bins,"
        " population stability index: at most"
        f" {drifted['psi_normal_worst']} on any channel of a normal run; at least"
        f" {drifted['psi_shifted_temperature_least']} on the temperature of a site"
        f" {SITE_OFFSET_DEGC:g} degC warmer.",
    ]
    return "\n".join(lines)


def _normal_runs(site_offset: dict[str, float] | None = None) -> list[Recording]:
    return [
        Recording.of(pump_rig.rows(ROWS, seed, site_offset=site_offset))
        for seed in NORMAL_SEEDS
    ]


def _share(alarms: list[np.ndarray[Any, np.dtype[np.bool_]]]) -> float:
    return round(float(np.mean(np.concatenate(alarms))), 4)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
