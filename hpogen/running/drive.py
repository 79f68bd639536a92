"""A study under way: its jobs, what is recorded of them, and what went wrong so far.

The runner has one of each study that it drives.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from hpogen.errors import CannotGoOn, shortened
from hpogen.executors.base import Job
from hpogen.record import folder, lock
from hpogen.record.provenance import digest, digests
from hpogen.running.keeping import BestWeights, discard, sweep
from hpogen.running.observer import Observer
from hpogen.running.trainings import Trainings
from hpogen.study import places
from hpogen.study.study import Study
from hpogen.trial import Outcome, Progress, Trial

log = logging.getLogger("hpogen.runner")

LOOK_SECONDS = 0.5  # between two looks at whether a study's folder is still there
MAX_LOST = 3

End = Literal["finished", "interrupted", "time", "errors", "lost", "broken", "cluster"]


@dataclass(frozen=True)
class Result:
    """How a run ended, how many trials it finished, and what stopped it (one line, or empty)."""

    end: End
    trials: int
    text: str = ""


class Drive:
    """A study under way, and what went wrong so far. `end` is None as long as it goes on."""

    def __init__(self, study: Study, observer: Observer | None, shares: bool) -> None:
        self.study = study
        self.end: End | None = None
        self.waits = False  # it has been asked, and nothing has happened since
        self.left = Trainings(study)
        self.weights = BestWeights(study, shared=shares)
        self._observer = observer
        self._sources = digest(digests(study.spec.sources))
        self._mark = lock.mark(study.directory)
        self._out_of_memory: set[tuple[int, int | None]] = set()
        self._errors = 0  # in a row
        self._finished, self._text = 0, ""
        self._looked = 0.0  # when it was last seen that the folder is there
        self._asked_before = len(study.history.records)  # trials, of which there may be curves

    @property
    def result(self) -> Result:
        return Result(self.end or "finished", self._finished, self._text)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Within the block, a study that cannot go on ends, and no other does."""
        try:
            yield
        except CannotGoOn as error:
            self.end, self._text = "broken", str(error)

    def check(self) -> None:
        """End the study if its folder has gone."""
        with self.guarded():
            self._looked = time.monotonic()
            self.study.check()

    def share(self) -> float:
        """How much of `stop` has been charged."""
        history, stop = self.study.history, self.study.stop
        done: dict[str, float] = {"epochs": history.charged, "trials": len(history.records)}
        done["hours"] = history.hours
        return max(done[unit] / float(stop[unit]) for unit in done if stop.get(unit))

    def next(self) -> Trial | None:
        """The next trial to run; None: it waits, or has ended."""
        if self.waits:
            return None
        trial = self.study.next()
        self._show_finished()  # duplicates are told while asking
        if trial is not None:
            if self._observer:
                self._observer.started(trial)
            return trial
        self.waits = bool(self.study.running)
        if not self.waits:
            sweep(self.study)
            self.end = "finished"
        return None

    def job(
        self, trial: int, part: int | None = None, attempt: int = 0, alone: bool = False
    ) -> Job:
        study, spec = self.study, self.study.spec
        given, parent = places.with_parent(study, study.given(trial, part))
        begun = attempt > 0 or trial < self._asked_before
        curve: list[dict[str, Any]] = []
        if begun and spec.task.resumable:
            curve = folder.received_curve(study.directory, trial, study.history.id, part)
        return Job(
            trial=replace(given, start_epoch=len(curve), attempt=attempt),
            task=spec.task,
            wanted=study.wanted,
            log=folder.log_path(study.place, trial, part),
            mark=self._mark,
            received=curve[-1]["metrics"] if curve else {},
            audited=curve[-1].get("audit", {}) if curve else {},
            parent=parent,
            plugins=spec.scope,
            sources=self._sources,
            limits=spec.limits.times,
            alone=alone,
            watched=spec.prune is not None,
        )

    def progressed(self, job: Job, progress: Progress) -> bool:
        """Record an epoch; whether the trial is told with it."""
        if self.end == "broken":  # a row was not written: those after it do not count
            return False
        with self.guarded():
            told = self.study.progress(progress, job.trial.part)
            if self._observer:
                self._observer.progressed(self.left.of_all(progress, job.trial.part))
            if told:
                self.waits = False
                self._errors = 0
                self._show_finished()
            return told
        return False

    def tick(self, stopping: bool) -> None:
        if time.monotonic() > self._looked + LOOK_SECONDS:
            self.check()
        if self._observer:
            self._observer.tick(stopping)

    def retried(self, job: Job, outcome: Outcome) -> Job | None:
        """The trial's next attempt, where its failure is not its own."""
        failure, trial, part = outcome.failure, job.trial.id, job.trial.part
        if failure is None or self.end == "broken":
            return None
        if failure.kind == "lost" and self.study.lost(trial, failure.text, part) <= MAX_LOST:
            return self.job(trial, part, job.trial.attempt + 1, job.alone)
        if failure.kind == "oom" and (trial, part) not in self._out_of_memory:
            self._out_of_memory.add((trial, part))
            log.warning("trial=%d failure=oom action=once_more_alone", trial)
            return self.job(trial, part, job.trial.attempt + 1, alone=True)
        return None

    def ended(self, job: Job, outcome: Outcome) -> bool:
        """Record an outcome; the study may stop itself, and leaves a lost trial untold.

        Whether the trial has ended with it: others of its trainings may be to come.
        """
        self.waits = False
        if self.end == "broken":
            return True
        if outcome.failure and outcome.failure.kind == "lost":
            self._stop_after("lost", outcome)
            return True
        self.study.record(outcome, job.trial.part)
        discard(self.study, job.trial)
        self._show_finished()
        whole = self.study.history.records[job.trial.id].outcome
        if whole is None:
            return False
        self._count_errors(whole)
        return True

    def _count_errors(self, outcome: Outcome) -> None:
        kind = outcome.failure.kind if outcome.failure else None
        self._errors = self._errors + 1 if kind == "error" else 0
        if self._errors >= self.study.spec.limits.max_consecutive_errors:
            self._stop_after("errors", outcome)

    def _stop_after(self, end: End, outcome: Outcome) -> None:
        text = shortened(outcome.failure.text) if outcome.failure else ""
        self.stop_itself(end, f"trial {outcome.trial}: {text}")

    def stop_itself(self, end: End, text: str) -> None:
        self.end, self._text = end, text

    def _show_finished(self) -> None:
        """Show the observer every trial that was told since, in order of number."""
        for record in self.study.take_told():
            self._finished += 1
            self.weights.told(record)
            if self._observer:
                self._observer.finished(record)
