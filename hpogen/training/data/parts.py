"""The splits of one of the trainings that a trial is, where it is cross-validated or repeated.

Made of the splits of `splits.py`, whose audit is that of all of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hpogen.training.data.splits import (
    Division,
    Indices,
    Splits,
    evenly,
    shuffled,
    splits,
    whole_groups,
)
from hpogen.training.forms.dataset import Dataset
from hpogen.trial import derive_seed


def splits_of(
    dataset: Dataset, labels: Indices, division: Division | None = None, part: int | None = None
) -> Splits:
    """The splits of training `part` of a trial; None: those of a trial that is one training.

    Folds are stretches of a stratified order of the subset, so that each has the classes'
    proportions to within about a row; by group, each has the groups whose middle is in its stretch.
    Fold f is the validation of training f, the others are its subset. Repeat 0 has the splits as
    they are without repeats; repeat j draws subset and validation from all rows but audit, in
    another order. Raises ValueError where folds cannot be made, and as `splits` does.
    """
    whole = splits(dataset, labels, division)
    if part is None:
        return whole
    if division is not None and division.by == "time":
        raise ValueError(
            f"validation.{dataset.parts.word}s: the rows of {dataset.name!r} are divided by time, "
            "and later ones than those that judge would train: give validation a number"
        )
    if dataset.folds:
        return _fold(dataset, labels, division, whole, part)
    return _repeat(dataset, labels, division, whole, part) if part else whole


def _fold(
    dataset: Dataset, labels: Indices, division: Division | None, whole: Splits, part: int
) -> Splits:
    rows, inner = whole.subset, _within(division, whole.subset)
    order = shuffled(labels[rows], inner, derive_seed(dataset.seed, "folds"))
    rows = rows[order]
    if inner is None:
        _check_classes(dataset, labels[rows])
        number = np.arange(len(rows)) * dataset.folds // len(rows)
    else:
        number = _by_group(dataset, replace(inner, places=inner.places[order]))
    judging = number == part
    outside = np.union1d(whole.outside, rows[judging])
    return Splits(np.sort(rows[~judging]), np.sort(rows[judging]), whole.audit, outside)


def _check_classes(dataset: Dataset, labels: Indices) -> None:
    counts = np.bincount(labels)
    there = np.flatnonzero(counts)
    least = int(there[counts[there].argmin()])
    if counts[least] < dataset.folds:
        what = f"class {least}" if len(there) > 1 else "the subset"
        raise ValueError(
            f"validation.folds: got {dataset.folds} folds, and {what} of the data set "
            f"{dataset.name!r} has {counts[least]} rows to be divided: expected one for each fold: "
            "take fewer folds, or a larger subset"
        )


def _by_group(dataset: Dataset, division: Division) -> Indices:
    """The fold of each row, the rows of a group standing beside each other."""
    groups, places, sizes = np.unique(division.places, return_inverse=True, return_counts=True)
    first = np.zeros(len(groups), np.int64)
    first[places[::-1]] = np.arange(len(places))[::-1]  # the last that is written is the lowest
    middle = 2 * first + sizes
    number = (middle * dataset.folds // (2 * len(places)))[places]
    empty = sorted({*range(dataset.folds)} - {*number.tolist()})
    if empty:
        raise ValueError(
            f"validation.folds: no whole group of the column {division.column!r} is left for fold "
            f"{empty[0]} of {dataset.folds}: the subset has {len(groups)} groups, of up to "
            f"{sizes.max()} rows: take fewer folds, or leave group out"
        )
    return number


def _repeat(
    dataset: Dataset, labels: Indices, division: Division | None, whole: Splits, part: int
) -> Splits:
    subset, validation, _ = dataset.counts(len(labels))
    rows = np.setdiff1d(np.arange(len(labels)), whole.audit)
    seed = derive_seed(dataset.seed, "repeat", part)
    rows = rows[shuffled(labels[rows], _within(division, rows), seed)]
    rest, judging = rows[:-validation], rows[-validation:]
    if division is not None:
        judging = whole_groups(judging, division, "validation")
    kept = evenly(dataset, rest, labels, subset) if dataset.balanced else rest[:subset]
    outside = np.setdiff1d(rows, kept)
    return Splits(np.sort(kept), np.sort(judging), whole.audit, outside)


def _within(division: Division | None, rows: Indices) -> Division | None:
    """That of those rows."""
    return None if division is None else replace(division, places=division.places[rows])
