"""The columns of a table as arrays: numbers, categories, targets. `table.py` asks.

A row is named in messages by its number below the names of the columns, from 1 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hpogen.errors import UserError, quoted
from hpogen.training.forms.kinds import KindName

NUMBER = r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*"  # a text that is one
MOST = 10_000  # categories of a column
KINDS = ("classes", "binary", "real")  # of target that one column may be


@dataclass(frozen=True)
class Column:
    """A column of a file, and where it is, for messages."""

    values: Any  # pyarrow.ChunkedArray
    where: str

    @property
    def type(self) -> Any:
        kind = self.values.type
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    def is_number(self) -> bool:
        """Whether it is one of numbers; else it is one of categories. Raises UserError."""
        if self.values.null_count == len(self.values):
            raise UserError(f"{self.where}: has no values: name it in drop")
        if pa.types.is_dictionary(self.values.type):
            return False
        if _is_number(self.type):
            return True
        self._check_text()
        return False

    def _check_text(self) -> None:
        """Raise UserError where it is neither text nor true and false, or mostly numbers."""
        kind = self.type
        if pa.types.is_boolean(kind):
            return
        if pa.types.is_temporal(kind):
            raise UserError(
                f"{self.where}: has dates or times ({kind}): name it in drop, as time or in "
                "categories, or write it as numbers"
            )
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise UserError(f"{self.where}: has text that is not UTF-8: save the file as UTF-8")
        if not _is_text(kind):
            raise UserError(f"{self.where}: holds {kind}, expected numbers or text: drop it")
        matches = pc.match_substring_regex(self.values, f"^{NUMBER}$")
        likely = (pc.sum(matches).as_py() or 0) / pc.count(matches).as_py()
        if 0.5 < likely < 1:
            row = _first(pc.invert(matches))
            raise UserError(
                f"{self.where}: row {row + 1} is {quoted(self.values[row].as_py())}, and most "
                "others are numbers: mend it, or name the column in categories or drop"
            )

    def floats(self) -> NDArray[np.float32]:
        """The numbers, NaN where one is missing. Raises UserError."""
        if not _is_number(self.type):
            raise UserError(f"{self.where}: holds {self.type}, and numbers in the training file")
        wide: NDArray[np.float64] = pc.cast(self.values, pa.float64(), safe=False).to_numpy()
        with np.errstate(over="ignore"):  # what is too large for float32 is told as such
            found = wide.astype(np.float32)
        infinite = np.isinf(found)
        if infinite.any():
            row = int(infinite.argmax())
            raise UserError(
                f"{self.where}: row {row + 1} is {wide[row]}, expected a number of float32: leave "
                "the row out, or the number"
            )
        return found

    def texts(self) -> Any:
        """The values as text, empty where one is missing: a `pyarrow.ChunkedArray`."""
        return pc.fill_null(pc.cast(self.values, pa.string()), "")

    def order(self) -> NDArray[np.int64]:
        """The place of each row's time, or date or number, (N,). Raises UserError."""
        self.check_complete()
        if not (_is_number(self.type) or pa.types.is_temporal(self.type)):
            raise UserError(
                f"{self.where}: holds {self.type}, expected times: write them as 2026-11-28 or "
                "2026-11-28 10:30:00, or as numbers"
            )
        return np.unique(self.values.to_numpy(), return_inverse=True)[1].astype(np.int64)

    def check_complete(self) -> None:
        """Raise UserError where a value is missing."""
        gaps = pc.is_null(self.values, nan_is_null=True)
        if pc.any(gaps).as_py():
            raise UserError(
                f"{self.where}: row {_first(gaps) + 1} is missing: leave the row out, or fill it in"
            )


def _is_number(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _first(chosen: Any) -> int:
    """The first row that is true."""
    return int(pc.index(pc.fill_null(chosen, False), True).as_py())


def numbers(found: Sequence[Column], rows: int) -> NDArray[np.float32]:
    """(N, D) of so many rows, NaN where one is missing. Raises UserError."""
    array = np.empty((rows, len(found)), np.float32)
    for i, column in enumerate(found):
        array[:, i] = column.floats()
    return array


def codes(parts: Sequence[Column]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Of each part the categories' numbers (N,), and the texts that they stand for, sorted.

    A missing one is the category "". Raises UserError for too many of them.
    """
    texts = [part.texts() for part in parts]
    chunks = [chunk for text in texts for chunk in text.chunks]
    encoded = pa.chunked_array(chunks, pa.string()).combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if len(names) > MOST:
        raise UserError(
            f"{parts[0].where}: has {len(names):,} categories, expected at most {MOST:,}: name it "
            "in drop, or join some of them"
        )
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    found = rank[encoded.indices.to_numpy()]
    ends = np.cumsum([len(text) for text in texts])[:-1]
    return np.split(found, ends), tuple(names[i] for i in order)


@dataclass(frozen=True)
class Targets:
    """Those of each part, their kind, and the classes' names."""

    values: Sequence[NDArray[Any]]
    kind: KindName
    names: tuple[str, ...] = ()


def targets(parts: Sequence[Column], kind: KindName | None) -> Targets:
    """What the training reads of the target's column in each part. Raises UserError."""
    first = parts[0]
    if kind is not None and kind not in KINDS:
        raise UserError(f"{first.where}: kind: {kind} is of several columns: use numpy")
    for part in parts:
        part.check_complete()
    floats = pa.types.is_floating(first.type) or pa.types.is_decimal(first.type)
    if not _is_number(first.type):
        first._check_text()
    if kind == "real" or (kind is None and floats):
        if not _is_number(first.type):
            raise UserError(f"{first.where}: has text, and kind: real is of numbers: drop kind")
        return Targets([part.floats() for part in parts], "real")
    if floats:
        raise UserError(
            f"{first.where}: has numbers with decimals, and kind: {kind} is of classes: write them "
            "as whole numbers or text, or kind: real"
        )
    return _classes(parts, kind)


def _classes(parts: Sequence[Column], kind: KindName | None) -> Targets:
    """Classes are numbered in the order of their text, whole numbers in their own."""
    first = parts[0]
    whole = all(_is_number(part.type) for part in parts)
    values = [_plain(part, whole) for part in parts]
    found, counts = np.unique(values[0], return_counts=True)
    names = tuple(map(str, found))
    quantity = "; where it is a quantity, say kind: real" if whole else ""
    if len(found) < 2:
        raise UserError(f"{first.where}: all rows are {names[0]!r}, expected two classes or more")
    if (counts < 2).any():
        lonely = found[counts < 2][0]
        row = int((values[0] == lonely).argmax())
        raise UserError(
            f"{first.where}: the class {quoted(str(lonely))} has one row, row {row + 1}, expected "
            f"two or more: leave it out, or join classes{quantity}"
        )
    if kind == "binary" and len(found) > 2:
        raise UserError(
            f"{first.where}: has {len(found)} classes, and kind: binary is of two: say classes"
        )
    numbered = [np.searchsorted(found, part).clip(max=len(found) - 1) for part in values]
    for part, given, number in zip(parts, values, numbered, strict=True):
        strange = found[number] != given
        if strange.any():
            row = int(strange.argmax())
            raise UserError(
                f"{part.where}: row {row + 1} is {quoted(str(given[row]))}, which is no class of "
                "the training file: leave it out"
            )
    return Targets(numbered, kind or ("binary" if len(found) == 2 else "classes"), names)


def _plain(column: Column, whole: bool) -> NDArray[Any]:
    """Whole numbers, or text."""
    if whole:
        return np.asarray(column.values.to_numpy())
    return np.asarray(column.texts().to_pylist(), dtype=str)
