"""TensorBoard's event files, written while a study runs: an observer beside the live table.

    tensorboard --logdir DIR/tensorboard

One TensorBoard run per trial. The runner calls the observer; nothing of hpogen reads the files.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpogen.record.history import Record
from hpogen.running.observer import Observer
from hpogen.trial import Progress, Trial

FOLDER = "tensorboard"

log = logging.getLogger(__name__)


class EventFiles:
    """Writes the metrics of each epoch, and at the end configuration and score ("HParams").

    The step is the epoch. `audit/loss` and `seconds/train` stand apart from the metrics. Where
    files cannot be written, a warning says so once, and the study goes on without them.
    """

    def __init__(self, directory: Path) -> None:
        self._home = directory / FOLDER
        self._files: dict[int, Any] = {}  # of the trials that run
        self._off = False

    def started(self, trial: Trial) -> None:
        """Nothing: the file is made with the first epoch."""

    def progressed(self, progress: Progress) -> None:
        groups = {"": progress.metrics, "audit/": progress.audit, "seconds/": progress.seconds}
        values = {f"{group}{name}": x for group, row in groups.items() for name, x in row.items()}
        self._guarded(lambda: self._scalars(progress.trial, values, progress.epoch))

    def finished(self, record: Record) -> None:
        self._guarded(lambda: self._end(record))

    def tick(self, stopping: bool) -> None:
        """Nothing."""

    def close(self) -> None:
        """Close the files of the trials that have not ended."""
        self._guarded(lambda: [self._file(trial).close() for trial in [*self._files]])

    def _guarded(self, write: Callable[[], object]) -> None:
        if self._off:
            return
        try:
            write()
        except OSError as error:
            self._off = True
            log.warning("event_files=%s written=false: %s", self._home, error.strerror)

    def _file(self, trial: int) -> Any:
        """Opened once per trial and run: TensorBoard reads all files of a folder as one."""
        from tensorboardX.event_file_writer import EventsWriter

        if trial not in self._files:
            folder = self._home / f"{trial:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            self._files[trial] = EventsWriter(str(folder / "events"))
        return self._files[trial]

    def _scalars(self, trial: int, values: Mapping[str, float], epoch: int) -> None:
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._write(trial, scalar(name, value), epoch)
        self._file(trial).flush()

    def _end(self, record: Record) -> None:
        from tensorboardX.summary import hparams

        trial, outcome = record.trial, record.outcome
        metrics = {**outcome.metrics} if outcome else {}
        if math.isfinite(record.score):
            metrics["score"] = record.score
        self._scalars(trial.id, metrics, trial.budget)
        data = {} if trial.data is None else {"data": trial.data}
        for summary in hparams({**trial.config, "budget": trial.budget, **data}, metrics):
            self._write(trial.id, summary, trial.budget)
        self._files.pop(trial.id).close()

    def _write(self, trial: int, summary: Any, epoch: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file(trial).write_event(Event(wall_time=time.time(), step=epoch, summary=summary))


class Together:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, trial: Trial) -> None:
        for observer in self._observers:
            observer.started(trial)

    def progressed(self, progress: Progress) -> None:
        for observer in self._observers:
            observer.progressed(progress)

    def finished(self, record: Record) -> None:
        for observer in self._observers:
            observer.finished(record)

    def tick(self, stopping: bool) -> None:
        for observer in self._observers:
            observer.tick(stopping)
