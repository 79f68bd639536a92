"""What is known of inputs that are token ids, and what such inputs are checked for; without torch.

A data set says it beside its inputs, and the models of token ids are built for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpogen.errors import UserError
from hpogen.training.forms.kinds import UNLABELLED


@dataclass(frozen=True)
class Tokens:
    """Inputs are ids of tokens, int64 (N, T), from 0 to `vocabulary` − 1.

    Places with the id `padding` hold no token; None: there is none such.
    """

    vocabulary: int
    padding: int | None = None


def check_ids(tokens: Tokens, ids: Any, where: str, rows: NDArray[np.int64] | None = None) -> None:
    """Raise UserError, naming the row, for inputs that are not token ids of that vocabulary.

    `rows` are their numbers, where they are not all that there are.
    """
    if not 0 <= (tokens.padding or 0) < tokens.vocabulary:
        raise UserError(
            f"{where}: padding is {tokens.padding}, expected an id in [0, {tokens.vocabulary})"
        )
    if isinstance(ids, Mapping) or ids.dtype != np.int64 or len(ids.shape) != 2:
        got = "named arrays" if isinstance(ids, Mapping) else f"{ids.dtype} {ids.shape}"
        raise UserError(f"{where} inputs are {got}, expected token ids, integers (N, T)")
    rows = np.arange(len(ids)) if rows is None else rows
    wrong = (ids < 0) | (ids >= tokens.vocabulary)
    if wrong.any():
        row, place = map(int, np.argwhere(wrong)[0])
        raise UserError(
            f"{where}: row {rows[row]}, position {place} is {ids[row, place]}, expected token ids "
            f"in [0, {tokens.vocabulary}): the vocabulary has {tokens.vocabulary}"
        )
    empty = (ids == tokens.padding).all(1) if tokens.padding is not None else np.zeros(0, bool)
    if empty.any():
        raise UserError(
            f"{where}: row {rows[empty.argmax()]} has no token, only padding ({tokens.padding}): "
            "leave it out"
        )


def check_places(
    tokens: Tokens, ids: NDArray[np.int64], targets: NDArray[np.int64], where: str
) -> None:
    """Raise UserError unless there is a target for each place, and none for padding."""
    if ids.shape != targets.shape:
        raise UserError(
            f"{where}: targets are {targets.shape} for token ids {ids.shape}, expected one for "
            "each position"
        )
    wrong = (ids == tokens.padding) & (targets != UNLABELLED)
    if wrong.any():
        row, place = map(int, np.argwhere(wrong)[0])
        raise UserError(
            f"{where}: row {row}, position {place} is padding and has the target "
            f"{targets[row, place]}, expected {UNLABELLED}"
        )
