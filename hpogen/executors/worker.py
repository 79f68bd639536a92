"""Runs one job to its Outcome, step by step: what every executor does with a trial.

This is the one place where a trial's exception becomes an Outcome.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from hpogen.errors import why
from hpogen.executors.base import Job
from hpogen.plugins import scope
from hpogen.plugins.guest import PLUGINS, Place, described, guest
from hpogen.record.provenance import code_of
from hpogen.tasks.base import Diverged, Epoch, is_out_of_memory
from hpogen.trial import Failure, Outcome, Progress


def run_job(job: Job, device: str, gpus: int | None = None) -> Iterator[Progress | Outcome | None]:
    """Yield a Progress after each epoch, None now and then, and the Outcome at last.

    `gpus` are those that are there for it on a `device` that is one; None: as many as it asks for.
    Closing the iterator stops the trial cleanly. What the task prints goes to the trial's log.
    """
    count = 0 if device == "cpu" else gpus or job.task.gpus_per_trial
    trial = replace(job.trial, device=device, gpus=count)
    continued = job.parent.budget if job.parent and not job.trial.warm else 0
    last = Epoch(trial.start_epoch, job.received, job.audited)
    begin = epoch_begin = time.monotonic()
    log, place = LazyFile(job.log), Place(PLUGINS.folder)
    steps: Any = None
    try:
        _set_threads(job.task.threads)
        _make_home(job)
        steps = job.task.train(trial, job.wanted)
        while (step := _next(steps, log, place, job)) is not DONE:
            now = time.monotonic()
            _check_time(job, trial=now - begin, epoch=now - epoch_begin)
            if step is None:
                yield None
                continue
            _check_budget(step, job)
            last = step
            _check(step, job)
            seconds = step.seconds or {"total": now - epoch_begin}
            epoch_begin = now
            yield Progress(
                trial.id, step.epoch, step.metrics, seconds, device, step.memory, step.audit
            )
        steps = None  # it has ended by itself
        yield _outcome(job, last, begin, continued, device)
    except Exception as error:
        log.write(traceback.format_exc())
        epochs = max(last.epoch - continued, 0)
        failure = failure_of(error, trial.home.parent)
        yield Outcome(
            trial.id, {}, epochs=epochs, failure=failure, code=code_of(job.sources, device)
        )
    finally:
        if steps is not None:
            _close(steps, log, place, job)
        log.close()


def _outcome(job: Job, last: Epoch, begin: float, continued: int, device: str) -> Outcome:
    """Of a trial that ended well, `continued` epochs of which are another's."""
    trial, code = job.trial, code_of(job.sources, device)
    seconds = last.seconds or {"total": time.monotonic() - begin}
    spared = trial.budget - last.epoch if last.final else 0
    epochs = max(trial.budget - spared - continued, 0)
    return Outcome(
        trial.id, last.metrics, last.audit, seconds, epochs, None, last.files, code, spared
    )


def _make_home(job: Job) -> None:
    """Make where the trial's folder goes; that of one that continues another is a copy at first.

    Checkpoints that are kept at a URL the task reads there.
    """
    home = job.trial.home
    if not home.parent.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
    if job.parent is not None and not job.trial.inherited and not home.exists():
        temporary = home.with_name(home.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(job.parent.home, temporary)
        temporary.replace(home)


def _set_threads(threads: int) -> None:
    """The number of threads changes the last bits of a training: it is the study's, not ours."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _check_time(job: Job, **seconds: float) -> None:
    for what, taken in seconds.items():
        limit = job.limits.get(f"{what}_seconds")
        if limit is not None and taken > limit:
            raise OverTime(f"{taken:.3g} s, limits.{what}_seconds is {limit:g}")


class OverTime(Exception):
    """A trial, or an epoch of it, has taken longer than the study allows."""


def failure_of(error: BaseException, home: Path) -> Failure:
    """The class of a trial's failure and one line of text. `home` is where the trial writes."""
    text = described(error)
    if isinstance(error, Diverged):
        return Failure("diverged", why(error))
    if isinstance(error, OverTime):
        return Failure("timeout", str(error))
    if is_out_of_memory(error):
        return Failure("oom", text)
    return Failure("lost" if _is_full(error, home) else "error", text)


def _is_full(error: BaseException, home: Path) -> bool:
    """Whether the trial failed because its disk is full, which another time it is not."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:  # NumPy's and torch's errors do not say what it was
        return os.statvfs(home).f_bavail == 0
    except OSError:
        return False


DONE = object()


@contextlib.contextmanager
def _inside(log: LazyFile, place: Place, job: Job) -> Iterator[None]:
    """Where a task's code runs: what it prints is the trial's, the plug-ins are the study's."""
    before = sys.stdout, sys.stderr
    try:
        sys.stdout = sys.stderr = log
        with scope(job.plugins), guest(place):
            yield
    finally:
        sys.stdout, sys.stderr = before


def _next(steps: Any, log: LazyFile, place: Place, job: Job) -> Any:
    with _inside(log, place, job):
        return next(steps, DONE)


def _close(steps: Any, log: LazyFile, place: Place, job: Job) -> None:
    """Stop a task. What it raises then, or a generator that goes on, is for the log alone."""
    try:
        with _inside(log, place, job):
            steps.close()
    except Exception:
        log.write(traceback.format_exc())


def _check_budget(epoch: Epoch, job: Job) -> None:
    """A task that goes on is stopped there; nothing tells which of its epochs was meant."""
    if epoch.epoch > job.trial.budget:
        raise ValueError(
            f"task {job.task.name!r} went on after the trial's budget of {job.trial.budget} epochs"
        )


def _check(epoch: Epoch, job: Job) -> None:
    for name, value in {**epoch.metrics, **epoch.audit}.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} after epoch {epoch.epoch}")
    missing = sorted(job.wanted - set(epoch.metrics))
    if missing and (epoch.final or epoch.epoch == job.trial.budget):
        raise ValueError(f"task {job.task.name!r} did not give the metric {missing[0]!r}")


class LazyFile:
    """A text file to append to, made when the first text comes: most trials print nothing.

    Where it cannot be written, a warning says so once, and the trial goes on without it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._off = False

    def write(self, text: str) -> int:
        with self._guarded():
            self._opened().write(text)
        return len(text)

    def fileno(self) -> int:
        """For a program to write to, and for reading what it wrote."""
        with self._guarded():
            return self._opened().fileno()
        self._path = Path(os.devnull)
        return self._opened().fileno()

    def _opened(self) -> IO[str]:
        if self._file is None:  # line by line
            self._file = open(self._path, "a+", 1, encoding="utf-8", errors="replace")  # noqa: SIM115
        return self._file

    def flush(self) -> None:
        with self._guarded():
            if self._file is not None:
                self._file.flush()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        with self._guarded():
            file, self._file = self._file, None
            if file is not None:
                file.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._off:
                warn = logging.getLogger("hpogen.executors").warning
                warn("log=%s written=false: %s", self._path, error.strerror)
            self._off = True
