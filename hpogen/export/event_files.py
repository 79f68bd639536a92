"""A study as TensorBoard's event files in its folder, a TensorBoard run per trial.

    tensorboard --logdir DIR/tensorboard

`tracking.py` writes them while the study runs. What is there already is read from the files, where
each epoch, and the end of a trial, is one record, whole or not there.
"""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpogen.export.rows import told_answer
from hpogen.export.trackers import Rows
from hpogen.record.history import Record
from hpogen.spec.tracking import Track
from hpogen.study.read import Folder

FOLDER = "tensorboard"
ANSWER = "answer"  # the run, and the text, that the verdict is
END = "_hparams_/session_end_info"  # the tag by which TensorBoard knows that a run has ended
HEAD, CRC = struct.Struct("<QI"), 4  # of a record: its length with a checksum; that of the data


class EventFiles:
    """The files of a study. The step is the epoch.

    `audit/loss` and `seconds/train` stand apart from the metrics; the configuration and the score
    stand under "HParams", the study's answer under "Text". Raises OSError.
    """

    def __init__(self, study: Folder) -> None:
        self._study, self._home = study, study.directory / FOLDER
        self._files: dict[str, Any] = {}  # of the trials that are written
        self._epochs: dict[int, set[int]] = {}
        self._answer = ""
        self.ended = {*self._begin()}

    def show(self, record: Record, rows: Rows) -> None:
        """Metrics, audit and seconds of each epoch."""
        trial = record.trial.id
        there = self._epochs.setdefault(trial, set())
        for found in rows:
            if (epoch := found["epoch"]) not in there:
                groups = {"": "metrics", "audit/": "audit", "seconds/": "seconds"}
                values = {
                    f"{group}{name}": x
                    for group, key in groups.items()
                    for name, x in found.get(key, {}).items()
                }
                self._write(_name(trial), _scalars(values), epoch)
                there.add(epoch)

    def end(self, record: Record) -> None:
        """Configuration and metrics for "HParams"."""
        from tensorboardX.summary import hparams

        trial, outcome = record.trial, record.outcome
        score = {"score": record.score} if math.isfinite(record.score) else {}
        metrics = {**(outcome.metrics if outcome else {}), **score}
        data = {} if trial.data is None else {"data": trial.data}
        config = {name: "null" if x is None else x for name, x in trial.config.items()}
        told = hparams({**config, "budget": trial.budget, **data}, metrics)
        values = [*_scalars(score), *(value for summary in told for value in summary.value)]
        self._write(_name(trial.id), values, trial.budget)
        self._files.pop(_name(trial.id)).close()
        self._epochs.pop(trial.id, None)

    def answer(self, record: Record) -> None:
        from tensorboardX.summary import text

        if (said := told_answer(self._study, record)) != self._answer:
            self._write(ANSWER, text(ANSWER, said).value, len(self._study.history.records))
            self._answer = said

    def close(self) -> None:
        """Close the files of the trials that have not ended."""
        while self._files:
            self._files.popitem()[1].close()

    def _begin(self) -> Iterator[int]:
        """Read what is there; the trials that have ended."""
        for folder in self._home.iterdir() if self._home.is_dir() else ():
            found = [*_events(folder)]
            if folder.name == ANSWER and found:
                self._answer = found[-1].summary.value[0].tensor.string_val[0].decode()
            elif folder.name.isdecimal():
                epochs = self._epochs.setdefault(int(folder.name), set())
                for event in found:
                    if any(value.tag == END for value in event.summary.value):
                        yield int(folder.name)
                    elif event.summary.value:
                        epochs.add(event.step)

    def _write(self, run: str, values: Iterable[Any], step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        summary = Summary(value=[*values])
        file = self._file(run)
        file.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        file.flush()

    def _file(self, run: str) -> Any:
        """Opened once: TensorBoard reads all files of a folder as one run."""
        from tensorboardX.event_file_writer import EventsWriter

        if run not in self._files:
            folder = self._home / run
            folder.mkdir(parents=True, exist_ok=True)
            number = len([*folder.iterdir()])  # a name has seconds alone
            self._files[run] = EventsWriter(str(folder / "events"), filename_suffix=f".{number}")
        return self._files[run]


def _name(trial: int) -> str:
    return f"{trial:05d}"


def _scalars(values: Mapping[str, float]) -> list[Any]:
    from tensorboardX.summary import scalar

    return [value for name, x in values.items() for value in scalar(name, x).value]


def _events(folder: Path) -> Iterator[Any]:
    """The whole records of a run's files; a torn end, of a killed process, is passed over."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        with contextlib.suppress(struct.error):
            while data:
                length, _ = HEAD.unpack_from(data)
                end = HEAD.size + length
                if len(data) < end + CRC:
                    break
                yield Event.FromString(data[HEAD.size : end])
                data = data[end + CRC :]


def opened(track: Track, study: Folder) -> EventFiles:
    """The files in the study's folder."""
    return EventFiles(study)
