#!/usr/bin/env python3
"""Make everything in `pump/`: two int8 models, golden vectors, baseline, specs.

    train.py            write `pump/` and the figures in README.md
    train.py --check    make it all again elsewhere and compare with `pump/`

Each file is a pure function of this folder's code and the pinned packages. With
an equal processor the bytes are equal; `--check` accepts what another processor
rounds differently as long as the models answer and perform alike.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import autoencoder
import detector
import figures
import pump_rig
from detector import Normalisation, Recording

HERE = Path(__file__).resolve().parent
PUMP = HERE / "pump"
README = HERE / "README.md"
TABLE_BEGIN = "<!-- figures: written by train.py -->\n"
TABLE_END = "\n<!-- end of figures -->"

# Seeds: 1000+ training, 2000+ threshold, 3000+ figures, 4000+ bundle contents.
TRAINING_SEED = 1000
TRAINING_ROWS = 3000
THRESHOLD_SEEDS = range(2000, 2004)
THRESHOLD_ROWS = 5000
THRESHOLD_QUANTILE = 0.999
THRESHOLD_FACTOR = 1.2
BASELINE_SEED = 4000
BASELINE_ROWS = 1000
CALIBRATION_WINDOWS = 1000
GOLDEN_TOLERANCE = 0.06
# Packages that a model is made with, as its manifest names them.
COMPONENTS = ("scikit-learn", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Version:
    """One model of the series."""

    version: str
    counter: int
    seed: int
    runs: int
    epochs: int
    description: str

    @property
    def model(self) -> str:
        """File name of the ONNX model."""
        return f"pump-{self.version}.onnx"

    @property
    def golden(self) -> str:
        """File name of the expected outputs."""
        return f"golden_out-{self.version}.npy"

    @property
    def spec(self) -> str:
        """File name of the bundle specification."""
        return f"pump-{self.version}.toml"


VERSIONS = (
    Version("1.0.0", 1, 1, 8, 40, "Anomaly detector of the simulated pump rig"),
    Version(
        "1.1.0",
        3,
        2,
        16,
        60,
        "Anomaly detector of the simulated pump rig, trained longer on twice the runs",
    ),
)


def build(folder: Path) -> None:
    """Write every file of `pump/` into `folder`."""
    runs = [
        Recording.of(pump_rig.rows(TRAINING_ROWS, TRAINING_SEED + index))
        for index in range(max(version.runs for version in VERSIONS))
    ]
    # One normalisation for the series: its golden inputs and scores compare.
    norm = Normalisation.of(runs[: VERSIONS[0].runs])
    golden = golden_inputs(norm)
    np.save(folder / "golden_in.npy", golden)
    baseline = list(pump_rig.rows(BASELINE_ROWS, BASELINE_SEED))
    write_baseline(folder / "baseline.csv", baseline)

    measured: figures.Figures = {
        "models": {},
        "drift": figures.drift(Recording.of(baseline)),
    }
    for version in VERSIONS:
        say(f"{version.version}: training {version.epochs} epochs")
        windows = np.concatenate([norm.windows(run) for run in runs[: version.runs]])
        network = autoencoder.fit(windows, version.seed, version.epochs)
        say(f"{version.version}: quantising")
        step = len(windows) // CALIBRATION_WINDOWS
        model = autoencoder.quantise(autoencoder.to_onnx(network), windows[::step])
        (folder / version.model).write_bytes(model)
        np.save(folder / version.golden, autoencoder.predict(model, golden))
        say(f"{version.version}: measuring")
        threshold = find_threshold(model, norm)
        spec = bundle_spec(version, norm, threshold)
        (folder / version.spec).write_text(spec, encoding="ascii")
        measured["models"][version.version] = figures.measure(model, norm, threshold)
    text = json.dumps(measured, indent=1) + "\n"
    (folder / "figures.json").write_text(text, encoding="ascii")


def golden_inputs(norm: Normalisation) -> autoencoder.Array:
    """Eight windows: six of a normal run, one with cavitation, one blocked."""
    normal = Recording.of(pump_rig.rows(1000, BASELINE_SEED + 1))
    chosen = [norm.windows(normal)[100:900:150]]
    for fault in ("cavitation", "blocked-outlet"):
        faulty = Recording.of(
            pump_rig.rows(400, BASELINE_SEED + 2, fault=fault, fault_at=200)
        )
        chosen.append(norm.windows(faulty)[300:301])
    return np.concatenate(chosen)


def find_threshold(model: bytes, norm: Normalisation) -> float:
    """A high quantile of smoothed scores on held-out normal runs, times a factor."""
    smoothed = []
    for seed in THRESHOLD_SEEDS:
        windows = norm.windows(Recording.of(pump_rig.rows(THRESHOLD_ROWS, seed)))
        raw = detector.scores(windows, autoencoder.predict(model, windows))
        smoothed.append(detector.smoothed(raw))
    quantile = np.quantile(np.concatenate(smoothed), THRESHOLD_QUANTILE)
    return float(f"{THRESHOLD_FACTOR * quantile:.3g}")


def write_baseline(path: Path, rows: list[pump_rig.Row]) -> None:
    """The channels of held-out normal rows, in the rig's units."""
    lines = [",".join(pump_rig.CHANNELS)]
    lines += [row.csv().split(",", 1)[1].rsplit(",", 1)[0] for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def bundle_spec(version: Version, norm: Normalisation, threshold: float) -> str:
    """The specification that `drover bundle build` reads."""
    channels = "\n".join(
        f'[[input.channels]]\nname = "{name}"\nunit = "{unit}"'
        for name, unit in zip(pump_rig.CHANNELS, pump_rig.UNITS, strict=True)
    )
    components = "\n".join(
        f'[[component]]\nname = "{name}"\nversion = "{made_with}"\n'
        f'purl = "pkg:pypi/{name}@{made_with}"'
        for name in COMPONENTS
        for made_with in [importlib.metadata.version(name)]
    )
    return f"""\
# Written by train.py. Paths are relative to this file.
[bundle]
name = "pump-anomaly"
version = "{version.version}"
counter = {version.counter}
description = "{version.description}"

[model]
file = "{version.model}"

[requires]
memory_bytes = 16_000_000

[input]
tensor = "{autoencoder.INPUT}"
window = {{ rows = {detector.WINDOW_ROWS}, stride = 1 }}

{channels}

[input.normalisation]
kind = "z-score"
mean = {list(norm.mean)}
std = {list(norm.std)}
clip = {detector.CLIP}

[output]
tensor = "{autoencoder.OUTPUT}"
scoring = {{ kind = "reconstruction-mse" }}
decision = {{ kind = "threshold", threshold = {threshold}, \
median_of = {detector.MEDIAN_OF} }}

[golden]
inputs = "golden_in.npy"
outputs = "{version.golden}"
tolerance = {{ kind = "range", fraction = {GOLDEN_TOLERANCE} }}

[baseline]
csv = "baseline.csv"
bins = {figures.BINS}

[lineage]
training_run = "train.py, seed {version.seed}"
data_version = "pump_rig.py, seeds {TRAINING_SEED} to {TRAINING_SEED + version.runs - 1}"

{components}
"""


def compare(committed: Path, fresh: Path) -> list[str]:
    """What differs between two builds beyond what rounding explains."""
    problems = []
    for made in sorted(fresh.iterdir()):
        name = made.name
        kept = committed / name
        if not kept.is_file():
            problems.append(f"{name}: missing")
        elif kept.read_bytes() == made.read_bytes():
            say(f"{name}: equal")
        elif alike(kept, made, committed / "golden_in.npy"):
            say(f"{name}: other bytes, same answers")
        else:
            problems.append(f"{name}: differs from what train.py makes")
    for version in VERSIONS:
        if not answers_hold(committed, version):
            problems.append(
                f"{version.model}: does not answer {version.golden} "
                f"within {GOLDEN_TOLERANCE:.0%} of its range"
            )
    return problems


def alike(kept: Path, made: Path, golden: Path) -> bool:
    """Whether two unequal files mean the same."""
    match kept.suffix:
        case ".npy":
            return close(np.load(kept), np.load(made))
        case ".onnx":
            windows = np.load(golden)
            answers = [
                autoencoder.predict(path.read_bytes(), windows) for path in (kept, made)
            ]
            return close(answers[0], answers[1])
        case ".toml":
            return same_spec(
                tomllib.loads(kept.read_text()), tomllib.loads(made.read_text())
            )
        case ".json":
            return near(json.loads(kept.read_text()), json.loads(made.read_text()))
        case _:
            return False


def close(left: autoencoder.Array, right: autoencoder.Array) -> bool:
    """Root mean square difference within the golden tolerance."""
    if left.shape != right.shape:
        return False
    gap = float(np.sqrt(np.mean((left - right) ** 2)))
    return gap <= GOLDEN_TOLERANCE * float(np.ptp(left))


def same_spec(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Equal specifications, but for a threshold that moved with the training."""
    thresholds = [spec["output"]["decision"].pop("threshold") for spec in (left, right)]
    return left == right and near(*thresholds)


def near(left: object, right: object) -> bool:
    """Equal structure, with numbers within 20 % or 0.05 of each other."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            near(left[key], right[key]) for key in left
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(near, left, right))
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right) <= max(0.05, 0.2 * abs(left))
    return left == right


