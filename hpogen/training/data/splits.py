"""Which images are subset, validation and audit, and which labels are wrong: numbers, no images.

All of it is drawn from the raw 64-bit stream of PCG64, which numpy promises not to change;
`prepared.py` applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def splits(dataset: Dataset, labels: Indices) -> Splits:
    """Subset, validation and audit of a training set with these labels, by `dataset.seed`.

    One stratified order serves all: the subset is its head, validation its tail, audit what comes
    before that. So each split has the classes' proportions to within about an image, and a smaller
    subset or validation set is contained in a larger one. A balanced subset takes the first images
    of each class in that order; validation and audit are the same as without. Raises ValueError
    when a class has too few images for it.
    """
    subset, validation, audit = dataset.counts(len(labels))
    order = stratified_order(labels, dataset.seed)
    end = len(labels) - validation
    held_out, kept = order[end - audit : end], order[:subset]
    if dataset.balanced:
        kept = _balanced(order[: end - audit], labels, subset)
    outside = np.ones(len(labels), bool)
    outside[kept] = outside[held_out] = False
    return Splits(np.sort(kept), np.sort(order[end:]), np.sort(held_out), np.flatnonzero(outside))


def part(dataset: Dataset, labels: Indices, data: float) -> Indices:
    """The images of another fraction of the training set than `subset`, rising.

    It is contained in a larger one's and contains a smaller one's, the subset's among them: all of
    them are heads of the same order. That of 1, all but validation and audit, is never balanced.
    Raises ValueError as `Dataset.samples` and `splits` do.
    """
    _, validation, audit = dataset.counts(len(labels))
    order = stratified_order(labels, dataset.seed)[: len(labels) - validation - audit]
    count = dataset.samples(len(labels), data)
    balanced = dataset.balanced and count < len(order)
    return np.sort(_balanced(order, labels, count) if balanced else order[:count])


def _balanced(order: Indices, labels: Indices, count: int) -> Indices:
    """The first images of each class in `order`; the lowest classes have what is left over."""
    classes = int(labels.max()) + 1
    whole, rest = divmod(count, classes)
    chosen = []
    for label in range(classes):
        wanted = whole + (label < rest)
        members = order[labels[order] == label][:wanted]
        if len(members) < wanted:
            raise ValueError(
                f"a balanced subset of {count} images needs {wanted} of each class, and class "
                f"{label} has {len(members)} beside validation and audit: take less of them"
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
