"""The trials of a long ledger, read when they are asked for: by an index of where they stand.

`record/index.py` keeps the index. A trial's lines are those between its first and its last that
begin as its lines do; a ledger in which other lines are about it has no index.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import overload

from hpogen.record import events
from hpogen.record.history import History, checked
from hpogen.record.ledger import Event, parse
from hpogen.record.records import Key, Record, key_of
from hpogen.trial import Trial, derive_seed

OF_STUDIES = frozenset({b"study", b"scale", b"extended", b"ended", b"ran", b"looked"})
"""The kinds of lines that are about no trial."""
_LINE = re.compile(rb'\{"kind":"(\w+)",(?:"trial":(\d+),)?')


def _numbers() -> array[int]:
    return array("Q")


@dataclass
class Places:
    """Of each trial, the bytes of the ledger from its first line to its last, and its seed."""

    begins: array[int] = field(default_factory=_numbers)
    ends: array[int] = field(default_factory=_numbers)
    seeds: array[int] = field(default_factory=_numbers)

    def add(self, data: bytes, begin: int, history: History) -> None:
        """Those of the lines of `data` from byte `begin` on, which `history` has been through.

        Raises ValueError for a line that is not as hpogen writes it, or a seed that is not as
        hpogen makes it: by its seed a trial is known as a duplicate.
        """
        while begin < len(data):
            end = data.index(b"\n", begin) + 1
            kind, trial = _known(data, begin)
            if trial is not None:
                if kind == b"asked":
                    self._asked(history.records[trial].trial, begin, history.seed)
                self.ends[trial] = end
            begin = end

    def _asked(self, trial: Trial, begin: int, study_seed: int) -> None:
        if trial.seed != _seed(key_of(trial), study_seed):
            raise ValueError("its seed is another's")
        self.begins.append(begin)
        self.ends.append(begin)
        self.seeds.append(trial.seed)


def _known(data: bytes, begin: int) -> tuple[bytes, int | None]:
    """The kind of a line, and the number of the trial that it is about."""
    found = _LINE.match(data, begin)
    if found is None or (found[2] is None) != (found[1] in OF_STUDIES):
        raise ValueError("its keys stand in another order")
    return found[1], None if found[2] is None else int(found[2])


def _seed(key: Key, study_seed: int) -> int:
    """As `trial.trial_seed`."""
    config, _, replicate = key
    return derive_seed(study_seed, config, replicate)


class Stored:
    """`records.Records` of the ledger `data`, with the places of its first trials.

    Those behind them are appended.
    """

    def __init__(self, history: History, data: bytes, places: Places, path: Path) -> None:
        self._history, self._data, self._places, self._path = history, data, places, path
        self._known: dict[int, Record] = {}
        self._length = len(places.begins)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all)

    def __reversed__(self) -> Iterator[Record]:
        return reversed(self._all)

    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Record]: ...
    def __getitem__(self, i: int | slice) -> Record | Sequence[Record]:
        if isinstance(i, slice):
            return [self[trial] for trial in range(*i.indices(self._length))]
        trial = range(self._length)[i]
        if trial not in self._known:
            self._known[trial] = self._read(trial)
        return self._known[trial]

    def append(self, record: Record) -> None:
        self._known[self._length] = record
        self._length += 1

    def first(self, key: Key) -> int | None:
        """The first of the trials with places that has that key."""
        seed = _seed(key, self._history.seed)
        trial = self._by_seed.get(seed)
        while trial is not None and key_of(events.trial_of(self._lines(trial)[0])) != key:
            try:
                trial = self._places.seeds.index(seed, trial + 1)  # the same on another rung
            except ValueError:
                return None
        return trial

    @cached_property
    def _by_seed(self) -> dict[int, int]:
        """The first trial of each seed."""
        seeds = self._places.seeds
        return dict(zip(reversed(seeds), range(len(seeds) - 1, -1, -1), strict=True))

    def _read(self, trial: int) -> Record:
        """As its lines have it that have a place; those behind them are applied to it."""
        asked, *lines = self._lines(trial)
        record = Record.asked(asked, self._history.parts)
        first = self.first(key_of(record.trial))
        record.twin = None if first == trial else first
        for event in lines:
            record.apply(event, self._history.constraints)
        return record

    def _lines(self, trial: int) -> list[Event]:
        begin, end = self._places.begins[trial], self._places.ends[trial]
        own = re.compile(rb'\{"kind":"\w+","trial":%d,' % trial)
        lines = filter(own.match, self._data[begin:end].splitlines())
        return [_event(line) for line in lines]

    @cached_property
    def _all(self) -> list[Record]:
        """All of them, for whoever passes over them; those that are known stay the same."""
        records = [*checked(parse(self._data, self._path).events, self._path).records]
        for trial, record in self._known.items():
            records[trial] = record
        self._known = dict(enumerate(records))
        return records


def _event(line: bytes) -> Event:
    event: Event = json.loads(line)
    del event["seq"], event["crc"]
    return event


@dataclass
class Firsts:
    """`records.Firsts`: those of the trials with places, and those that came since."""

    stored: Stored
    since: dict[Key, int] = field(default_factory=dict)

    def setdefault(self, key: Key, trial: int, /) -> int:
        if key not in self.since:
            first = self.stored.first(key)
            self.since[key] = trial if first is None else first
        return self.since[key]
