"""A study's folder that is followed: read once, then only what its files have got since.

`view.py` makes of it what the page shows. Nothing is written, no lock is taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, shortened
from hpogen.record.history import Record, checked, go_on
from hpogen.record.ledger import LEDGER, Event, holder
from hpogen.record.tail import CurveTail, LedgerTail
from hpogen.report.live import REFRESH_SHARE, Pace
from hpogen.spec import StudySpec
from hpogen.spec.recorded import recorded
from hpogen.study.standing import Standing, standing
from hpogen.study.status import under_way
from hpogen.trial import Trial

AGAIN_SECONDS = 2.0  # between two looks at a folder that cannot be read
LOOK_SECONDS = 0.25  # between two looks at one that can


class Followed:
    """A study, as `read.AnyStudy`, that `look` brings up to date.

    `order` are the trials in the order of being told, `failed` those of them that failed, by kind;
    `starts` counts how often the ledger was begun anew; `problem` is why the folder cannot be read
    now: one line, or empty.
    """

    process: str | None
    _stale: bool  # whether the answer may be another than that of `_standing`

    def __init__(self, directory: Path) -> None:
        """Raises UserError as `read.read`."""
        self.directory = directory
        self.starts = 0
        self.problem = ""
        self._tail = LedgerTail(directory)
        self._next = 0.0
        self._read()

    def look(self) -> None:
        """Read what is new; what was read stays where the folder has gone."""
        if time.monotonic() < self._next:
            return
        try:
            self._read()
            self.problem = ""
        except UserError as error:
            self.problem, self.process = str(error), None
            self._tail = LedgerTail(self.directory)
        wait = AGAIN_SECONDS if self.problem else LOOK_SECONDS
        self._next = time.monotonic() + wait

    def _read(self) -> None:
        process = holder(self.directory)  # before the ledger: who has ended is complete there
        before, events = self._tail.read_on()
        if before:
            go_on(self.history, events, self.directory / LEDGER)
        else:
            self._begin(events)
        self._count([event["trial"] for event in events if event["kind"] == "told"])
        self._stale = self._stale or any(map(_changes_answer, events))
        if before == 0 or (process is not None and self.process is None):
            self.pace = Pace(self, under_way(self))
        self.process = process

    def _begin(self, events: list[Event]) -> None:
        history = checked(events, self.directory / LEDGER)
        try:
            self.spec: StudySpec = recorded(history)
        except UserError as error:
            raise UserError(f"{self.directory}: {error}") from error
        self.history, self.starts = history, self.starts + 1
        self.process = None
        self.order: list[int] = []
        self.failed: dict[str, list[int]] = {}
        self._curves: dict[tuple[int, int | None], CurveTail] = {}
        self._standing: Standing | None = None
        self._lacks, self._stale, self._due = "", True, 0.0

    def _count(self, told: list[int]) -> None:
        self.order += told
        for trial in told:
            if (failure := self.history.records[trial].failure) is not None:
                self.failed.setdefault(failure.kind, []).append(trial)

    def standing(self) -> tuple[Standing | None, str]:
        """How the study stands, and why that is not known: a long one is asked less often."""
        begin = time.monotonic()
        if self._stale and begin >= self._due:
            try:
                self._standing, self._lacks = standing(self), ""
            except UserError as error:  # a selection's file is missing
                self._standing, self._lacks = None, shortened(error)
            self._stale = False
            self._due = time.monotonic() + (time.monotonic() - begin) / REFRESH_SHARE
        return self._standing, self._lacks

    def running(self) -> Iterator[tuple[Trial, list[dict[str, Any]]]]:
        """The trials under way, or that were when it stopped, each with the rows of its curve.

        Of several trainings that of the first one that has not ended.
        """
        history = self.history
        parts = [(trial, history.records[trial].under_way) for trial in sorted(history.running)]
        self._curves = {
            (trial, part): self._curves.get((trial, part))
            or CurveTail(self.directory, trial, history.id, part)
            for trial, part in parts
        }
        for (trial, _), curve in self._curves.items():
            yield history.records[trial].trial, curve.rows()

    def told(self, begin: int) -> list[Record]:
        """The trials that have been told after the first `begin`."""
        return [self.history.records[trial] for trial in self.order[begin:]]


def _changes_answer(event: Event) -> bool:
    return event["kind"] in ("study", "told", "held", "scale", "measured")
