"""What a training step makes of its loss: the gradient, clipped where asked, and the update.

`step.py` calls it; nothing here waits for the device, so that a step can be captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_, get_total_norm

from hpogen.training.recipe import Recipe
from hpogen.training.state import State


class Descent:
    """Moves the weights of a trial against the gradient of a loss."""

    def __init__(self, recipe: Recipe, state: State) -> None:
        values = recipe.values
        self._optimizer = state.optimizer
        self._clip = values.clip
        self._rho = values.rho if values.optimizer == "sam" else None
        self._parameters: list[Tensor] = [
            p for group in state.optimizer.param_groups for p in group["params"]
        ]
        self._norms = [m for m in state.model.modules() if isinstance(m, _BatchNorm)]

    def step(self, loss: Tensor, again: Callable[[], Tensor]) -> None:
        """One step by the loss of a batch; `again()` computes it at the weights as they are."""
        self._forget()
        torch.autograd.backward(loss)
        if self._rho is not None:
            self._from_above(self._rho, again)
        if self._clip:
            clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()

    def _forget(self) -> None:
        """As the optimizer's `zero_grad`, which takes as long as a small layer."""
        for parameter in self._parameters:
            parameter.grad = None

    def _from_above(self, rho: float, again: Callable[[], Tensor]) -> None:
        """Put the gradient at w + ρ g/‖g‖ in the place of g, that at w (Foret et al. 2021, eq. 3).

        The weights are w again, bit for bit, and batch normalisation's statistics those of the
        first pass.
        """
        moved = [p for p in self._parameters if p.grad is not None]
        gradients = [p.grad for p in moved if p.grad is not None]
        before = [p.detach().clone() for p in moved]
        with torch.no_grad():
            scale = rho / (get_total_norm(gradients) + 1e-12)
            torch._foreach_add_(moved, torch._foreach_mul(gradients, scale))
        self._forget()
        with _unseen(self._norms):
            torch.autograd.backward(again())
        with torch.no_grad():
            torch._foreach_copy_(moved, before)


@contextmanager
def _unseen(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Inside, batches are normalised by themselves, and no running statistics take note."""
    tracking = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracks in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracks
