"""The training steps of a trial: what happens to the weights, step by step.

The loop makes one `Steps` per trial and runs it epoch by epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from hpogen.measures.last_linear import LastLinear
from hpogen.training.augment import Draws
from hpogen.training.averaging import Averaging
from hpogen.training.descent import Descent
from hpogen.training.feed import Feed
from hpogen.training.graphs import Graphs, Tape
from hpogen.training.measuring import diverged, of_network
from hpogen.training.mixing import Mixed
from hpogen.training.recipe import Recipe
from hpogen.training.state import State


class Steps:
    """A trial's training steps. On a CPU they run one by one; elsewhere the host only starts them.

    With a `tape`, what they need of an epoch lies on the device; there a step may be one launch.
    """

    def __init__(self, recipe: Recipe, state: State, tape: Tape | None) -> None:
        self._recipe, self._state = recipe, state
        self._last = LastLinear(state.model) if recipe.plan.online else None
        self._descent = Descent(recipe, state)
        average = state.average
        self._averaging = None if average is None else Averaging(recipe, state, average)
        self._feed = Feed(recipe, state)
        self._tape, self._graphs = tape, None
        self._lr = None if tape is None else torch.zeros((), device=tape.device)
        if tape is not None:
            wanted = tape.device.type == "cuda" and recipe.settings.cuda_graphs
            wanted &= not recipe.plan.iterated and self._feed.transforms is None
            wanted &= isinstance(recipe.data.subset.inputs, Tensor)  # and not fetched by the host
            self._graphs = Graphs(self._step, tape) if wanted else None

    def epoch(self) -> Iterator[None]:
        """The rest of the epoch that the state stands in; yields after each step.

        Order and augmentation come from the trial's seed and the epoch's number alone. Raises
        Diverged when the loss is not finite: on a CPU at once; where every step would have to wait
        for that, the epoch's end tells.
        """
        recipe, state = self._recipe, self._state
        draws, rates = self._feed.draw(), self._feed.rates()
        state.model.train()
        if self._tape is not None:
            done = state.step * recipe.batch_size
            self._tape.lay(draws, torch.tensor(rates, device=recipe.device), done, state.step)
        with self._last or nullcontext(), self._feed.reading(draws):
            while state.step < recipe.steps:
                self._measure()
                self._next(draws, rates)
                if self._averaging is not None:
                    self._averaging.add()
                state.step += 1
                yield

    def _next(self, draws: Draws, rates: list[float]) -> None:
        """The step that the state stands before."""
        state, size = self._state, self._recipe.batch_size
        start = state.step * size
        size = min(size, len(draws.order) - start)
        if self._tape is None:
            self._step(draws.of(slice(start, start + size)), rates[state.step])
        elif self._graphs is None:
            self._tape.prepare(size)
            self._step(*self._tape.read(size))
        else:
            self._graphs.step(size)

    def _step(self, draws: Draws, lr: float | Tensor) -> None:
        """One step on the images that `draws` chooses; captured as it stands, so it never waits."""
        recipe, sums = self._recipe, self._state.step_sums
        x, targets = self._feed.batch(draws)
        outputs, loss = self._forward(x, targets)
        if recipe.device.type == "cpu":  # as a number it is added up in half the time
            if not math.isfinite(number := loss.item()):
                raise diverged(recipe, self._state)
            sums["loss"] += number
        else:
            sums["loss"] += loss.detach()
        if self._last is not None:  # AGN online: from this very forward pass
            norm = recipe.trained_loss.squared_norms(self._last, outputs, targets).mean()
            sums["agn"] += norm
            sums["agn_lr"] += lr / (1 - recipe.momentum) * norm

        self._set_rate(lr)
        self._descent.step(loss, lambda: self._forward(x, targets)[1])

    def _forward(self, x: Any, targets: Tensor | Mixed) -> tuple[Tensor, Tensor]:
        """The outputs (B, C) and their loss ()."""
        with self._recipe.autocast():
            outputs = self._state.forward(x)
            return outputs, self._recipe.trained_loss.mean(outputs, targets)

    def _set_rate(self, lr: float | Tensor) -> None:
        """Give the optimizer the step's learning rate: a number, or at one place on the device."""
        if self._lr is not None and isinstance(lr, Tensor):
            lr = self._lr.copy_(lr)
        for group in self._state.optimizer.param_groups:
            group["lr"] = lr

    def _measure(self) -> None:
        """What is measured at every iteration, at the weights before it."""
        recipe, state = self._recipe, self._state
        if not recipe.plan.iterated:
            return
        with state.clock("measures", out_of="train"):
            for planned in recipe.plan.iterated:
                for name, value in of_network(recipe, state, planned).items():
                    state.step_sums[name] += value
