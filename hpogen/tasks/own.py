"""What a user's own training is given: the trial, with what a loop needs that goes on and is told
what to train on; and what comes of it: metrics and audit figures, as they were declared.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from hpogen.errors import shortened
from hpogen.plugins import TaskFunction
from hpogen.plugins.registry import imported
from hpogen.trial import RunningTrial

Split = Literal["search", "retrain"]
Figures = tuple[dict[str, float], dict[str, float]]
"""Metrics and audit figures of an epoch."""
SHOWN = 60  # characters of what is no metric


class Checkpoint(Protocol):
    """Keeps what is registered, and brings it back; `training/own_state.py` has it."""

    reached: Figures | None

    def register(self, **objects: Any) -> None: ...

    def at(self, epoch: int, figures: Figures) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, kw_only=True)
class OwnTrial(RunningTrial):
    """A trial as a `@task` function sees it.

    `split` is "retrain" where the task, which declared `split`, is to train on all of its data and
    to give the figures of its test set as its audit.
    """

    split: Split = "search"

    def epochs(self) -> range:
        """The numbers of the epochs that are still to be trained: `start_epoch` … `budget` − 1."""
        return range(self.start_epoch, self.budget)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Keeps a model, an optimizer and the like in the trial's folder, and brings them back.

        `trial.checkpoint.register(model=model, optimizer=optimizer)`, before `epochs()`.
        """
        made: Checkpoint = imported("hpogen.training.own_state:OwnState")(self)
        return made

    @property
    def reached(self) -> Figures | None:
        """The figures of the newest epoch, where a checkpoint has them."""
        state: Checkpoint | None = vars(self).get("checkpoint")
        return state.reached if state is not None else None

    def kept(self, epoch: int, figures: Figures) -> AbstractContextManager[None]:
        """While the figures of an epoch are handed on: its checkpoint is there, if one is due."""
        state: Checkpoint | None = vars(self).get("checkpoint")
        return state.at(epoch, figures) if state is not None else nullcontext()

    def begin_at(self, epoch: int) -> None:
        """Go on behind so many epochs; `checkpoint` calls it."""
        vars(self)["start_epoch"] = epoch


def figures(entry: TaskFunction, given: object) -> Figures:
    """What was yielded: metrics, or metrics and audit. Raises for anything not declared."""
    audit: object = {}
    if isinstance(given, tuple) and len(given) == 2:
        given, audit = given
    return (
        _plain(entry, "metric", given, entry.metrics, "metrics"),
        _plain(entry, "audit figure", audit, entry.audit, "audit"),
    )


def _plain(
    entry: TaskFunction, what: str, given: object, known: Any, keyword: str
) -> dict[str, float]:
    """The figures as plain floats."""
    name = f"task {entry.name!r}"
    if not isinstance(given, Mapping):
        shown = shortened(repr(given), SHOWN)
        raise TypeError(f"{name} yielded {shown}, expected a mapping of {what}s")
    if undeclared := sorted(set(map(str, given)) - set(known)):
        listed = ", ".join(sorted({*known, undeclared[0]}))
        raise ValueError(
            f"{name} yielded the {what} {undeclared[0]!r}, which it does not declare: "
            f"add it to {keyword}=({listed},)"
        )
    return {key: _number(name, key, value) for key, value in given.items()}


def _number(name: str, key: str, value: Any) -> float:
    """A number, be it NumPy's or a tensor of one element."""
    if isinstance(value, str | bytes | bool):
        raise _no_number(name, key, value)
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):  # a list, a tensor of several elements
        raise _no_number(name, key, value) from None


def _no_number(name: str, key: str, value: object) -> TypeError:
    shown = shortened(repr(value), SHOWN)
    return TypeError(f"{name} yielded {key} = {shown}, expected a number")


def yielded(entry: TaskFunction, given: Any, budget: int) -> Iterator[object]:
    """What a function gave, epoch by epoch: it yields them, or returns its only one.

    What is returned may be the number itself, where one metric alone is declared.
    """
    if isinstance(given, Iterator):
        yield from given
        return
    name = f"task {entry.name!r}"
    if hasattr(given, "item") or (isinstance(given, numbers.Real) and not isinstance(given, bool)):
        if len(entry.metrics) != 1:
            listed = ", ".join(sorted(entry.metrics))
            raise TypeError(f"{name} returned a number, which of its metrics is it: {listed}?")
        given = dict.fromkeys(entry.metrics, given)
    if not isinstance(given, Mapping | tuple):
        shown = shortened(repr(given), SHOWN)
        raise TypeError(
            f"{name} returned {shown}, expected to yield a mapping of metrics after each epoch, or "
            "to return one"
        )
    if budget != 1:
        raise ValueError(
            f"{name} returned, the trial's budget is {budget} epochs: yield after each of them"
        )
    yield given
