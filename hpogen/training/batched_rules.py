"""The optimizers of many trials as one: each trial at its own rate, momentum and decay.

`batched.py` steps by them; the formulas are those of torch's SGD, Adam and AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hpogen.training.recipe import DESCENDING, Recipe
from hpogen.training.state import State

BETA2, EPSILON = 0.999, 1e-8  # of Adam, as torch's are by default


class Rule(Protocol):
    """It moves the parameters that it was made for, and the optimizers when it is asked to."""

    def step(self, gradients: list[Tensor], rates: Tensor) -> None:
        """By gradients (K, …), which it may overwrite, at rates (K,)."""
        ...

    def give_back(self) -> None:
        """Move the state of each trial's optimizer to where the steps have led."""
        ...


class Momentum:
    """SGD: v ← μv + g + λw; w ← w − ηv, or w − η(g + λw + μv) with Nesterov's momentum."""

    def __init__(self, own: Sequence[State], values: Sequence[Any], parameters: Any) -> None:
        self._own, self._parameters = own, parameters
        momentum = torch.tensor([value.momentum for value in values])
        decay = torch.tensor([value.weight_decay for value in values])
        self._momentum, self._decay = like(momentum, parameters), like(decay, parameters)
        self._nesterov = values[0].nesterov
        self._velocities = _gathered(own, "momentum_buffer", parameters)

    def step(self, gradients: list[Tensor], rates: Tensor) -> None:
        torch._foreach_addcmul_(gradients, self._parameters, self._decay)
        torch._foreach_mul_(self._velocities, self._momentum)
        torch._foreach_add_(self._velocities, gradients)
        moves = self._velocities
        if self._nesterov:
            torch._foreach_addcmul_(gradients, self._velocities, self._momentum)
            moves = gradients
        torch._foreach_addcmul_(self._parameters, moves, like(-rates, self._parameters))

    def give_back(self) -> None:
        _scatter(self._own, "momentum_buffer", self._velocities)


class Adaptive:
    """Adam (Kingma and Ba 2015, algorithm 1), and AdamW (Loshchilov and Hutter 2019)."""

    def __init__(self, own: Sequence[State], values: Sequence[Any], parameters: Any) -> None:
        self._own, self._parameters = own, parameters
        self._decoupled = values[0].optimizer == "adamw"
        self._beta1 = torch.tensor([value.momentum for value in values])
        self._decay = torch.tensor([value.weight_decay for value in values])
        self._done = [_steps_of(state) for state in own]
        self._means = _gathered(own, "exp_avg", parameters)
        self._squares = _gathered(own, "exp_avg_sq", parameters)

    def step(self, gradients: list[Tensor], rates: Tensor) -> None:
        w, m, v = self._parameters, self._means, self._squares
        if self._decoupled:
            torch._foreach_mul_(w, like(1 - rates * self._decay, w))
        else:
            torch._foreach_addcmul_(gradients, w, like(self._decay, w))
        self._done = [steps + 1 for steps in self._done]
        torch._foreach_mul_(m, like(self._beta1, w))
        torch._foreach_addcmul_(m, gradients, like(1 - self._beta1, w))
        torch._foreach_mul_(v, BETA2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - BETA2)
        done = torch.tensor(self._done, dtype=torch.float64)
        rest = (1 - BETA2**done).sqrt().float()
        roots = torch._foreach_sqrt(v)
        torch._foreach_div_(roots, like(rest, w))
        torch._foreach_add_(roots, EPSILON)
        far = (rates / (1 - self._beta1.double() ** done)).float()
        torch._foreach_addcdiv_(w, torch._foreach_mul(m, like(far, w)), roots, -1.0)

    def give_back(self) -> None:
        _scatter(self._own, "exp_avg", self._means)
        _scatter(self._own, "exp_avg_sq", self._squares)
        for state, steps in zip(self._own, self._done, strict=True):
            for parameter in state.model.parameters():
                state.optimizer.state[parameter]["step"] = torch.tensor(float(steps))


def rule_of(trials: Sequence[tuple[Recipe, State]], parameters: Sequence[Tensor]) -> Rule:
    """That of trials with one kind of optimizer, over their parameters (K, …)."""
    values = [recipe.values for recipe, _ in trials]
    own = [state for _, state in trials]
    if values[0].optimizer in DESCENDING:
        return Momentum(own, values, parameters)
    return Adaptive(own, values, parameters)


def like(values: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """A number for each trial (K,), in the shape that goes with each of the tensors (K, …)."""
    return [values.view(-1, *(1 for _ in tensor.shape[1:])) for tensor in tensors]


def _gathered(own: Sequence[State], name: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    """(K, …) of what the optimizers keep for each parameter; 0 before the first step."""
    found = [torch.zeros_like(parameter) for parameter in parameters]
    for k, state in enumerate(own):
        for of_all, parameter in zip(found, state.model.parameters(), strict=True):
            kept = state.optimizer.state.get(parameter, {}).get(name)
            if kept is not None:
                of_all[k] = kept
    return found


def _scatter(own: Sequence[State], name: str, found: Sequence[Tensor]) -> None:
    for k, state in enumerate(own):
        for of_all, parameter in zip(found, state.model.parameters(), strict=True):
            kept = state.optimizer.state[parameter]
            if kept.get(name) is None:
                kept[name] = torch.empty_like(parameter)
            kept[name].copy_(of_all[k])


def _steps_of(state: State) -> int:
    """The steps that an Adam has taken."""
    kept = [state.optimizer.state.get(p, {}).get("step", 0) for p in state.model.parameters()]
    return int(max(kept))