def answers_hold(folder: Path, version: Version) -> bool:
    """Whether a committed model answers its own golden vectors."""
    model = folder / version.model
    outputs = folder / version.golden
    if not (model.is_file() and outputs.is_file()):
        return False
    expected = np.load(outputs)
    answers = autoencoder.predict(model.read_bytes(), np.load(folder / "golden_in.npy"))
    gap = float(np.max(np.abs(expected - answers)))
    return gap <= GOLDEN_TOLERANCE * float(np.ptp(expected))


def readme_with(table: str) -> str:
    """README.md with its figures replaced by `table`."""
    head, begin, rest = README.read_text(encoding="utf-8").partition(TABLE_BEGIN)
    _, end, tail = rest.partition(TABLE_END)
    if not (begin and end):
        raise SystemExit(f"{README}: the lines around the figures are missing")
    return head + begin + table + end + tail


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line; returns the exit code (1: `--check` found differences)."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="compare a new build with pump/"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write there, leave README.md alone"
    )
    args = parser.parse_args()
    if args.check and args.out is not None:
        parser.error("--check writes nothing; leave out --out")
    # Root logger: the quantiser advises a pre-processing that this graph, made
    # of Gemm and Relu with fixed shapes, has no use for.
    logging.getLogger().setLevel(logging.ERROR)
    threadpool_limits(2)

    if args.check:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
            problems = compare(PUMP, Path(folder))
        kept = json.loads((PUMP / "figures.json").read_text(encoding="ascii"))
        if readme_with(figures.table(kept)) != README.read_text(encoding="utf-8"):
            problems.append("README.md: its figures are not those of pump/figures.json")
        for problem in problems:
            print(problem)
        print(
            f"{len(problems)} differences; run train.py to renew pump/"
            if problems
            else "pump/ is what train.py makes"
        )
        return 1 if problems else 0

    out = args.out or PUMP
    out.mkdir(parents=True, exist_ok=True)
    build(out)
    table = figures.table(
        json.loads((out / "figures.json").read_text(encoding="ascii"))
    )
    if args.out is None:
        README.write_text(readme_with(table), encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
