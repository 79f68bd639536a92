"""The metrics in a JSON or CSV file that a command writes, read again and again while it grows.

`command_output.py` makes the readers. What is read of a file is rows; what is an epoch, and new,
`Written` knows, whatever the file.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hpogen.errors import shortened
from hpogen.tasks.own import Figures
from hpogen.trial import RunningTrial

EPOCH = "epoch"
RECEIVED = "epochs-read.json"  # of a resumable trial: what the epochs were called in its file
LEAST, SHARE = 0.1, 10  # seconds between two looks, and how many times what one takes
DELIMITERS = ",;\t"


Declared = tuple[Sequence[str], Sequence[str]]
"""The names of the metrics, and of the audit figures."""


class Row(NamedTuple):
    """Metrics, and audit figures, of the epoch so called."""

    epoch: str | None
    metrics: Mapping[str, float]


class Place(Protocol):
    """Where rows are written."""

    def begin(self, received: Collection[str]) -> None:
        """Before the program starts: forget all rows but those of the epochs so called."""
        ...

    def rows(self, ended: bool) -> Sequence[Row]:
        """All rows so far; of the half-written end, nothing. Raises ValueError for what is wrong,
        of that end only where the program has `ended`."""
        ...

    def holds(self) -> str:
        """What is there, in words: `the columns epoch, loss`; empty where nothing is."""
        ...


class Written:
    """The epochs in a place, each once: rows of one name, or one row, that have all figures.

    A resumable task's rows have the name of their epoch. Those whose results have been received
    are written down beside them, so that a program may go on in its file or in another.
    """

    def __init__(
        self, place: Place, key: str, declared: Declared, trial: RunningTrial, resumable: bool
    ) -> None:
        self._place, self._key, self._declared = place, key, declared
        self._needed = {*declared[0], *declared[1]}
        self._resumable = resumable
        self._file = trial.directory / RECEIVED
        self._names: list[str] = _received(self._file)[: trial.start_epoch]
        self._known = {*self._names}
        self._next = 0.0
        place.begin(self._known)

    def heard(self, line: str) -> Sequence[Figures]:
        print(line)  # to the trial's log, see executors.worker
        return ()

    def looked(self, ended: bool) -> Iterator[Figures]:
        begin = time.monotonic()
        if begin < self._next and not ended:
            return
        rows = self._place.rows(ended)
        found = [*self._new(rows)]
        self._next = time.monotonic() + max(LEAST, SHARE * (time.monotonic() - begin))
        metrics, audit = self._declared
        for name, row in found:
            self._note(name)
            yield {x: row[x] for x in metrics}, {x: row[x] for x in audit}

    def _new(self, rows: Sequence[Row]) -> Iterator[tuple[str, Mapping[str, float]]]:
        merged: dict[str, dict[str, float]] = {}
        for number, row in enumerate(rows):
            if row.epoch is None and self._resumable:
                raise ValueError(
                    f"{self._key}: with resumable: true each row needs {EPOCH}, by which those of "
                    f"another attempt are known"
                )
            name = f"row {number}" if row.epoch is None else row.epoch
            if name in self._known:
                continue
            merged.setdefault(name, {}).update(row.metrics)
            if merged[name].keys() >= self._needed:
                self._known.add(name)
                yield name, merged[name]

    def _note(self, name: str) -> None:
        self._names.append(name)
        if self._resumable:
            _replace(self._file, json.dumps(self._names))

    def missing(self, last: Sequence[str]) -> str:
        holds = self._place.holds()
        if not holds:
            said = f"; it said last {shortened(last[-1], 80)!r}" if last else ""
            return f"wrote nothing that {self._key} reads{said}"
        need = ", ".join(sorted(self._needed))
        together = "an epoch has all of" if len(self._needed) > 1 else "an epoch has"
        return f"wrote no epoch for {self._key}: {together} {need}, there are {holds}"


def _replace(file: Path, text: str) -> None:
    """Whole or not at all: what trains here may be killed at any moment."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _received(file: Path) -> list[str]:
    try:
        names: list[str] = json.loads(file.read_text())
    except (OSError, ValueError):  # none yet, or on another machine
        return []
    return names


class Records(NamedTuple):
    """What a text holds: mappings, where each stands, and the text without some of them."""

    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int]
    without: Callable[[Collection[int]], str]


Parse = Callable[[str, bool], Records]


