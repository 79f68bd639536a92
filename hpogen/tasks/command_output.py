"""Where the metrics of a command are: in its standard output, as JSON or by a pattern, or in files.

`command.py` has the key `read` of this form, and asks a reader what each line and each look gives.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from hpogen.errors import shortened, unknown
from hpogen.tasks.command_files import Declared, Rows, Written, csv_rows, json_rows
from hpogen.tasks.event_records import EventFiles
from hpogen.tasks.own import Figures
from hpogen.trial import RunningTrial

FIRST_LINES, LAST_LINES = 2, 5  # of standard output without an epoch, in a message
SHOWN = 40  # characters of each
NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:nan|inf(?:inity)?))"
EPOCH, DIRECTORY = "epoch", "directory"
AUDIT = "audit"  # of a line, where it is a mapping
FILES = ("json", "csv", "tensorboard")


class Read(BaseModel):
    """Where metrics are read that are no JSON on standard output: one of the first four keys.

    A file is one of the trial's own, so its path begins with `{directory}`, which the command is
    told, too. An epoch is a row that has all of `task.metrics` and `task.audit`; rows with the same
    `epoch`, or of the same step of TensorBoard's, are one. It is read while the program writes it,
    a line without an end not before the program ends.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    pattern: str | None = None
    """What a line of standard output looks like, `epoch {epoch} val_loss {val_loss}`; `{}` is any
    text. Each line in which it is found is an epoch; with `{epoch}` the first of each number."""
    json_: str | None = Field(None, alias="json")
    """A file of JSON: an object per line, a list of objects, or an object of lists."""
    csv: str | None = None
    """A CSV file with a line of names; commas, semicolons or tabs."""
    tensorboard: str | None = None
    """A folder in which, or in whose folders, are event files with scalars."""
    names: dict[str, str] | None = None
    """What a metric, or `epoch`, is called in the file: `{val_loss: loss/val}`."""

    @field_validator("pattern")
    @classmethod
    def _has_names(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _parsed(pattern)
        return pattern

    @field_validator("json_", "csv", "tensorboard")
    @classmethod
    def _is_the_trials(cls, path: str | None, info: ValidationInfo) -> str | None:
        key = str(info.field_name).rstrip("_")
        if path is not None and (path.split("/")[0], path.count("{")) != ("{directory}", 1):
            name = "logs" if key == "tensorboard" else f"metrics.{key}"
            raise ValueError(
                f"got {path!r}, expected a place of the trial's own, such as {{directory}}/{name}"
            )
        return path

    def _of(self, key: str) -> str | None:
        value: str | None = getattr(self, "json_" if key == "json" else key)
        return value

    @property
    def path(self) -> str | None:
        """The file's, with its placeholder; None where there is none."""
        return next(filter(None, map(self._of, FILES)), None)

    def check(self, metrics: Sequence[str], audit: Sequence[str]) -> None:
        """Raise ValueError where it does not go with the task's figures, or is not of one kind."""
        given = [key for key in ("pattern", *FILES) if self._of(key) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"got {got}, expected one of pattern, json, csv, tensorboard")
        if self.pattern is not None and self.names is not None:
            raise ValueError("names go with a file: a pattern has the names of the metrics")
        if both := sorted({*metrics} & {*audit}):
            raise ValueError(f"{both[0]!r} is in task.metrics and in task.audit: rename one")
        if self.pattern is not None:
            self._check_names("pattern", _parsed(self.pattern), (metrics, audit))
        self._check_names("names", [*(self.names or {})], (metrics, audit))

    def _check_names(self, key: str, names: Sequence[str], declared: Declared) -> None:
        """All are of the task, and a pattern has all of the task's."""
        known = [*declared[0], *declared[1]]
        for name in names:
            if name and name not in {*known, EPOCH}:
                raise ValueError(f"{key}: {unknown('metric', name, known)}")
        for where, figures in zip(("metrics", AUDIT), declared, strict=True):
            if key == "pattern" and (missing := [name for name in figures if name not in names]):
                raise ValueError(
                    f"got the pattern {self.pattern!r} without {{{missing[0]}}}, which "
                    f"task.{where} lists"
                )

    def record(self) -> dict[str, Any]:
        """The keys that are given."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Reader(Protocol):
    """What finds epochs: as the command prints them, or in what it has written meanwhile."""

    def heard(self, line: str) -> Iterable[Figures]:
        """The epochs in a line of standard output. What is none is printed: it goes to the log."""
        ...

    def looked(self, ended: bool) -> Iterable[Figures]:
        """Those found in files since the last look; `ended`: the program has, nothing follows."""
        ...

    def missing(self, last: Sequence[str]) -> str:
        """Why there was no epoch; `last` are the last lines of all that the command said."""
        ...


def reader_for(
    read: Read | None, declared: Declared, trial: RunningTrial, resumable: bool
) -> Reader:
    """The reader of a trial's command, made before that starts."""
    if read is None:
        return Printed(declared)
    if read.pattern is not None:
        return Matched(read.pattern, declared)
    place = Path((read.path or "").format(directory=trial.directory))
    names = {name: name for name in (*declared[0], *declared[1], EPOCH)} | (read.names or {})
    told = f"task.read.{next(key for key in FILES if read._of(key))}"
    if read.tensorboard is not None:
        del names[EPOCH]
        return Written(EventFiles(place, names), told, declared, trial, resumable)
    parse = csv_rows if read.csv is not None else json_rows
    rows = Rows(place, names, parse)
    return Written(rows, told, declared, trial, resumable)


class Printed:
    """JSON objects, one a line, on standard output."""

    def __init__(self, declared: Declared) -> None:
        self._metrics, self._audit = declared
        self._first: list[str] = []

    def heard(self, line: str) -> Iterator[Figures]:
        found = _epoch(line, self._metrics, self._audit)
        if found is not None:
            yield found
        elif line.strip() and len(self._first) < FIRST_LINES:
            self._first.append(line)

    def looked(self, ended: bool) -> Iterable[Figures]:
        return ()

    def missing(self, last: Sequence[str]) -> str:
        lines = " and ".join(repr(shortened(line, SHOWN)) for line in self._first)
        were = f"its output began with {lines}" if lines else "its standard output was empty"
        example = json.dumps(dict.fromkeys(self._metrics[:FIRST_LINES], 0.5))
        return f"printed no JSON: {were}; after each epoch print a line such as {example}"


class Matched:
    """Lines of standard output in which a pattern is found; all lines go to the log."""

    def __init__(self, pattern: str, declared: Declared) -> None:
        self._pattern, self._declared = pattern, declared
        self._expression = expression(pattern)
        self._seen: set[str] = set()

    def heard(self, line: str) -> Iterator[Figures]:
        print(line)  # to the trial's log, see executors.worker
        match = self._expression.search(line)
        if match is None:
            return
        found = match.groupdict()
        number = found.pop(EPOCH, None)
        if number is not None and number in self._seen:
            return
        self._seen.add(number or "")
        metrics, audit = self._declared
        yield {x: float(found[x]) for x in metrics}, {x: float(found[x]) for x in audit}

    def looked(self, ended: bool) -> Iterable[Figures]:
        return ()

    def missing(self, last: Sequence[str]) -> str:
        text = f"printed no line with task.read.pattern {self._pattern!r}"
        if any(self._expression.search(line) for line in last):
            how = "sh -c 'COMMAND 2>&1' in task.command makes it standard output"
            return f"{text}, but on standard error there is one: {how}"
        return f"{text}; {ended_with(last)}"


@dataclass(frozen=True)
class _Piece:
    """Text of a pattern, and the name of the placeholder behind it; None at the end."""

    text: str
    name: str | None


def ended_with(last: Sequence[str]) -> str:
    """The last lines of an output, for a message."""
    if not last:
        return "its output was empty"
    return "its output ended with " + ", ".join(repr(shortened(x, 2 * SHOWN)) for x in last)


def expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern: a number for each name, any blanks for blanks."""
    parts = [r"(?<![\w.])" if re.match(r"\w", pattern) else ""]
    for piece in _pieces(pattern):
        parts += [r"\s+" if part.isspace() else re.escape(part) for part in _blanks(piece.text)]
        if piece.name is not None:
            parts.append(f"(?P<{piece.name}>{NUMBER})" if piece.name else ".*?")
    return re.compile("".join(parts))


def _blanks(text: str) -> list[str]:
    return [part for part in re.split(r"(\s+)", text) if part]


def _pieces(pattern: str) -> list[_Piece]:
    return [_Piece(text, name) for text, name, *_ in string.Formatter().parse(pattern)]


def _parsed(pattern: str) -> list[str]:
    """The names in a pattern. Raises ValueError, also for one without a metric."""
    try:
        names = placeholders(pattern)
    except ValueError as error:
        raise ValueError(
            f"got the pattern {pattern!r}: {str(error).lower()}; a brace itself is {{{{ or }}}}"
        ) from None
    given = [name for name in names if name]
    if twice := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"got the pattern {pattern!r} with {{{twice[0]}}} twice")
    if not {*given} - {EPOCH}:
        raise ValueError(
            f"got the pattern {pattern!r} without a metric, expected one such as "
            f"epoch {{epoch}} val_loss {{val_loss}}"
        )
    return names


def placeholders(text: str) -> list[str]:
    """The names in braces. Raises ValueError where the braces do not match."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


def _epoch(line: str, metrics: Sequence[str], audit: Sequence[str]) -> Figures | None:
    """The figures of a JSON object; None for any other line, which goes to the log."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        print(line)  # to the trial's log, see executors.worker
        return None
    held_out = found.pop(AUDIT) if isinstance(found.get(AUDIT), dict) else {}
    return _plain(found, "metric", "metrics", metrics), _plain(
        held_out, "audit figure", AUDIT, audit
    )


def _plain(
    found: Mapping[str, Any], what: str, key: str, declared: Sequence[str]
) -> dict[str, float]:
    """Those numbers, all of which the task declares at `key`. Raises ValueError."""
    if undeclared := sorted(set(found) - set(declared)):
        raise ValueError(
            f"the command gave the {what} {undeclared[0]!r}, which task.{key} does not list "
            f"({', '.join(sorted(declared))})"
        )
    for name, value in found.items():
        if not isinstance(value, int | float):
            raise ValueError(f"the command gave {name} = {json.dumps(value)}, expected a number")
    return {name: float(value) for name, value in found.items()}
