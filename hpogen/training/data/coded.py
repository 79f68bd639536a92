"""The rows of another table than the training's, as a network takes them: by the columns' names.

`given.py` asks; `columns.py` reads the columns as it did for the training.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hpogen.errors import UserError, quoted, shortened, text_of
from hpogen.training.data import table
from hpogen.training.data.columns import Column
from hpogen.training.data.data import Table

log = logging.getLogger(__name__)

UNKNOWN = -1  # the number of a category that the training's table has not
SHOWN = 8  # columns in a message


def rows(given: Any, known: Table, where: str) -> Any:
    """The inputs of a file's rows, or of a table's: a tensor, or a mapping as `Table.raw` has it.

    Columns stand in any order. Others are left out, and a warning names them. Raises UserError,
    beginning with `where` it is, for a column that is lacking or holds what it should not.
    """
    found = _table(given, known, where)
    names = (*known.numbers, *known.categories)
    parts = table.named(found, where, names)
    others = [name for name in found.column_names if name not in names]
    if others:
        shown = ", ".join(quoted(name) for name in others[:SHOWN]) + ", …" * (len(others) > SHOWN)
        log.warning("%s: the network does not take %s: left out", where, shown)
    numbers = np.empty((len(found), len(known.numbers)), np.float32)
    for i, name in enumerate(known.numbers):
        numbers[:, i] = _numbers(parts[name])
    codes = np.empty((len(found), len(known.categories)), np.int64)
    for i, (name, texts) in enumerate(known.categories.items()):
        codes[:, i] = _codes(parts[name], texts)
    (inputs,) = table.arranged([numbers], [codes])
    if isinstance(inputs, Mapping):
        return {name: torch.from_numpy(part) for name, part in inputs.items()}
    return torch.from_numpy(inputs)


def _table(given: Any, known: Table, where: str) -> Any:
    if isinstance(given, str | Path):
        return table.read(Path(given).expanduser(), known.separator)
    try:
        return pa.table(given)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{where} is none: {shortened(text_of(error))}") from error


def _numbers(column: Column) -> NDArray[np.float32]:
    if column.values.null_count == len(column.values):
        return np.full(len(column.values), np.nan, np.float32)
    return column.floats()


def _codes(column: Column, texts: tuple[str, ...]) -> NDArray[np.int64]:
    """(N,): each text's place among those of the training's table."""
    places = {text: place for place, text in enumerate(texts)}
    try:
        given = column.texts().to_pylist()
    except pa.ArrowException as error:  # what is no text, or not in UTF-8
        raise UserError(f"{column.where}: holds {column.type}, expected text") from error
    return np.array([places.get(text, UNKNOWN) for text in given], np.int64)