class Rows:
    """A file of rows, `names` being what metrics and `epoch` are called in it."""

    def __init__(self, path: Path, names: Mapping[str, str], parse: Parse) -> None:
        self._path, self._names, self._parse = path, names, parse
        self._stamp: object = None
        self._rows: list[Row] = []
        self._columns: dict[str, None] = {}

    def begin(self, received: Collection[str]) -> None:
        text = self._text()
        if not received or not text:
            self._path.unlink(missing_ok=True)
            return
        try:
            records = self._parse(text, False)
        except ValueError:  # the program will say what is wrong with it
            return
        stale = {i for i, row in enumerate(records.rows) if self._epoch(row) not in received}
        _replace(self._path, records.without(stale))

    def rows(self, ended: bool) -> Sequence[Row]:
        stamp = self._stamped()
        if stamp != self._stamp or ended:
            try:
                records = self._parse(self._text(), ended)
            except ValueError as error:
                raise ValueError(f"{self._path.name}: {error}") from None
            self._rows = [
                self._row(*pair) for pair in zip(records.rows, records.lines, strict=True)
            ]
            self._columns = {str(key): None for row in records.rows for key in row}
            self._stamp = stamp
        return self._rows

    def holds(self) -> str:
        return f"the columns {', '.join(self._columns)}" if self._columns else ""

    def _stamped(self) -> object:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8-sig", errors="replace")
        except FileNotFoundError:
            return ""

    def _epoch(self, row: Mapping[str, Any]) -> str | None:
        value = row.get(self._names[EPOCH])
        return None if value in (None, "") else str(value)

    def _row(self, row: Mapping[str, Any], line: int) -> Row:
        metrics = {}
        for metric, name in self._names.items():
            value = row.get(name)
            if metric == EPOCH or value in (None, ""):
                continue
            try:
                metrics[metric] = float(value)
            except (TypeError, ValueError):
                got = shortened(repr(value), 40)
                raise ValueError(
                    f"{self._path.name}:{line}: {name} is {got}, expected a number"
                ) from None
        return Row(self._epoch(row), metrics)


def csv_rows(text: str, ended: bool) -> Records:
    """Those of a CSV file; a line that says the names again is none."""
    lines = _whole(text, ended)
    if not lines:
        return Records((), (), lambda _: "")
    delimiter = next((c for c in DELIMITERS if c in lines[0]), DELIMITERS[0])
    table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    header = table[0]
    kept = [i for i, cells in enumerate(table) if cells and i and cells != header]

    def without(some: Collection[int]) -> str:
        dropped = {kept[i] for i in some}
        return "".join(line for i, line in enumerate(lines) if i not in dropped)

    rows = [dict(zip(header, table[i], strict=False)) for i in kept]
    return Records(rows, [i + 1 for i in kept], without)


def json_rows(text: str, ended: bool) -> Records:
    """Those of a list of objects, of an object of lists, or of objects a line."""
    try:
        whole = json.loads(text)
    except ValueError:
        return _json_lines(text, ended)
    if isinstance(whole, dict) and whole and all(isinstance(x, list) for x in whole.values()):
        count = max(map(len, whole.values()))
        columns = whole.items()
        whole = [{k: v[i] for k, v in columns if i < len(v)} for i in range(count)]
    rows = whole if isinstance(whole, list) else [whole]
    for row in rows:
        _check_object(row)

    def without(some: Collection[int]) -> str:
        return json.dumps([row for i, row in enumerate(rows) if i not in some])

    return Records(rows, [1] * len(rows), without)


def _json_lines(text: str, ended: bool) -> Records:
    lines = _whole(text, ended)
    kept = [i for i, line in enumerate(lines) if line.strip()]
    rows = []
    for i in kept:
        try:
            rows.append(json.loads(lines[i]))
        except ValueError as error:
            if not ended:  # a list, or an object of many lines, of which more will come
                return Records((), (), lambda _: text)
            raise ValueError(f"line {i + 1} is not JSON: {error}") from None
        _check_object(rows[-1])

    def without(some: Collection[int]) -> str:
        dropped = {kept[i] for i in some}
        return "".join(line for i, line in enumerate(lines) if i not in dropped)

    return Records(rows, [i + 1 for i in kept], without)


def _check_object(row: object) -> None:
    if not isinstance(row, dict):
        got = shortened(json.dumps(row), 40)
        raise ValueError(f'got {got}, expected an object such as {{"epoch": 1, "val_loss": 0.5}}')


def _whole(text: str, ended: bool) -> list[str]:
    """The lines that have an end; all of them where the program has ended."""
    lines = [*io.StringIO(text)]
    return lines if ended or not lines or lines[-1].endswith("\n") else lines[:-1]
