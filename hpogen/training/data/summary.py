"""What data are like once they are split: rows, the balance of classes, what the subset lacks.

`task.py` says it in `hpogen check` and when a study begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpogen.errors import shortened
from hpogen.training.data.data import Data, Samples
from hpogen.training.data.splits import Indices, splits
from hpogen.training.forms.dataset import Dataset

SHOWN = 8  # classes, at most


def summary(dataset: Dataset, data: Data) -> list[str]:
    """The rows of each split, and the classes of the subset."""
    sides = _sides(dataset, data)
    counts = ", ".join(f"{name} {len(rows):,}" for name, (_, rows) in sides.items())
    lines = [f"{len(data.train):,} rows, {len(data.test):,} of a test set: {counts}"]
    if data.target.classed:
        labels = data.train.targets[sides["subset"][1]]
        shares = np.bincount(labels, minlength=data.classes) / len(labels)
        names = data.class_names or tuple(map(str, range(data.classes)))
        pairs = zip(names[:SHOWN], shares, strict=False)
        more = ", …" if len(names) > SHOWN else ""
        told = ", ".join(f"{shortened(name, 40)} {100 * share:.1f} %" for name, share in pairs)
        lines.append(f"classes of the subset: {told}{more}")
    return lines


def unknown(dataset: Dataset, data: Data) -> list[str]:
    """Of each column the rows whose category the subset lacks."""
    if data.table is None or not data.table.categories:
        return []
    sides = _sides(dataset, data)
    subset = _codes(*sides.pop("subset"))
    return [
        line
        for i, name in enumerate(data.table.categories)
        if (line := _lacking(name, subset[:, i], {n: _codes(*s)[:, i] for n, s in sides.items()}))
    ]


def _lacking(name: str, subset: Indices, others: Mapping[str, Indices]) -> str:
    counts = {side: int((~np.isin(codes, subset)).sum()) for side, codes in others.items()}
    if not any(counts.values()):
        return ""
    told = " and ".join(f"{count:,} of {side}" for side, count in counts.items() if count)
    return f"column {name!r}: of the rows, {told} have categories that the subset lacks: unknown"


def _codes(samples: Samples, rows: Indices) -> Indices:
    inputs: Any = samples.inputs
    found: Indices = inputs["categories"][rows]
    return found


def _sides(dataset: Dataset, data: Data) -> dict[str, tuple[Samples, Indices]]:
    found = splits(dataset, data.strata, data.division)
    validation = found.outside if dataset.redraws else found.validation
    sides = {"subset": (data.train, found.subset), "validation": (data.train, validation)}
    if isinstance(dataset.audit, str):
        return {**sides, "audit": (data.test, np.arange(len(data.test)))}
    return {**sides, "audit": (data.train, found.audit)}
