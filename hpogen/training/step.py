"""The training steps of a trial: what happens to the weights, step by step.

The loop makes one `Steps` per trial and runs it epoch by epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from hpogen.measures.last_linear import LastLinear
from hpogen.training.augment import Draws, crop_and_flip, draw, rotated
from hpogen.training.averaging import Averaging
from hpogen.training.data.reading import Split
from hpogen.training.descent import Descent
from hpogen.training.forms.schedule import rate
from hpogen.training.graphs import Graphs, Tape
from hpogen.training.measuring import diverged, of_network
from hpogen.training.mixing import Mixed, Mixing, mixed
from hpogen.training.recipe import Recipe
from hpogen.training.state import State
from hpogen.training.transforms import Transforms
from hpogen.trial import derive_seed


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
        self._mixing, self._transforms = _mixing(recipe), _transforms(recipe)
        self._batches = recipe.batches(recipe.data.subset)
        if not self._changing and recipe.device.type == "cpu":
            self._batches = self._batches.ready()
        self._subset = self._batches.split
        self._tape, self._graphs = tape, None
        self._lr = None if tape is None else torch.zeros((), device=tape.device)
        if tape is not None:
            wanted = tape.device.type == "cuda" and recipe.settings.cuda_graphs
            wanted &= not recipe.plan.iterated and self._transforms is None
            wanted &= isinstance(recipe.data.subset.inputs, Tensor)  # and not fetched by the host
            self._graphs = Graphs(self._step, tape) if wanted else None

    def epoch(self) -> Iterator[None]:
        """The rest of the epoch that the state stands in; yields after each step.

        Order and augmentation come from the trial's seed and the epoch's number alone. Raises
        Diverged when the loss is not finite: on a CPU at once; where every step would have to wait
        for that, the epoch's end tells.
        """
        recipe, state = self._recipe, self._state
        draws = self._draw()
        rates = [self._rate(state.epoch + step / recipe.steps) for step in range(recipe.steps)]
        state.model.train()
        if self._tape is not None:
            done = state.step * recipe.batch_size
            self._tape.lay(draws, torch.tensor(rates, device=recipe.device), done, state.step)
        with self._last or nullcontext(), self._ahead(draws) as self._subset:
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
        x, targets = self._batch(draws)
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

    def _batch(self, draws: Draws) -> tuple[Any, Tensor | Mixed]:
        """Inputs (B, …), images augmented, and targets, all standardised."""
        fit, unit = self._batches.normalization, self._batches.unit
        images, targets = self._subset.take(draws.order)
        if draws.shifts is not None and draws.flips is not None:
            images = crop_and_flip(images, draws.shifts, draws.flips)
        if self._transforms is not None:
            images = self._transforms(images, self._seed("transforms", self._state.step))
        if draws.angles is not None:
            images = rotated(images.to(torch.float32), draws.angles)
        targets = targets if unit is None else unit(targets)
        layout = self._recipe.memory_format
        if draws.partners is None or draws.mixes is None:
            return fit(images, layout), targets
        boxes = self._recipe.values.cutmix > 0
        images = mixed(images, draws.partners, draws.mixes, boxes)
        both = Mixed(targets, targets.index_select(0, draws.partners), draws.mixes[0, 0])
        return fit(images, layout), both

    def _ahead(self, draws: Draws) -> AbstractContextManager[Split]:
        """The subset as it is read in the epoch's steps that are left."""
        recipe = self._recipe
        parts = torch.split(draws.order, recipe.batch_size)[self._state.step : recipe.steps]
        return self._batches.split.ahead(parts, self._seed("items"))

    @property
    def _changing(self) -> bool:
        """Whether inputs are changed at random before they are standardised."""
        values = self._recipe.values
        standard, mixing = values.augment == "standard", self._mixing is not None
        return standard or values.rotate > 0 or mixing or self._transforms is not None

    def _draw(self) -> Draws:
        recipe = self._recipe
        values, count = recipe.values, len(recipe.data.subset)
        augment = values.augment == "standard"
        seed = self._seed("epoch")
        return draw(count, augment, seed, recipe.device, values.rotate, self._mixing)

    def _seed(self, what: str, *numbers: int) -> int:
        """Of what is random in the epoch that the state stands in."""
        return derive_seed(self._recipe.trial.seed, what, self._state.epoch, *numbers)

    def _rate(self, done: float) -> float:
        """The learning rate of the step after `done` epochs."""
        recipe = self._recipe
        schedule, epochs = recipe.settings.schedule, recipe.settings.epochs
        total = recipe.scheduled_epochs
        return rate(schedule, recipe.values.lr, done, 1 / recipe.steps, total, epochs)

    def _measure(self) -> None:
        """What is measured at every iteration, at the weights before it."""
        recipe, state = self._recipe, self._state
        if not recipe.plan.iterated:
            return
        with state.clock("measures", out_of="train"):
            for planned in recipe.plan.iterated:
                for name, value in of_network(recipe, state, planned).items():
                    state.step_sums[name] += value


def _mixing(recipe: Recipe) -> Mixing | None:
    values = recipe.values
    if not values.mixup and not values.cutmix:
        return None
    _, height, width = recipe.data.in_shape
    return Mixing(values.mixup, values.cutmix, recipe.batch_size, height, width)


def _transforms(recipe: Recipe) -> Transforms | None:
    given = recipe.settings.dataset.transforms
    return Transforms(given, recipe.data.in_shape) if given else None
