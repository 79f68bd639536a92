"""Trials of one process that step together: their networks are trained as one batched network.

The loop takes a `Joined` in the place of a trial's `Steps` where the task says `together`. Whoever
drives the trials goes from one to the next at each `Turn`: each waits until all that are like it
do, and one of them takes the steps of all. All else of a trial is its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from time import perf_counter
from typing import Any

from torch import Tensor

from hpogen.tasks.base import Diverged
from hpogen.training.batched import Batched
from hpogen.training.feed import Feed
from hpogen.training.measuring import diverged
from hpogen.training.random_state import TICK
from hpogen.training.recipe import Recipe
from hpogen.training.state import State

log = logging.getLogger(__name__)


class Turn(Enum):
    """What a trial yields where it waits for the others."""

    OVER = 0


class Joined:
    """A trial's training steps, which it takes with those in this process that are like it."""

    def __init__(self, recipe: Recipe, state: State) -> None:
        self.recipe, self.state = recipe, state
        self.alike = _alike(recipe, state)
        self.waiting = False
        self.companions: Sequence[int] = ()  # the trials that it was last seen to step with
        self.failure: Diverged | None = None
        self._feed = Feed(recipe, state)

    def epoch(self) -> Iterator[Turn]:
        """As `Steps.epoch`: the rest of the epoch that the state stands in. Raises Diverged."""
        state = self.state
        self._draws, self._rates = self._feed.draw(), self._feed.rates()
        state.model.train()
        with self._feed.reading(self._draws):
            self.waiting = self.left > 0
            try:
                while self.waiting:
                    with state.clock.away():
                        yield Turn.OVER
                    group = [one for one in _HERE if one.alike == self.alike]
                    if self.waiting and all(one.waiting for one in group):
                        _advance(group, state)
            finally:
                self.waiting = False
        if self.failure is not None:
            raise self.failure

    @property
    def left(self) -> int:
        """Steps of the epoch."""
        return self.recipe.steps - self.state.step

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self._rates[self.state.step]

    def batch(self) -> tuple[Any, Tensor]:
        """What the next step reads."""
        size = self.recipe.batch_size
        start = self.state.step * size
        inputs, targets = self._feed.batch(self._draws.of(slice(start, start + size)))
        assert isinstance(targets, Tensor)  # none are mixed: the task has refused that
        return inputs, targets

    def take(self, loss: float) -> None:
        """Note the step, which has been taken, and the loss before it."""
        if not math.isfinite(loss):
            self.failure = diverged(self.recipe, self.state)
            return
        self.state.step_sums["loss"] += loss
        self.state.step += 1


_HERE: list[Joined] = []  # in this process, in the order in which they began


@contextmanager
def joined(recipe: Recipe, state: State) -> Iterator[Joined]:
    """The steps of a trial, which others wait for within the block."""
    steps = Joined(recipe, state)
    _HERE.append(steps)
    try:
        yield steps
    finally:
        _HERE.remove(steps)


def _advance(group: Sequence[Joined], mine: State) -> None:
    """Steps of those that are nearest to their epoch's end, up to it or for TICK seconds.

    What it takes is shared out among their clocks; `mine` is the state of the one that does it.
    """
    begun = perf_counter()
    least = min(one.left for one in group)
    stepping = [one for one in group if one.left == least]
    _say(stepping)
    network = Batched([(one.recipe, one.state) for one in stepping])
    try:
        while least and perf_counter() - begun < TICK:
            losses = network.step([one.batch() for one in stepping], [o.rate for o in stepping])
            for one, loss in zip(stepping, losses, strict=True):
                one.take(loss)
            least -= 1
            if any(one.failure for one in stepping):
                break
    finally:
        network.give_back()
        seconds = perf_counter() - begun
        mine.clock.give(-seconds)
        for one in stepping:
            one.state.clock.give(seconds / len(stepping))
            one.waiting = one.left > 0 and one.failure is None


def _say(stepping: Sequence[Joined]) -> None:
    """Log which trials step together, once."""
    numbers = [one.recipe.trial.id for one in stepping]
    if any(one.companions != numbers for one in stepping):
        size = stepping[0].recipe.batch_size
        log.info("together=%s batch_size=%d", ",".join(map(str, numbers)), size)
    for one in stepping:
        one.companions = numbers


def _alike(recipe: Recipe, state: State) -> Hashable:
    """What trials must share to step together."""
    values, loss = recipe.values, recipe.trained_loss
    kind = (values.optimizer, values.nesterov and values.momentum > 0)
    data = (recipe.batch_size, len(recipe.data.subset), recipe.data.target.name, loss.loss.name)
    shapes = tuple(tuple(parameter.shape) for parameter in state.model.parameters())
    return kind, data, shapes
