"""Which images are subset, validation and audit, and which labels are wrong: numbers, no images.

All of it is drawn from the raw 64-bit stream of PCG64, which numpy promises not to change;
`prepared.py` applies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpogen.training.forms.dataset import Dataset

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """Indices into the standard training set: rising, and no two splits share one.

    `outside` are all images in neither subset nor audit, those of validation among them.
    """

    subset: Indices
    validation: Indices
    audit: Indices
    outside: Indices


@dataclass(frozen=True)
class Division:
    """What splits of a training set go by: the group of each row, or its place in time."""

    by: Literal["group", "time"]
    column: str  # that it comes from
    places: Indices  # (N,): the groups' numbers from 0 on; of times, later ones are larger


def splits(dataset: Dataset, labels: Indices, division: Division | None = None) -> Splits:
    """Subset, validation and audit of a training set with these labels, by `dataset.seed`.

    One stratified order serves all: the subset is its head, validation its tail, audit what comes
    before that. So each split has the classes' proportions to within about an image, and a smaller
    subset or validation set is contained in a larger one. A balanced subset takes the first images
    of each class in that order; validation and audit are the same as without. By time, the last
    rows are audit, those before them validation, and the order is one of the rows before both. By
    group, it is one of groups, of which validation and audit have whole ones, and so fewer rows
    than asked for, or audit a few more. Raises ValueError when a class has too few images for it,
    or no group fits.
    """
    subset, validation, audit = dataset.counts(len(labels))
    order = _order(dataset, labels, division)
    end = len(labels) - validation
    judging, held_out, kept = order[end:], order[end - audit : end], order[:subset]
    if division is not None and division.by == "group":
        judging = whole_groups(order[end:], division, "validation")
        held_out = order[end - audit : len(order) - len(judging)] if audit else held_out
        held_out = whole_groups(held_out, division, "audit")
    if dataset.balanced:
        kept = evenly(dataset, order[: end - audit], labels, subset)
    outside = np.ones(len(labels), bool)
    outside[kept] = outside[held_out] = False
    return Splits(np.sort(kept), np.sort(judging), np.sort(held_out), np.flatnonzero(outside))


def _order(dataset: Dataset, labels: Indices, division: Division | None) -> Indices:
    """The order whose head the subset is, and whose tail validation, behind audit."""
    if division is None or division.by == "group":
        return shuffled(labels, division, dataset.seed)
    _, validation, audit = dataset.counts(len(labels))
    past, judging, last = np.split(
        np.argsort(division.places, kind="stable"),
        [len(labels) - validation - audit, len(labels) - audit],
    )
    return np.concatenate([past[stratified_order(labels[past], dataset.seed)], last, judging])


def shuffled(labels: Indices, division: Division | None, seed: int) -> Indices:
    """A random order, stratified; or of groups, the rows of each beside each other."""
    if division is None:
        return stratified_order(labels, seed)
    raw = np.random.PCG64(seed).random_raw
    rank = np.argsort(np.argsort(raw(int(division.places.max()) + 1), kind="stable"))
    return np.lexsort((raw(len(labels)), rank[division.places]))


def whole_groups(rows: Indices, division: Division, what: str) -> Indices:
    """Those of the rows that stand there with all of their group."""
    groups = division.places
    sizes = np.bincount(groups)
    whole = np.bincount(groups[rows], minlength=len(sizes)) == sizes
    found: Indices = rows[whole[groups[rows]]]
    if len(rows) and not len(found):
        raise ValueError(
            f"no whole group of the column {division.column!r} is among the {len(rows)} rows for "
            f"{what}: there are {len(sizes)} groups, of up to {sizes.max()} rows: give "
            f"{what} more rows, or leave group out"
        )
    return found


def part(
    dataset: Dataset, labels: Indices, data: float, division: Division | None = None
) -> Indices:
    """The images of another fraction of the training set than `subset`, rising.

    It is contained in a larger one's and contains a smaller one's, the subset's among them: all of
    them are heads of the same order. That of 1, all but validation and audit, is never balanced.
    Raises ValueError as `Dataset.samples` and `splits` do.
    """
    _, validation, audit = dataset.counts(len(labels))
    order = _order(dataset, labels, division)[: len(labels) - validation - audit]
    count = dataset.samples(len(labels), data)
    balanced = dataset.balanced and count < len(order)
    return np.sort(evenly(dataset, order, labels, count) if balanced else order[:count])


def evenly(dataset: Dataset, order: Indices, labels: Indices, count: int) -> Indices:
    """The first samples of each class in `order`; the lowest classes have what is left over."""
    classes = int(labels.max()) + 1
    whole, rest = divmod(count, classes)
    chosen = []
    for label in range(classes):
        wanted = whole + (label < rest)
        members = order[labels[order] == label][:wanted]
        if len(members) < wanted:
            raise ValueError(
                f"a balanced subset of {count} {dataset.noun} needs {wanted} of each class, and "
                f"class {label} has {len(members)} beside validation and audit: take less of them"
            )
        chosen.append(members)
    return np.concatenate(chosen)


def stratified_order(labels: Indices, seed: int) -> Indices:
    """A random order whose every stretch has the classes' proportions.

    The j-th of the n images of a class stands at (j + ½)/n.
    """
    random = np.random.PCG64(seed).random_raw(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shuffled = members[np.argsort(random[members], kind="stable")]
        place[shuffled] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((random, place))


def redrawn(labels: Indices, counts: Indices, seed: int) -> Indices:
    """Places in `labels` (N,), rising: `counts[k]` of those with label k, drawn by the seed."""
    random = np.random.PCG64(seed).random_raw(len(labels))
    chosen = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(random[members], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))


def wrong_labels(
    rows: Indices, fraction: float, classes: int, seed: int
) -> tuple[Indices, Indices]:
    """Which of the images `rows` get another label, as places in it, and which label each gets.

    They are round(fraction · n) of n, and the label is any class with equal chances, the right one
    included (Zhang et al. 2017, "Understanding deep learning requires rethinking generalization").
    An image's turn and label depend on the seed and its own number alone: a larger fraction
    changes those of a smaller one in the same way, and so does another subset.
    """
    random = np.random.PCG64(seed).random_raw(2 * (int(rows.max()) + 1)).reshape(-1, 2)[rows]
    count = round(fraction * len(rows))
    chosen = np.sort(np.argsort(random[:, 0], kind="stable")[:count])
    return chosen, (random[chosen, 1] % np.uint64(classes)).astype(np.int64)
