"""The checkpoint of a user's own loop: what it registers is kept, and brought back when it goes on.

`trial.checkpoint` of `tasks/own.py` is one. It is written as the built-in training's are, and so
read without executing code.
"""

from __future__ import annotations

import io
import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hpogen.tasks.own import Figures, OwnTrial
from hpogen.training.checkpoint import Checkpoints
from hpogen.training.random_state import random_state, set_random_state

METHODS = ("state_dict", "load_state_dict")


class OwnState:
    """Of one running trial. `reached` are the figures of its newest epoch, None before the first.

    A checkpoint is written after an epoch, at most every 10 s and for 1 % of the time, when the
    trial is stopped, and at its end. It has the random states of torch, NumPy and Python, too.
    """

    def __init__(self, trial: OwnTrial) -> None:
        self.reached: Figures | None = None
        self._trial = trial
        self._objects: dict[str, Any] = {}
        self._files: Checkpoints | None = None

    def register(self, **objects: Any) -> None:
        """Keep these from now on; where there is a checkpoint, give them back what it has.

        Each has `state_dict()` and `load_state_dict()`, as torch's modules, optimizers and
        schedulers have. `trial.epochs()` begins behind the checkpoint then, else at 0. Raises
        TypeError for what has them not, and for a state that is more than tensors, numbers, texts
        and collections of these.
        """
        if self._files is not None:
            raise ValueError("trial.checkpoint.register is called a second time: name all at once")
        for name, value in objects.items():
            if not all(callable(getattr(value, method, None)) for method in METHODS):
                raise TypeError(
                    f"trial.checkpoint.register: {name} is a {type(value).__name__}, expected "
                    "something with state_dict and load_state_dict"
                )
        _ = self._trial.directory  # it is made
        self._objects = objects
        self._files = Checkpoints(self._trial, frozenset(), continuable=True)
        found = self._files.load()
        self._trial.begin_at(0 if found is None else found["epoch"])
        if found is None:
            _check_plain(objects)
            return
        for name, value in objects.items():
            value.load_state_dict(found["objects"][name])
        self.reached = found["metrics"], found["audit"]
        _set_randomness(found["random"], self._trial.device)

    @contextmanager
    def at(self, epoch: int, figures: Figures) -> Iterator[None]:
        """While an epoch's figures are taken: it is written before, or where the trial ends."""
        self.reached, files = figures, self._files
        if files is None:
            yield
            return
        if files.due() or epoch == self._trial.budget:
            self._save(files, epoch)
        try:
            yield
        except GeneratorExit:
            self._save(files, epoch)
            raise

    def _save(self, files: Checkpoints, epoch: int) -> None:
        metrics, audit = self.reached or ({}, {})
        objects = {name: value.state_dict() for name, value in self._objects.items()}
        state = {"epoch": epoch, "metrics": metrics, "audit": audit, "objects": objects}
        files.save(epoch, 0, {**state, "random": _randomness(self._trial.device)})


def _check_plain(objects: dict[str, Any]) -> None:
    """Raise TypeError for a state that could be written, and not be read again."""
    for name, value in objects.items():
        buffer = io.BytesIO()
        torch.save(value.state_dict(), buffer)
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="meta", weights_only=True)
        except pickle.UnpicklingError:
            raise TypeError(
                f"trial.checkpoint.register: the state of {name} holds more than tensors, numbers, "
                "texts and collections of them: keep it in trial.directory yourself"
            ) from None


def _randomness(device: str) -> dict[str, Any]:
    """Every random state that a loop may draw from; NumPy's where it is imported."""
    found: dict[str, Any] = {"torch": random_state(torch.device(device))}
    version, numbers, gauss = random.getstate()
    found["python"] = [version, list(numbers), gauss]
    if (numpy := sys.modules.get("numpy")) is not None:
        name, keys, *rest = numpy.random.get_state()
        found["numpy"] = [name, keys.tolist(), *rest]
    return found


def _set_randomness(found: dict[str, Any], device: str) -> None:
    set_random_state(found["torch"], torch.device(device))
    version, numbers, gauss = found["python"]
    random.setstate((version, tuple(numbers), gauss))
    if (numpy := sys.modules.get("numpy")) is not None and "numpy" in found:
        name, keys, *rest = found["numpy"]
        numpy.random.set_state((name, numpy.array(keys, "uint32"), *rest))
