"""What `hpogen predict` is given besides images: tables, lines of text, and .npz archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from hpogen.answer.ensemble import EnsemblePredictor
from hpogen.errors import UserError, explained, quoted
from hpogen.training.data.fitted import X
from hpogen.training.data.numpy import read_inputs
from hpogen.training.predictor import Predictor, part_of
from hpogen.training.weights import DataHeader

ARCHIVE = ".npz"

Net = Predictor | EnsemblePredictor
Row = tuple[str, str]
"""A file, and the row's number in it."""


@dataclass(frozen=True)
class Source:
    """Rows, and what gives the inputs of a stretch of them."""

    rows: list[Row]
    take: Callable[[slice], X]


def numbered(path: Path, count: int, first: int = 0) -> list[Row]:
    return [(str(path), str(row)) for row in range(first, first + count)]


def source(net: Net, path: Path) -> Source:
    """The rows of a file. Raises UserError, naming it, for what the network does not take."""
    header, first = cast(DataHeader, net.header), 0
    with explained(path, UserError, "read"):
        if not path.is_file():
            reason = "is a folder, expected a file" if path.is_dir() else "there is no such file"
            raise UserError(f"{path}: {reason}")
    archive = path.suffix.lower() == ARCHIVE
    if header.table is not None or (header.lines and not archive):
        inputs, first = net.encoded(path), 1
    elif archive:
        inputs = _arrays(header, path)
    else:
        raise UserError(f"{path}: the network was trained on arrays: expected an .npz file of them")
    try:
        net.check(inputs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    count = len(next(iter(inputs.values()))) if isinstance(inputs, Mapping) else len(inputs)
    return Source(numbered(path, count, first), lambda part: part_of(inputs, part))


def _arrays(header: DataHeader, path: Path) -> X:
    """Those of the inputs' names; of a single input the array `x_test`, or the only one."""
    shapes, dtypes = header.raw
    if not isinstance(shapes, Mapping):
        return _tensor(read_inputs(path), str(dtypes), str(path))
    found = read_inputs(path, [*shapes])
    kinds = cast(Mapping[str, str], dtypes)
    return {n: _tensor(part, kinds[n], f"{path}: {n}") for n, part in found.items()}


def _tensor(array: Any, dtype: str, where: str) -> torch.Tensor:
    """Of the type that the training reads. Raises UserError where that changes numbers."""
    wanted = np.dtype(dtype)
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f") != (wanted.kind == "f"):
        raise UserError(f"{where}: got {array.dtype}, expected {quoted(dtype)}: convert it")
    if dtype == "uint8" and array.dtype != wanted:
        raise UserError(f"{where}: got {array.dtype}, expected 'uint8': convert it")
    return torch.from_numpy(np.ascontiguousarray(array, wanted))
