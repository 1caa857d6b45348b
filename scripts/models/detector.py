"""From rows to decisions: windows, normalisation, scores, threshold, figures.

Owns the rule that the device applies to the model's output, in the same order
of operations, so that a threshold found here holds there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import pump_rig

Floats = NDArray[np.float32]

WINDOW_ROWS = 16
CLIP = 8.0
MEDIAN_OF = 5


@dataclass(frozen=True)
class Recording:
    """Raw rows [n, 6] in the rig's units, and the label of each."""

    values: NDArray[np.float64]
    labels: NDArray[np.bool_]

    @staticmethod
    def of(rows: Iterable[pump_rig.Row]) -> Recording:
        """Collect the rows of one run."""
        first, second = itertools.tee(rows)
        return Recording(
            np.array([row.values for row in first], dtype=np.float64),
            np.array([row.anomaly for row in second], dtype=np.bool_),
        )


@dataclass(frozen=True)
class Normalisation:
    """Fixed z-score per channel, then clipped to +-`CLIP`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(recordings: Iterable[Recording]) -> Normalisation:
        """Mean and population deviation of all rows, to 6 significant digits.

        The rounded numbers are the ones of the bundle, so they are used here too.
        """
        values = np.concatenate([recording.values for recording in recordings])
        return Normalisation(
            _rounded(values.mean(axis=0)), _rounded(values.std(axis=0))
        )

    def windows(self, recording: Recording) -> Floats:
        """All windows [n - 15, 96] of a run, stride 1, row-major [row][channel]."""
        scaled = (recording.values - np.array(self.mean)) / np.array(self.std)
        scaled = np.clip(scaled, -CLIP, CLIP).astype(np.float32)
        view = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW_ROWS, axis=0)
        return np.ascontiguousarray(view.transpose(0, 2, 1)).reshape(len(view), -1)


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def window_labels(recording: Recording) -> NDArray[np.bool_]:
    """A window has the label of its last row."""
    return recording.labels[WINDOW_ROWS - 1 :]


def scores(windows: Floats, reconstructions: Floats) -> NDArray[np.float64]:
    """Mean squared error between each window and its reconstruction."""
    error = windows.astype(np.float64) - reconstructions.astype(np.float64)
    return np.asarray(np.mean(error * error, axis=1), dtype=np.float64)


def smoothed(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each score and up to `MEDIAN_OF` - 1 earlier ones of the same run."""
    return np.array(
        [
            np.median(raw[max(0, index - MEDIAN_OF + 1) : index + 1])
            for index in range(len(raw))
        ]
    )


def psi(
    reference: NDArray[np.float64], current: NDArray[np.float64], bins: int
) -> float:
    """Population stability index over `bins` quantile bins of `reference`.

    Empty bins count as half a row, as usual; 0.1 is read as a small change and
    0.25 as a large one.
    """
    edges = np.unique(np.quantile(reference, np.arange(1, bins) / bins))
    shares = []
    for values in (reference, current):
        counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        shares.append(np.maximum(counts, 0.5) / len(values))
    expected, actual = shares
    return float(np.sum((actual - expected) * np.log(actual / expected)))
