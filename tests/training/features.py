"""For the tests of what steps may do: the loop of a trial, written out, and a trial in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from training.runs import epochs, trial

from hpogen.tasks.base import Epoch
from hpogen.training.augment import draw
from hpogen.training.forms.task import Settings
from hpogen.training.recipe import Recipe, begin
from hpogen.training.state import State
from hpogen.training.step import Steps
from hpogen.trial import Config, RunningTrial, derive_seed


@dataclass
class Step:
    """A step that is to be taken: the batch, and the network and optimizer before it."""

    recipe: Recipe
    model: nn.Module
    optimizer: torch.optim.Optimizer
    x: Tensor
    y: Tensor
    first: int  # place of the batch in the epoch's order
    epoch: int

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.model(self.x), self.y)


def written_out(settings: Settings, running: RunningTrial) -> Iterator[Step]:
    """The steps of a trial of images without augmentation, with a constant rate.

    Gradients are zero; whoever iterates takes the step.
    """
    recipe, state = _begin(settings, running)
    subset, size = recipe.data.subset, recipe.batch_size
    state.model.train()
    for epoch in range(running.budget):
        seed = derive_seed(running.seed, "epoch", epoch)
        order = draw(len(subset), False, seed, recipe.device).order
        for first in range(0, recipe.steps * size, size):
            images, y = subset.take(order[first : first + size])
            x = recipe.data.normalization(images, recipe.memory_format)
            state.optimizer.zero_grad()
            yield Step(recipe, state.model, state.optimizer, x, y, first, epoch)


def steps_of(settings: Settings, running: RunningTrial, *wanted: str) -> State:
    """The state after all steps of a trial, with no evaluation."""
    recipe, state = _begin(settings, running, *wanted)
    steps = Steps(recipe, state, None)
    for _ in range(running.budget):
        for _ in steps.epoch():
            pass
        state.finish_epoch({name: float(total) for name, total in state.step_sums.items()})
    return state


def _begin(settings: Settings, running: RunningTrial, *wanted: str) -> tuple[Recipe, State]:
    torch.set_num_threads(settings.threads)
    return begin(settings, running, frozenset(wanted))


def same(a: nn.Module, b: nn.Module) -> None:
    """Raise AssertionError where two networks' tensors differ by more than rounding."""
    torch.testing.assert_close(dict(a.state_dict()), dict(b.state_dict()), rtol=1e-5, atol=1e-6)


def resumed(
    settings: Settings, home: Path, config: Config, *wanted: str
) -> tuple[list[Any], list[Any]]:
    """What a trial tells when it runs whole, and when it is closed again and again.

    The second one is closed inside each epoch, after its steps, and in its evaluation.
    """
    whole = epochs(settings, trial(home / "whole", config, keep="best"), *wanted)
    told: dict[int, Epoch] = {}
    for stop in (1, 2, 3, 5, 8, 13, 10**9):
        running = trial(home / "parts", config, keep="best", start_epoch=len(told))
        run = _eager(settings, running, frozenset(wanted or {"val_loss"}))
        with suppress(StopIteration):
            for _ in range(stop):
                step = next(run)
                if step is not None:
                    told[step.epoch] = step
        run.close()
    return _numbers(whole), _numbers([told[epoch] for epoch in sorted(told)])


def _eager(
    settings: Settings, running: RunningTrial, wanted: frozenset[str]
) -> Iterator[Epoch | None]:
    """A trial that can be stopped at each step, and not once in a quarter of a second."""
    from hpogen.training import random_state

    before = random_state.TICK
    random_state.TICK = 0.0
    try:
        yield from settings.train(running, wanted)  # type: ignore[attr-defined]
    finally:
        random_state.TICK = before


def _numbers(told: list[Epoch]) -> list[Any]:
    return [
        (epoch.epoch, dict(epoch.metrics), dict(epoch.audit), dict(epoch.files)) for epoch in told
    ]
