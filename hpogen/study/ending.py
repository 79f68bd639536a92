"""When a study ends by other things than its trials and epochs: so many hours, no better score.

That it has ended is written down, and so is its time now and then: a replay looks at no clock and
counts nothing. The Study asks here before it asks its searcher.
"""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Callable

from hpogen.errors import CannotGoOn
from hpogen.record import events
from hpogen.record.history import Record
from hpogen.record.ledger import Event
from hpogen.study.read import AnyStudy

OFTEN = 30.0  # seconds of running that a killed process may lose, about: or an epoch
SAME = 1000  # duplicates in a row, after which nothing new is to come, where hours alone end it
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
        self._best: list[tuple[float, ...]] = []  # the best score; of several their front
        self._without = 0  # trials told since then
        self._same = 0  # duplicates since the last other trial

    def told(self, record: Record) -> None:
        """Count a trial of the search; only those of the highest rung may be better."""
        self._same = 0 if record.twin is None else self._same + 1
        if record.repeat or record.trial.rung != self._study.spec.ladder[-1]:
            return
        scores = record.scores or (record.score,)
        better = (
            record.failure is None
            and record.feasible
            and not any(all(map(operator.le, best, scores)) for best in self._best)
        )
        if better:
            self._best = [x for x in self._best if not all(map(operator.le, scores, x))] + [scores]
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
            if seconds >= hours * HOUR:
                self._ran(seconds)
                self._write(events.ended("hours"))
            elif self._same >= SAME and stop["trials"] is None and stop["epochs"] is None:
                self._write(events.ended("duplicates"))
            else:
                self.tick()
        return bool(history.ended)

    def tick(self) -> None:
        """Write down the time now and then: it is what a killed process keeps, and readers see."""
        if self._began is not None and self._seconds() >= self._written + OFTEN:
            self._ran(self._seconds())

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
