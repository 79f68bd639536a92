"""Drives one study or many on one executor to their end: dispatch, record, retry.

The only module that knows both studies and executors; `run` and `run_all` are for users, too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpogen.errors import CannotGoOn, shortened
from hpogen.executors.base import Executor, ExecutorLost, Job
from hpogen.plugins.interrupts import interrupts
from hpogen.record import folder, lock
from hpogen.record.provenance import digest, digests
from hpogen.running.keeping import BestWeights, discard, sweep
from hpogen.running.observer import Observer
from hpogen.running.reuse import Sharing
from hpogen.running.signals import StopRequest
from hpogen.running.trainings import Trainings
from hpogen.study import places
from hpogen.study.study import Study
from hpogen.trial import Outcome, Progress, Trial

log = logging.getLogger("hpogen.runner")

WAIT_SECONDS = 0.1
LOOK_SECONDS = 0.5  # between two looks at whether a study's folder is still there
MAX_LOST = 3

End = Literal["finished", "interrupted", "time", "errors", "lost", "broken", "cluster"]


@dataclass(frozen=True)
class Result:
    """How a run ended, how many trials it finished, and what stopped it (one line, or empty)."""

    end: End
    trials: int
    text: str = ""


def run(
    study: Study,
    executor: Executor | None = None,
    *,
    seconds: float | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run, or go on with, a study until it ends, is asked to stop, or `seconds` have passed.

    Failed trials are outcomes; the study stops itself after `limits.max_consecutive_errors` errors
    of user code in a row, when a trial loses its worker a fourth time, or when the executor has
    gone ("cluster"). Running trials that can be resumed keep a checkpoint; the executor stays open.
    """
    observers = [observer] if observer else []
    return run_all([study], executor, seconds=seconds, observers=observers)[0]


def run_all(
    studies: Sequence[Study],
    executor: Executor | None = None,
    *,
    seconds: float | None = None,
    observers: Sequence[Observer] = (),
) -> list[Result]:
    """Run many studies in one pool; how each ended. `observers` are theirs, in the same order.

    A free slot goes to the study that is least far, unless that one waits for its own trials. A
    trial that another of the studies has trained, or trains, is not trained again. A study that
    stops itself does not stop the others.
    """
    if executor is None:
        from hpogen.executors.inline import InlineExecutor

        executor = InlineExecutor()
    with (
        interrupts(),
        StopRequest() as stop,
        contextlib.closing(_Pool(studies, executor, observers)) as pool,
    ):
        try:
            pool.loop(stop, None if seconds is None else time.monotonic() + seconds)
        except ExecutorLost as error:
            pool.give_up(str(error))
        for drive in pool.drives:
            drive.check()
            drive.weights.tidy(over=drive.end == "finished")
        return [drive.result for drive in pool.drives]


class _Pool:
    """One run: which job is whose."""

    def __init__(
        self, studies: Sequence[Study], executor: Executor, observers: Sequence[Observer]
    ) -> None:
        self._executor = executor
        lookers: Sequence[Observer | None] = observers or [None] * len(studies)
        shares = len(studies) > 1
        self.drives = [_Drive(s, o, shares) for s, o in zip(studies, lookers, strict=True)]
        self._sharing = Sharing(studies, executor.device_type) if shares else None
        self._jobs: dict[Job, _Drive] = {}

    def close(self) -> None:
        self._executor.cancel()

    def loop(self, stop: StopRequest, deadline: float | None) -> None:
        while True:
            late = deadline is not None and time.monotonic() >= deadline
            if stop.requested or late:
                for drive in self._active():
                    drive.end = "interrupted" if stop.requested else "time"
                return
            self._dispatch()
            if not any(self._active()):
                return
            for job, event in self._executor.wait(WAIT_SECONDS):
                if isinstance(event, Progress):
                    self._jobs[job].progressed(job, event)
                else:
                    self._ended(job, event)
            for drive in self.drives:
                drive.tick(stop.requested)

    def give_up(self, text: str) -> None:
        """The executor has gone; the trials that run are untold, and go on another time."""
        log.error("executor=lost text=%r", text)
        for drive in self._active():
            drive.stop_itself("cluster", text)

    def _active(self) -> Iterator[_Drive]:
        return (drive for drive in self.drives if drive.end is None)

    def _dispatch(self) -> None:
        while len(self._jobs) < self._executor.slots:
            for drive in sorted(self._active(), key=_Drive.share):
                if (job := self._next(drive)) is not None:
                    self._submit(drive, job)
                    break
            else:
                return

    def _next(self, drive: _Drive) -> Job | None:
        """The next training of a study. None: it waits, or has ended."""
        with drive.guarded():
            while not drive.left and (trial := drive.next()) is not None:
                if self._sharing is None or not self._sharing.serves(drive.study, trial):
                    drive.left.add(trial.id)
            return drive.job(*drive.left.pop()) if drive.left else None
        return None

    def _submit(self, drive: _Drive, job: Job) -> None:
        self._jobs[job] = drive
        self._executor.submit(job)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """Record an outcome, or try the trial again."""
        drive = self._jobs.pop(job)
        with drive.guarded():
            again = drive.retried(job, outcome)
            if again is not None:
                self._submit(drive, again)
                return
            if not drive.ended(job, outcome):
                return
        if self._sharing is not None:
            trial = drive.study.history.records[job.trial.id].trial
            for claim in self._sharing.ended(drive.study, trial):
                owner = next(d for d in self.drives if d.study is claim.study)
                owner.left.add(claim.trial.id)
                self._submit(owner, owner.job(*owner.left.pop()))
            for other in self._active():
                other.waits = False
        drive.weights.tidy()  # now that the trials which waited for this one have their copies


class _Drive:
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
        done = {"epochs": history.charged, "trials": len(history.records)}
        return max(done[unit] / limit for unit, limit in stop.items() if limit)

    def next(self) -> Trial | None:
        """The next trial to run; None: it waits, or has ended."""
        if self.waits:
            return None
        self.study.check()
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
        received = folder.received_curve(study.directory, trial, study.history.id, part)
        curve = received if spec.task.resumable else []
        return Job(
            trial=replace(given, start_epoch=len(curve), attempt=attempt),
            task=spec.task,
            wanted=study.wanted,
            log=folder.log_path(study.directory.absolute(), trial, part),
            mark=self._mark,
            received=curve[-1]["metrics"] if curve else {},
            parent=parent,
            plugins=spec.scope,
            sources=self._sources,
            limits=spec.limits.times,
            alone=alone,
        )

    def progressed(self, job: Job, progress: Progress) -> None:
        if self.end == "broken":  # a row was not written: those after it do not count
            return
        with self.guarded():
            self.study.progress(progress, job.trial.part)
            if self._observer:
                self._observer.progressed(self.left.of_all(progress, job.trial.part))

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
