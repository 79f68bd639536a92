"""What data are like once they are split: rows, the balance of classes, what the subset lacks.

`task.py` says it in `hpogen check` and when a study begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpogen.errors import shortened
from hpogen.training.data.data import Data, Samples
from hpogen.training.data.parts import splits_of
from hpogen.training.data.splits import Indices
from hpogen.training.forms.dataset import Dataset

SHOWN = 8  # classes, at most


def summary(dataset: Dataset, data: Data) -> list[str]:
    """The rows of each split, and the classes of the subset."""
    sides = _sides(dataset, data)
    counts = ", ".join(f"{name} {len(rows):,}" for name, (_, rows) in sides.items())
    lines = [f"{len(data.train):,} rows, {len(data.test):,} of a test set: {counts}"]
    if dataset.parts.number > 1:
        lines.append(_parts(dataset, len(data.train)))
    if data.target.classed:
        labels = data.train.targets[sides["subset"][1]]
        shares = np.bincount(labels, minlength=data.classes) / len(labels)
        names = data.class_names or tuple(map(str, range(data.classes)))
        pairs = zip(names[:SHOWN], shares, strict=False)
        more = ", …" if len(names) > SHOWN else ""
        told = ", ".join(f"{shortened(name, 40)} {100 * share:.1f} %" for name, share in pairs)
        lines.append(f"classes of the subset: {told}{more}")
    return lines


def _parts(dataset: Dataset, total: int) -> str:
    number, word = dataset.parts
    if dataset.folds:
        text = f"each row of the subset validates once, {dataset.trained(total):,} or more train"
        return f"{number} folds of the subset: {text}"
    return f"{number} {word}s: subset and validation are drawn anew for each, audit stays"


def unknown(dataset: Dataset, data: Data) -> list[str]:
    """Of each column the rows whose category the subset lacks.

    Of several trainings the most; of folds all the rows that the training on the others lacks.
    """
    if data.table is None or not data.table.categories:
        return []
    trainings = [
        {side: _codes(*chosen) for side, chosen in _sides(dataset, data, part).items()}
        for part in dataset.parts.each
    ]
    lines = (
        _lacking(
            name, [{side: x[:, i] for side, x in codes.items()} for codes in trainings], dataset
        )
        for i, name in enumerate(data.table.categories)
    )
    return [line for line in lines if line]


def _lacking(name: str, trainings: Sequence[Mapping[str, Indices]], dataset: Dataset) -> str:
    counts = {
        side: [int((~np.isin(codes[side], codes["subset"])).sum()) for codes in trainings]
        for side in ("validation", "audit")
    }
    validation = sum(counts["validation"]) if dataset.folds else max(counts["validation"])
    both = {"validation": validation, "audit": max(counts["audit"])}
    told = " and ".join(f"{count:,} of {side}" for side, count in both.items() if count)
    if not told:
        return ""
    return f"column {name!r}: of the rows, {told} have categories that the subset lacks: unknown"


def _codes(samples: Samples, rows: Indices) -> Indices:
    inputs: Any = samples.inputs
    found: Indices = inputs["categories"][rows]
    return found


def _sides(
    dataset: Dataset, data: Data, part: int | None = None
) -> dict[str, tuple[Samples, Indices]]:
    found = splits_of(dataset, data.strata, data.division, part)
    validation = found.outside if dataset.redraws else found.validation
    sides = {"subset": (data.train, found.subset), "validation": (data.train, validation)}
    if isinstance(dataset.audit, str):
        return {**sides, "audit": (data.test, np.arange(len(data.test)))}
    return {**sides, "audit": (data.train, found.audit)}
