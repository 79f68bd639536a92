"""When a study ends before its trials and epochs: after so many hours, or without a better score.

That it has ended is written down, and so is its time now and then: a replay looks at no clock and
counts nothing. The Study asks here before it asks its searcher.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

from hpogen.errors import CannotGoOn
from hpogen.record import events
from hpogen.record.history import Record
from hpogen.record.ledger import Event
from hpogen.study.read import AnyStudy

OFTEN = 30.0  # seconds of running that a killed process may lose, about
HOUR = 3600.0


class Ending:
    """The time that a study has been open for running, and its trials since the best score.

    Time counts from the first trial that is asked for, by the monotonic clock, until it is closed.
    """

    def __init__(self, study: AnyStudy, write: Callable[[Event], None]) -> None:
        self._study = study
        self._write = write
        self._began: float | None = None
        self._written = 0.0  # seconds that the ledger knows of
        self._best = math.inf
        self._without = 0  # trials told since then

    def told(self, record: Record) -> None:
        """Count a trial of the search; only those of the highest rung may be better."""
        if record.repeat or record.trial.rung != self._study.spec.ladder[-1]:
            return
        better = record.failure is None and record.score < self._best
        self._best = record.score if better else self._best
        self._without = 0 if better else self._without + 1

    def has_come(self) -> bool:
        """Whether no further trial is to be asked for."""
        history, stop = self._study.history, self._study.history.stop
        hours, trials = stop.get("hours"), stop.get("no_improvement")
        if history.ended:
            return True
        if trials is not None and self._without >= trials:
            self._write(events.ended("no_improvement"))
        elif hours is not None:
            seconds = self._seconds()
            over = seconds >= hours * HOUR
            if over or seconds >= self._written + OFTEN:
                self._ran(seconds)
            if over:
                self._write(events.ended("hours"))
        return bool(history.ended)

    def close(self) -> None:
        """Write down the time at the end of a run, where that can still be done."""
        if self._began is not None:
            with contextlib.suppress(CannotGoOn):
                self._ran(self._seconds())

    def _seconds(self) -> float:
        if self._began is None:
            self._written = self._study.history.ran
            self._began = time.monotonic() - self._written
        return time.monotonic() - self._began

    def _ran(self, seconds: float) -> None:
        self._written = seconds
        self._write(events.ran(round(seconds, 3)))
