"""What a sample's target may be: the kinds of targets, a row each, without torch.

A data set says which kind its targets are; what they are checked for, trained by and judged by
follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpogen.errors import UserError, quoted, unknown

KindName = Literal["classes", "binary", "labels", "real", "positions"]
UNLABELLED = -100  # a position that no loss and no metric counts


@dataclass(frozen=True)
class Kind:
    """One kind of target, of N samples.

    `losses` are those of hpogen's own that fit it, the default first; `error` is the metric that
    the audit's error comes from. `classed`: each sample has one class, so that splits are
    stratified and classes have names and may be drawn wrong. `smooths`: label smoothing applies.
    `entropy`: the default loss is the cross-entropy, for which measures have closed forms.
    """

    name: KindName
    text: str
    dtype: str  # as the training reads it
    dimensions: int
    losses: tuple[str, ...]
    error: str
    classed: bool = False
    smooths: bool = False
    entropy: bool = False

    def classes(self, outputs: int) -> int:
        """How many classes a sample may be of, for a model of so many outputs; 1: no classes."""
        return (outputs if self.name == "classes" else 2) if self.classed else 1

    def outputs(self, targets: NDArray[Any]) -> int:
        """How many a model has that is trained on these targets."""
        if self.name in ("classes", "positions"):
            return int(targets.max(initial=0)) + 1
        return 1 if self.classed else int(targets.shape[-1])

    def strata(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """What splits keep the proportions of, (N,): the classes, or nothing."""
        return targets if self.classed else np.zeros(len(targets), np.int64)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "classes",
            "the classes' numbers from 0 on, int64 (N,)",
            "int64",
            1,
            ("cross_entropy",),
            "accuracy",
            classed=True,
            smooths=True,
            entropy=True,
        ),
        Kind(
            "binary",
            "0 or 1, int64 (N,), for a model of one logit",
            "int64",
            1,
            ("bce",),
            "accuracy",
            classed=True,
            entropy=True,
        ),
        Kind("labels", "several labels of 0 or 1, (N, L)", "float32", 2, ("bce",), "accuracy"),
        Kind(
            "real",
            "real numbers, float32 (N, K)",
            "float32",
            2,
            ("mse", "mae", "huber"),
            "rmse",
        ),
        Kind(
            "positions",
            f"a class for each position of a sequence, int64 (N, T), {UNLABELLED} for none",
            "int64",
            2,
            ("cross_entropy",),
            "accuracy",
            entropy=True,
        ),
    )
}


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises UserError with the nearest one."""
    if name not in KINDS:
        raise UserError(f"targets: {unknown('', name, KINDS)}")
    return KINDS[name]


def kind_for(targets: NDArray[Any]) -> KindName:
    """The kind that targets of this type and shape are likeliest of."""
    if targets.dtype.kind == "f":
        return "real"
    return "labels" if targets.ndim == 2 and targets.shape[1] > 1 else "classes"


def as_targets(kind: Kind, given: NDArray[Any], where: str) -> NDArray[Any]:
    """Targets as the training reads them. Raises UserError, naming `where` they are.

    Those of another type are refused rather than cast: integers are no real numbers here, and real
    numbers no classes. One real number for each sample, (N,), becomes (N, 1), and
    one class, (N, 1), becomes (N,).
    """
    shape = given.shape
    real, numbers = kind.name == "real", given.dtype.kind in "biuf"
    if real and given.ndim == 1:
        given = given[:, None]
    elif kind.classed and given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    fits = given.dtype.kind == "f" if real else given.dtype.kind in "biu"
    if not numbers or not fits or given.ndim != kind.dimensions:
        mend = "convert them, or say another kind of target" if numbers else "convert them"
        raise UserError(
            f"{where} are {given.dtype} {shape}, and targets of the kind {kind.name!r} are "
            f"{kind.text}: {mend} ({', '.join(KINDS)})"
        )
    if real and not np.isfinite(given).all():
        row = int((~np.isfinite(given)).any(1).argmax())
        raise UserError(
            f"{where}: the target of row {row} is {quoted(float(given[row].sum()))}, expected a "
            "number: leave the row out, or fill it in"
        )
    if not real and given.dtype.kind == "u" and given.size and given.max() >= 2**63:
        raise UserError(f"{where}: got {given.max()}, expected {kind.text}")
    return np.ascontiguousarray(given, dtype=kind.dtype)


def check_values(kind: Kind, targets: NDArray[Any], outputs: int, where: str) -> None:
    """What targets of another kind would show. Raises UserError, naming the row."""
    if kind.name == "real" or not targets.size:
        return
    most, wrong = outputs if kind.name in ("classes", "positions") else 2, targets < 0
    if kind.name == "positions":
        _check_labelled(targets, where)
        wrong &= targets != UNLABELLED
    wrong |= targets >= most
    if wrong.any():
        row = int(wrong.reshape(len(targets), -1).any(1).argmax())
        value = int(targets[row][wrong[row]].ravel()[0])
        other = f", or {UNLABELLED}" if kind.name == "positions" else ""
        raise UserError(
            f"{where}: row {row} has {value}, expected whole numbers in [0, {most}){other}"
        )


def _check_labelled(targets: NDArray[np.int64], where: str) -> None:
    without = (targets == UNLABELLED).all(1)
    if without.any():
        raise UserError(
            f"{where}: row {int(without.argmax())} has no labelled position, only {UNLABELLED}: "
            "leave the row out"
        )


def check_classes(kind: Kind, targets: NDArray[Any], expected: int, where: str) -> None:
    """Raise UserError where training targets have one class alone, or a class has one row.

    Or none of it, where so many classes are expected (0: nobody knows).
    """
    if kind.name == "positions":
        targets = targets[targets != UNLABELLED]
    elif not kind.classed:
        return
    found, counts = np.unique(targets, return_counts=True)
    if len(found) < 2:
        raise UserError(f"{where} are all of class {int(found[0])}: expected two classes or more")
    if kind.name == "classes" and len(found) < expected:
        absent = int(np.argmax(found != np.arange(len(found))))
        raise UserError(f"{where}: there is no row of class {absent} of 0 to {expected - 1}")
    if kind.classed and (counts < 2).any():
        lonely = int(found[counts < 2][0])
        raise UserError(
            f"{where}: class {lonely} has one row, row {int((targets == lonely).argmax())}: "
            "expected two or more, to train on and to judge by: leave it out, or join classes"
        )
