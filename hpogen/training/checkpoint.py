"""A trial's checkpoints in its store: written whole or not at all, read without executing code.

A file's name says whose it is, how far it goes, which attempt wrote it and, last, the CRC-32 of its
content. Another study's are left alone: neither read nor deleted.
"""

from __future__ import annotations

import io
import logging
import pickle
import re
import time
import zlib
from collections.abc import Set
from typing import Any

import torch

from hpogen.record.stores import Store, checkpoint_prefix, store_at
from hpogen.trial import RunningTrial, canonical

FORMAT = 1
INTERVAL = 10.0  # seconds between two checkpoints, at least
SHARE = 0.01  # of the time, at most, goes into them
NEWEST = 2  # kept while the trial runs
NAME = re.compile(r"checkpoint-(?:[0-9a-f]+-)?e(\d+)-s(\d+)-a(\d+)-([0-9a-f]{8})\.pt")

log = logging.getLogger(__name__)
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one running trial. `sums` are the metrics it adds up over epochs.

    The state goes through as a mapping of tensors, numbers, strings, lists and mappings.
    """

    def __init__(self, trial: RunningTrial, sums: frozenset[str], *, continuable: bool) -> None:
        self._trial = trial
        self._sums = sorted(sums)
        self._parent = trial.parent if continuable and not trial.warm else None
        self._written: tuple[int, int] | None = None  # the position of the newest
        self._last = time.monotonic()
        self._cost = 0.0
        self._store = store_of(trial)
        self._prefix = checkpoint_prefix(trial.study)
        for name in self._store.names():
            if name.startswith(f"{self._prefix}e") and name.endswith(".tmp"):
                self._store.delete(name)

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= max(INTERVAL, self._cost / SHARE)

    def save(self, epoch: int, step: int, state: State) -> None:
        """Write the state at `step` steps after `epoch` epochs, unless it stands there already.

        Where it cannot be written, a warning says so and the trial goes on.
        """
        if self._written == (epoch, step):
            return
        begin = time.monotonic()
        trial = self._trial
        identity = {"format": FORMAT, "trial": trial.id, **self._identity()}
        buffer = io.BytesIO()
        torch.save({"identity": identity, "state": state}, buffer)
        content = buffer.getbuffer()
        crc = zlib.crc32(content)
        name = f"{self._prefix}e{epoch:06d}-s{step:06d}-a{trial.attempt:02d}-{crc:08x}.pt"
        try:
            self._store.write(name, content)
            if trial.keep != "all":
                for old in newest_first(self._store, trial.study)[NEWEST:]:
                    self._store.delete(old)
            self._written = (epoch, step)
        except Exception as error:  # a full disk, a network that is away: the training is well
            log.warning("checkpoint=%s written=false: %s: %s", name, type(error).__name__, error)
        self._last = time.monotonic()
        self._cost = self._last - begin

    def load(self) -> State | None:
        """The state of the furthest good checkpoint of this trial within its budget, if any."""
        whose = {self._trial.id, self._parent}
        state = self._load(self._store, whose)
        if state is None and self._trial.inherited and self._parent is not None:
            state = self._load(store_at(self._trial.inherited), whose)
        return state

    def parents(self) -> State:
        """The state of the trial with whose weights this one begins. Raises FileNotFoundError."""
        state = self._load(store_at(self._trial.inherited), None)
        if state is None:
            raise FileNotFoundError(
                f"trial {self._trial.id} begins with the weights of trial {self._trial.parent}, "
                f"and {self._trial.inherited} does not have them"
            )
        return state

    def _load(self, store: Store, whose: Set[int | None] | None) -> State | None:
        for name in newest_first(store, self._trial.study):
            epoch, step = position(name)
            if (epoch, step) > (self._trial.budget, 0):
                continue
            content = _read(store, name)
            if content is None:
                log.warning("checkpoint=%s damaged=true: the one before is used", name)
            elif not self._is_ours(content["identity"], whose):
                log.warning("checkpoint=%s ignored: of another trial or config", name)
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

    def _is_ours(self, identity: State, whose: Set[int | None] | None) -> bool:
        known = {"format": FORMAT, **self._identity()}
        named = whose is None or identity.get("trial") in whose - {None}
        return named and all(identity.get(key) == value for key, value in known.items())


def store_of(trial: RunningTrial) -> Store:
    """Where the trial's checkpoints are."""
    return store_at(trial.checkpoints or str(trial.home))


def discard(trial: RunningTrial) -> None:
    """Delete the checkpoints that do not outlive the trial; with `final` the furthest stays."""
    if trial.keep != "all":
        store = store_of(trial)
        for name in newest_first(store, trial.study)[1 if trial.keep == "final" else 0 :]:
            store.delete(name)


def newest_first(store: Store, study: str = "") -> list[str]:
    """The study's checkpoints of a trial, the furthest first."""
    own = f"{checkpoint_prefix(study)}e"
    names = (name for name in store.names() if name.startswith(own))
    return sorted(filter(NAME.fullmatch, names), reverse=True)


def position(name: str) -> tuple[int, int]:
    """Epochs done, and steps after them, that a checkpoint's name says."""
    epochs, steps, *_ = NAME.findall(name)[0]
    return int(epochs), int(steps)


def _read(store: Store, name: str) -> State | None:
    """The content of a whole checkpoint, None for a damaged one."""
    data, (*_, crc) = store.read(name), NAME.findall(name)[0]
    if zlib.crc32(data) != int(crc, 16):
        return None
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return None
    whole = isinstance(content, dict) and {"identity", "state"} <= content.keys()
    return content if whole else None
