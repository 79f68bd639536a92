"""What the training steps of an epoch read: their order, learning rates, and batch after batch.

`step.py` and `together.py` ask. Order and augmentation come from the trial's seed and the epoch's
number alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hpogen.training.augment import Draws, crop_and_flip, draw, rotated
from hpogen.training.forms.schedule import rate
from hpogen.training.mixing import Mixed, Mixing, mixed
from hpogen.training.recipe import Recipe
from hpogen.training.state import State
from hpogen.training.transforms import Transforms
from hpogen.trial import derive_seed


class Feed:
    """The subset of a trial, as the steps of the epoch that its state stands in read it."""

    def __init__(self, recipe: Recipe, state: State) -> None:
        self._recipe, self._state = recipe, state
        self._mixing, self.transforms = _mixing(recipe), _transforms(recipe)
        self._batches = recipe.batches(recipe.data.subset)
        if not self._changing and recipe.device.type == "cpu":
            self._batches = self._batches.ready()
        self._subset = self._batches.split

    def draw(self) -> Draws:
        """The order of the epoch's samples, and what is done to each."""
        recipe = self._recipe
        values, count = recipe.values, len(recipe.data.subset)
        augment = values.augment == "standard"
        seed = self._seed("epoch")
        return draw(count, augment, seed, recipe.device, values.rotate, self._mixing)

    def rates(self) -> list[float]:
        """The learning rate of each of its steps."""
        recipe, epoch = self._recipe, self._state.epoch
        schedule, epochs = recipe.settings.schedule, recipe.settings.epochs
        given = 1 / recipe.steps, recipe.scheduled_epochs, epochs
        done = (epoch + step / recipe.steps for step in range(recipe.steps))
        return [rate(schedule, recipe.values.lr, each, *given) for each in done]

    @contextmanager
    def reading(self, draws: Draws) -> Iterator[None]:
        """Within the block `batch` is asked for the epoch's steps that are left, one by one."""
        recipe = self._recipe
        parts = torch.split(draws.order, recipe.batch_size)[self._state.step : recipe.steps]
        with self._batches.split.ahead(parts, self._seed("items")) as self._subset:
            yield

    def batch(self, draws: Draws) -> tuple[Any, Tensor | Mixed]:
        """Inputs (B, …), images augmented, and targets, all standardised."""
        fit, unit = self._batches.normalization, self._batches.unit
        images, targets = self._subset.take(draws.order)
        if draws.shifts is not None and draws.flips is not None:
            images = crop_and_flip(images, draws.shifts, draws.flips)
        if self.transforms is not None:
            images = self.transforms(images, self._seed("transforms", self._state.step))
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

    @property
    def _changing(self) -> bool:
        """Whether inputs are changed at random before they are standardised."""
        values = self._recipe.values
        standard, mixing = values.augment == "standard", self._mixing is not None
        return standard or values.rotate > 0 or mixing or self.transforms is not None

    def _seed(self, what: str, *numbers: int) -> int:
        """Of what is random in the epoch that the state stands in."""
        return derive_seed(self._recipe.trial.seed, what, self._state.epoch, *numbers)


def _mixing(recipe: Recipe) -> Mixing | None:
    values = recipe.values
    if not values.mixup and not values.cutmix:
        return None
    _, height, width = recipe.data.in_shape
    return Mixing(values.mixup, values.cutmix, recipe.batch_size, height, width)


def _transforms(recipe: Recipe) -> Transforms | None:
    given = recipe.settings.dataset.transforms
    return Transforms(given, recipe.data.in_shape) if given else None
