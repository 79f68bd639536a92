"""A trial's checkpoints on disk: written whole or not at all, read without executing code.

A file's name says how far it goes, which attempt wrote it and, last, the CRC-32 of its content.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hpogen.trial import Keep, RunningTrial, canonical

FORMAT = 1
INTERVAL = 10.0  # seconds between two checkpoints, at least
SHARE = 0.01  # of the time, at most, goes into them
NEWEST = 2  # kept while the trial runs
NAME = re.compile(r"checkpoint-e(\d+)-s(\d+)-a(\d+)-([0-9a-f]{8})\.pt")

log = logging.getLogger(__name__)
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one running trial. `sums` are the metrics it adds up over epochs.

    The state goes through as a mapping of tensors, numbers, strings, lists and mappings.
    """

    def __init__(self, trial: RunningTrial, sums: frozenset[str], *, continuable: bool) -> None:
        self._trial = trial
        self._sums = sorted(sums)
        self._parent = trial.parent if continuable else None
        self._written: tuple[int, int] | None = None  # the position of the newest
        self._last = time.monotonic()
        self._cost = 0.0
        for unfinished in trial.directory.glob("checkpoint-*.tmp"):
            unfinished.unlink()

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= max(INTERVAL, self._cost / SHARE)

    def save(self, epoch: int, step: int, state: State) -> None:
        """Write the state at `step` steps after `epoch` epochs, unless it stands there already."""
        if self._written == (epoch, step):
            return
        begin = time.monotonic()
        trial = self._trial
        identity = {"format": FORMAT, "trial": trial.id, **self._identity()}
        buffer = io.BytesIO()
        torch.save({"identity": identity, "state": state}, buffer)
        content = buffer.getbuffer()
        name = f"checkpoint-e{epoch:06d}-s{step:06d}-a{trial.attempt:02d}-{zlib.crc32(content):08x}"
        temporary = trial.directory / f"{name}.tmp"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(trial.directory / f"{name}.pt")
        if trial.keep != "all":
            for old in newest_first(trial.directory)[NEWEST:]:
                old.unlink(missing_ok=True)
        self._written = (epoch, step)
        self._last = time.monotonic()
        self._cost = self._last - begin

    def load(self) -> State | None:
        """The state of the furthest good checkpoint of this trial within its budget, if any."""
        for path in newest_first(self._trial.directory):
            epoch, step = position(path)
            if (epoch, step) > (self._trial.budget, 0):
                continue
            content = _read(path)
            if content is None:
                log.warning("checkpoint=%s damaged=true: the one before is used", path.name)
            elif not self._is_ours(content["identity"]):
                log.warning("checkpoint=%s ignored: of another trial or config", path.name)
            else:
                if content["identity"]["trial"] == self._trial.id:
                    self._written = (epoch, step)
                state: State = content["state"]
                return state
        return None

    def _identity(self) -> State:
        return {
            "config": canonical(self._trial.config),
            "seed": self._trial.seed,
            "sums": self._sums,
        }

    def _is_ours(self, identity: State) -> bool:
        known = {"format": FORMAT, **self._identity()}
        trials = {self._trial.id, self._parent} - {None}
        return identity.get("trial") in trials and all(
            identity.get(key) == value for key, value in known.items()
        )


def discard(directory: Path, keep: Keep) -> None:
    """Delete the checkpoints that do not outlive the trial; with `final` the furthest stays."""
    if keep != "all":
        for path in newest_first(directory)[1 if keep == "final" else 0 :]:
            path.unlink(missing_ok=True)


def newest_first(directory: Path) -> list[Path]:
    """The checkpoints in a trial's folder, the furthest first."""
    return sorted(_checkpoints(directory), key=lambda path: path.name, reverse=True)


def position(path: Path) -> tuple[int, int]:
    """Epochs done, and steps after them, that a checkpoint's name says."""
    match = NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _checkpoints(directory: Path) -> Iterator[Path]:
    return (path for path in directory.glob("checkpoint-*.pt") if NAME.fullmatch(path.name))


def _read(path: Path) -> State | None:
    """The content of a whole checkpoint, None for a damaged one."""
    match = NAME.fullmatch(path.name)
    data = path.read_bytes()
    if match is None or zlib.crc32(data) != int(match[4], 16):
        return None
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return None
    whole = isinstance(content, dict) and {"identity", "state"} <= content.keys()
    return content if whole else None
