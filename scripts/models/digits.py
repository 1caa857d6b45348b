#!/usr/bin/env python3
"""Answers of onnxruntime to the held-out digits, for the compiler's accuracy test.

The split is the one that the digits models were trained with: scikit-learn's digits divided
by 16, `train_test_split(test_size=500, random_state=7, stratify=target)`. Writes `rows.npy`
f32 [500, 1, 8, 8], `labels.npy` i64 [500], and `MODEL.answers.npy` i64 [500] for every
`digits_*.onnx`. Usage: digits.py FOLDER MODELS. Needs onnxruntime and scikit-learn.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import onnxruntime as ort
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 500
SEED = 7


def main() -> None:
    folder, models = map(pathlib.Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    _, rows, _, labels = train_test_split(
        digits.images, digits.target, test_size=HELD_OUT, random_state=SEED, stratify=digits.target
    )
    rows = np.ascontiguousarray((rows / 16).astype(np.float32)[:, np.newaxis])
    np.save(folder / "rows.npy", rows)
    np.save(folder / "labels.npy", labels.astype(np.int64))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    for path in sorted(models.glob("digits_*.onnx")):
        session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        answers = [session.run(None, {name: row[np.newaxis]})[0].argmax() for row in rows]
        np.save(folder / f"{path.stem}.answers.npy", np.array(answers, np.int64))
        print(f"{path.stem}: {np.mean(np.array(answers) == labels):.1%}")


if __name__ == "__main__":
    main()
