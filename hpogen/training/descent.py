"""What a training step makes of its loss: the gradient, clipped where asked, and the update.

`step.py` calls it; nothing here waits for the device, so that a step can be captured.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpogen.training.recipe import Recipe
from hpogen.training.state import State


class Descent:
    """Moves the weights of a trial against the gradient of a loss."""

    def __init__(self, recipe: Recipe, state: State) -> None:
        self._optimizer = state.optimizer
        self._clip = recipe.values.clip
        self._parameters = [p for group in state.optimizer.param_groups for p in group["params"]]

    def step(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self._clip:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()
