"""Files that another process appends to, read on from where they were read before.

`report/watch` follows a study with them: nothing is read twice, written or locked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.record.folder import by_epoch, curve_path
from hpogen.record.ledger import LEDGER, Event

HEAD = 100  # bytes of a ledger's first line: its study's id is among them


@dataclass(frozen=True)
class Seen:
    """What was read of a ledger."""

    number: int  # of the file on its disk
    head: bytes
    length: int  # bytes
    events: int

    def begins(self, there: os.stat_result, head: bytes) -> bool:
        """Whether the file that is there, with these first bytes, is this one gone on."""
        same = there.st_ino == self.number and head == self.head
        return same and there.st_size >= self.length


class LedgerTail:
    """The events of a study's ledger, as they come."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / LEDGER
        self._seen: Seen | None = None

    def read_on(self) -> tuple[int, list[Event]]:
        """The events since the last call, and how many have been read before them.

        That is 0 at the first call, and where the file is another, or shorter, than it was. A torn
        last line is left until it is whole. Raises UserError as `ledger.read`; the next call
        begins with the first line then.
        """
        seen, self._seen = self._seen, None
        with ledger.opened(self._directory) as file:
            there = os.fstat(file.fileno())
            if seen is None or not seen.begins(there, file.read(len(seen.head))):
                file.seek(0)
                seen = Seen(there.st_ino, file.read(HEAD), 0, 0)
            file.seek(seen.length)
            found = ledger.parse(file.read(), self._path, seen.events)
        count = seen.events + len(found.events)
        if not count:
            raise UserError(f"{self._directory}: the study here has not begun (no line is whole)")
        self._seen = Seen(seen.number, seen.head, seen.length + found.length, count)
        return seen.events, found.events


class CurveTail:
    """The rows of a running trial's curve, as they come: see `folder.read_curve`."""

    def __init__(self, directory: Path, trial: int, study: str, part: int | None = None) -> None:
        self._path = curve_path(directory, trial, part)
        self._study = study
        self._length = 0
        self._rows: dict[int, dict[str, Any]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """By epoch, the last one of each; none where there is no file."""
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._length:
                    self._length, self._rows = 0, {}
                file.seek(self._length)
                whole, end, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._length += len(whole) + len(end)
        self._rows |= by_epoch(whole.split(b"\n"), self._study)
        return [self._rows[epoch] for epoch in sorted(self._rows)]
