"""The data sets `csv` and `parquet`: a table in a file, one of its columns the target.

pyarrow reads it, `columns.py` makes arrays of its columns; `loaded.py` calls the loader.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from annotated_types import doc
from numpy.typing import NDArray
from pyarrow import csv, parquet
from pydantic import Field

from hpogen.errors import UserError, quoted, unknown
from hpogen.training.data import columns
from hpogen.training.data.columns import Column
from hpogen.training.data.data import Data, Samples, Table
from hpogen.training.data.pictures import line
from hpogen.training.data.splits import Division
from hpogen.training.forms.kinds import KindName

PARQUET, GZIP = b"PAR1", b"\x1f\x8b"  # what such a file begins with
SEPARATORS = ";\t|"  # beside the comma


def table(
    root: Path,
    *,
    path: Annotated[str, doc("the file; relative to the study's file")],
    target: Annotated[str, doc("the column that a network is to tell")],
    drop: Annotated[tuple[str, ...], doc("columns that are left out")] = (),
    categories: Annotated[
        tuple[str, ...], doc("columns of categories, beside those of text or true and false")
    ] = (),
    group: Annotated[
        str | None, doc("a column, of which no value stands on two sides of a split")
    ] = None,
    time: Annotated[
        str | None, doc("a column, by which later rows validate, and the latest audit")
    ] = None,
    test_path: Annotated[
        str | None, doc("a file of the same columns: the test set; relative as `path`")
    ] = None,
    separator: Annotated[
        Annotated[str, Field(min_length=1, max_length=1)], doc("between the columns of a csv")
    ] = ",",
    kind: KindName | None = None,
) -> Data:
    """The rows of a csv file (gzipped or not), or of a Parquet file, by what it begins with.

    The inputs are "numbers", float32 (N, D) with NaN where one is missing, and "categories", int64
    (N, C), each numbered in the order of its text; numbers alone are one array. Targets of text,
    true and false or whole numbers are classes, of other numbers are real, unless `kind` says
    otherwise. Raises UserError, naming the file and the row or column.
    """
    files = [Path(one).expanduser() for one in (path, test_path) if one is not None]
    used = Used(target, drop, categories, group, time)
    parts = _parts(files, separator, used)
    labels = columns.targets([part[target] for part in parts], kind)
    inputs, described = _inputs(parts, used.inputs([*parts[0]]), categories)
    samples = [Samples(*one) for one in zip(inputs, labels.values, strict=True)]
    return Data(
        samples[0],
        samples[1] if test_path is not None else samples[0].none(),
        labels.kind,
        class_names=labels.names,
        table=replace(described, separator=separator),
        division=_division(parts[0], used),
    )


@dataclass(frozen=True)
class Used:
    """What the study says of the columns."""

    target: str
    drop: Collection[str]
    categories: Collection[str]
    group: str | None
    time: str | None

    def inputs(self, names: Sequence[str]) -> list[str]:
        others = {self.target, self.group, self.time, *self.drop}
        return [name for name in names if name not in others]

    def check(self, names: Sequence[str], where: str) -> None:
        """Raise UserError for columns that are not there, twice there, or have two uses."""
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"{where}: has two columns {quoted(twice[0])}: rename one of them")
        if len(names) < 2:
            mark = next((mark for mark in SEPARATORS if mark in names[0]), "")
            hint = f"; is it separated by {mark!r}? say separator: {mark!r}" if mark else ""
            raise UserError(
                f"{where}: has one column, {quoted(names[0])}, expected the target and others{hint}"
            )
        if all(re.fullmatch(columns.NUMBER, name) for name in names):
            raise UserError(
                f"{where}: its first line is {quoted(', '.join(names))}, expected the names of the "
                "columns: write them above"
            )
        single = {"target": self.target, "group": self.group, "time": self.time}
        said = [(key, name) for key, name in single.items() if name is not None]
        said += [("drop", n) for n in self.drop] + [("categories", n) for n in self.categories]
        for key, name in said:
            if name not in names:
                raise UserError(f"{where}: {key}: {unknown('column', name, names)}")
        if self.group is not None and self.time is not None:
            raise UserError(f"{where}: rows are divided by group or by time, got both: drop one")
        inputs = self.inputs(names)
        if not inputs:
            raise UserError(f"{where}: there is no column left beside the target")
        for name in self.categories:
            if name not in inputs:
                raise UserError(f"{where}: categories: the column {quoted(name)} is no input")


def read(file: Path, separator: str = ",") -> Any:
    """The table of a file, a `pyarrow.Table` with a row at least. Raises UserError."""
    try:
        with file.open("rb") as opened:
            head = opened.read(4)
        if head == PARQUET:
            found = parquet.read_table(file)
        else:
            with gzip.open(file) if head[:2] == GZIP else file.open("rb") as opened:
                found = csv.read_csv(
                    opened,
                    csv.ReadOptions(use_threads=False),  # an error then names its row
                    csv.ParseOptions(delimiter=separator),
                    csv.ConvertOptions(strings_can_be_null=True),
                )
        len(found.column_names)  # raises where they are not UTF-8
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file") from None
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        if "Empty CSV" in str(error):
            raise UserError(f"{file}: is empty, expected a table") from None
        raise UserError(f"{file}: cannot be read as a table: {line(error)}") from error
    if not len(found):
        raise UserError(f"{file}: has no rows below the names of its columns")
    return found


def _parts(files: Sequence[Path], separator: str, used: Used) -> list[dict[str, Column]]:
    """The columns that are used, by name: of the training file, and of one for the test."""
    found = [read(file, separator) for file in files]
    names = found[0].column_names
    used.check(names, str(files[0]))
    wanted = [used.target, *used.inputs(names)]
    divided = [name for name in (used.group, used.time) if name is not None]
    own = [[*wanted, *divided], wanted]
    return [named(*one) for one in zip(found, map(str, files), own, strict=False)]


def named(found: Any, where: str, names: Sequence[str]) -> dict[str, Column]:
    """The columns of those names. Raises UserError, beginning with `where` the table is."""
    for name in names:
        if (count := found.column_names.count(name)) > 1:
            raise UserError(f"{where}: has {count} columns {quoted(name)}, expected one")
        if not count:
            has = quoted(", ".join(found.column_names))
            raise UserError(f"{where}: has no column {quoted(name)}: it has {has}")
    return {name: Column(found[name], f"{where}: column {quoted(name)}") for name in names}


def _inputs(
    parts: Sequence[dict[str, Column]], names: Sequence[str], categories: Collection[str]
) -> tuple[list[Any], Table]:
    """The inputs of each part, and what they are."""
    numeric = [n for n in names if n not in categories and parts[0][n].is_number()]
    others = [name for name in names if name not in numeric]
    numbers = [
        columns.numbers([part[name] for name in numeric], len(part[names[0]].values))
        for part in parts
    ]
    texts: dict[str, tuple[str, ...]] = {}
    coded = [np.empty((len(part), len(others)), np.int64) for part in numbers]
    for i, name in enumerate(others):
        codes, texts[name] = columns.codes([part[name] for part in parts])
        for array, found in zip(coded, codes, strict=True):
            array[:, i] = found
    missing = any(bool(np.isnan(part).any()) for part in numbers)
    return arranged(numbers, coded), Table(tuple(numeric), texts, missing)


def arranged(
    numbers: Sequence[NDArray[np.float32]], coded: Sequence[NDArray[np.int64]]
) -> list[Any]:
    """One array, or a mapping of those that have a column."""
    if not coded[0].shape[1]:
        return [*numbers]
    if not numbers[0].shape[1]:
        return [{"categories": codes} for codes in coded]
    return [{"numbers": a, "categories": b} for a, b in zip(numbers, coded, strict=True)]


def _division(part: dict[str, Column], used: Used) -> Division | None:
    by: Literal["group", "time"] = "group" if used.group is not None else "time"
    name = used.group if used.group is not None else used.time
    if name is None:
        return None
    column = part[name]
    column.check_complete()
    places = columns.codes([column])[0][0] if by == "group" else column.order()
    if len(np.unique(places)) < 2:
        raise UserError(f"{column.where}: all rows have one {by}, expected two or more")
    return Division(by, name, places)
