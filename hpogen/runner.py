"""Drives a study on an executor to its end: dispatch, record, retry, stop.

The only module that knows both the study and the executor; the command line and users call `run`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from hpogen import folder
from hpogen.executors.base import Executor, Job
from hpogen.executors.worker import running_trial
from hpogen.history import Record
from hpogen.signals import StopRequest
from hpogen.study import Study
from hpogen.trial import Outcome, Progress, Trial

log = logging.getLogger("hpogen.runner")

WAIT_SECONDS = 0.1
MAX_LOST = 3

End = Literal["finished", "interrupted", "time", "errors", "lost"]


@dataclass(frozen=True)
class Result:
    """How a run ended, how many trials it finished, and what stopped it (one line, or empty)."""

    end: End
    trials: int
    text: str = ""


class Observer(Protocol):
    """Looks on: what the live table is drawn from."""

    def started(self, trial: Trial) -> None: ...

    def progressed(self, progress: Progress) -> None: ...

    def finished(self, record: Record) -> None: ...

    def tick(self, stopping: bool) -> None: ...


def run(
    study: Study,
    executor: Executor | None = None,
    *,
    seconds: float | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run, or go on with, a study until it ends, is asked to stop, or `seconds` have passed.

    Failed trials are outcomes; the study stops itself after `limits.max_consecutive_errors` errors
    of user code in a row, or when a trial loses its worker a fourth time. Running trials that can
    be resumed keep a checkpoint.
    """
    if executor is None:
        from hpogen.executors.inline import InlineExecutor

        executor = InlineExecutor()
    with StopRequest() as stop, contextlib.closing(_Run(study, executor, observer)) as driver:
        return driver.loop(stop, None if seconds is None else time.monotonic() + seconds)


class _Run:
    """One drive: what is under way and what went wrong so far."""

    def __init__(self, study: Study, executor: Executor, observer: Observer | None) -> None:
        self._study = study
        self._executor = executor
        self._observer = observer
        self._jobs: dict[int, Job] = {}
        self._out_of_memory: set[int] = set()
        self._errors = 0  # in a row
        self._finished = 0

    def close(self) -> None:
        self._executor.stop()

    def loop(self, stop: StopRequest, deadline: float | None) -> Result:
        while True:
            late = deadline is not None and time.monotonic() >= deadline
            if stop.requested or late:
                return Result("interrupted" if stop.requested else "time", self._finished)
            self._dispatch()
            if not self._jobs:
                self._sweep()
                return Result("finished", self._finished)
            for event in self._executor.wait(WAIT_SECONDS):
                if isinstance(event, Progress):
                    self._progressed(event)
                elif (text := self._ended(event)) is not None:
                    return text
            if self._observer:
                self._observer.tick(stop.requested)

    def _dispatch(self) -> None:
        while len(self._jobs) < self._executor.slots:
            trial = self._study.next()
            self._show_finished()  # duplicates are told while asking
            if trial is None:
                return
            self._submit(self._job(trial))
            if self._observer:
                self._observer.started(trial)

    def _submit(self, job: Job) -> None:
        self._jobs[job.trial.id] = job
        self._executor.submit(job)

    def _job(self, trial: Trial, attempt: int = 0, alone: bool = False) -> Job:
        study = self._study
        stem = folder.trial_stem(study.directory, trial.id)
        curve = folder.received_curve(study.directory, trial.id)
        resumed = len(curve) if study.spec.task.resumable else 0
        continued = study.spec.rungs == "continue" and trial.parent is not None
        parent = study.history.records[trial.parent or 0].trial
        return Job(
            trial=trial,
            task=study.spec.task,
            wanted=study.wanted,
            directory=stem,
            log=folder.log_path(study.directory, trial.id),
            start_epoch=resumed,
            received=curve[-1]["metrics"] if resumed else {},
            attempt=attempt,
            keep=study.spec.checkpoints.keep,
            parent=folder.trial_stem(study.directory, parent.id) if continued else None,
            parent_epochs=parent.budget if continued else 0,
            plugins=study.spec.plugins,
            limits=study.spec.limits.times,
            alone=alone,
        )

    def _progressed(self, progress: Progress) -> None:
        self._study.progress(progress)
        if self._observer:
            self._observer.progressed(progress)

    def _ended(self, outcome: Outcome) -> Result | None:
        """Record an outcome, or try the trial again; a Result when the study must stop."""
        job = self._jobs.pop(outcome.trial)
        kind = outcome.failure.kind if outcome.failure else None
        text = outcome.failure.text if outcome.failure else ""
        if kind == "lost":
            if self._study.lost(outcome.trial, text) > MAX_LOST:
                return Result("lost", self._finished, f"trial {outcome.trial}: {text}")
            self._submit(self._job(job.trial, job.attempt + 1, job.alone))
            return None
        if kind == "oom" and outcome.trial not in self._out_of_memory:
            self._out_of_memory.add(outcome.trial)
            log.warning("trial=%d failure=oom action=once_more_alone", outcome.trial)
            self._submit(self._job(job.trial, job.attempt + 1, alone=True))
            return None
        self._study.record(outcome)
        self._discard(job)
        self._show_finished()
        self._errors = self._errors + 1 if kind == "error" else 0
        if self._errors >= self._study.spec.limits.max_consecutive_errors:
            return Result("errors", self._finished, f"trial {outcome.trial}: {text}")
        return None

    def _show_finished(self) -> None:
        """Show the observer every trial that was told since, in order of number."""
        for record in self._study.take_told():
            self._finished += 1
            if self._observer:
                self._observer.finished(record)

    def _discard(self, job: Job) -> None:
        """Delete what the trial kept for going on, unless a rung above may continue it."""
        spec = self._study.spec
        if spec.rungs == "continue" and job.trial.budget < max(spec.budgets):
            return
        _discard(job)

    def _sweep(self) -> None:
        """At the end of a study nothing is promotable any more."""
        spec = self._study.spec
        if spec.rungs != "continue" or spec.checkpoints.keep != "none":
            return
        for record in self._study.history.records:
            if record.trial.budget < max(spec.budgets):
                _discard(self._job(record.trial))


def _discard(job: Job) -> None:
    if job.directory.exists():
        job.task.discard(running_trial(job))
        with contextlib.suppress(OSError):  # not empty: the user's own files stay
            job.directory.rmdir()
