"""Averages of a trial's weights, over steps (`ema`) or over ends of epochs (`swa`).

The formulas are those of `torch.optim.swa_utils`; how many weights are in the average is counted on
the host, so that no step waits for the device. `step.py` adds to it, `evaluate.py` settles it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from hpogen.training.recipe import Recipe
from hpogen.training.state import State


class Averaging:
    """Adds a trial's weights to its average.

    `ema` (Polyak and Juditsky 1992) is m ← decay·m + (1 − decay)·w at each step, beginning with the
    weights after the first one; buffers of floats are averaged with them. `swa` (Izmailov et al.
    2018) is the mean of the weights at the ends of the epochs after `swa_start` of them.
    """

    def __init__(self, recipe: Recipe, state: State, average: nn.Module) -> None:
        self._recipe, self._state = recipe, state
        values = recipe.values
        self._ema = values.average == "ema"
        self._update = get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        if self._ema:
            self._update = get_ema_multi_avg_fn(values.ema_decay)  # type: ignore[no-untyped-call]
        self._start = values.swa_start * recipe.scheduled_epochs  # epochs
        self._average, self._kept = self._parted(average)
        self._weights, self._buffers = self._parted(state.model)

    def _parted(self, net: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """What is averaged, and what is taken over as it is."""
        buffers = list(net.buffers())
        averaged = [b for b in buffers if self._ema and b.is_floating_point()]
        rest = [b for b in buffers if not (self._ema and b.is_floating_point())]
        return [*net.parameters(), *averaged], rest

    @torch.no_grad()
    def add(self) -> None:
        """After the step that the state stands before: add the weights, where they count."""
        recipe, state = self._recipe, self._state
        if not self._ema and (state.step + 1 < recipe.steps or state.epoch < self._start):
            return
        if state.averaged:
            self._update(self._average, self._weights, state.averaged)
        else:
            _copy(self._average, self._weights)
        _copy(self._kept, self._buffers)
        state.averaged += 1


def _copy(to: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for place, tensor in zip(to, tensors, strict=True):
        place.copy_(tensor)


def settle(recipe: Recipe, state: State) -> Generator[None]:
    """Batch normalisation's statistics of an average `swa`, which no step has seen.

    From a pass over the subset as `swa_utils.update_bn` makes it; yields between batches. No random
    number of the trial's is drawn.
    """
    net = state.judged
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    if recipe.values.average != "swa" or not state.averaged or not norms:
        return
    devices = [state.device] if state.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _afresh(norms):
        for x, targets in recipe.batches(recipe.data.subset):
            if len(targets) > 1:  # of one sample there is no variance
                net.train()
                with torch.no_grad(), recipe.autocast():
                    net(x)
            yield


@contextmanager
def _afresh(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Inside, their statistics become the mean of those of the batches."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
