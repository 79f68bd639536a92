"""Networks `mlp` of one shape as one: parameters (K, …), one pass and one step for all of them.

`together.py` makes one of the trials that step together; each has its own back afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hpogen.measures.passes import at_least_float32
from hpogen.training.batched_rules import Rule, like, rule_of
from hpogen.training.models.mlp import Columns
from hpogen.training.recipe import Recipe
from hpogen.training.state import State


class Batched:
    """K networks and their optimizers as they stand; nothing of them moves before `give_back`.

    All have one shape, one batch size, one loss and one kind of optimizer. No slice of a tensor is
    ever mixed with another: what is not finite in one trial stays there.
    """

    def __init__(self, trials: Sequence[tuple[Recipe, State]]) -> None:
        self._models = [state.model for _, state in trials]
        alike = zip(*(model.parameters() for model in self._models), strict=True)
        self._parameters = [torch.stack([p.detach() for p in same]) for same in alike]
        for parameter in self._parameters:
            parameter.requires_grad_()
        self._layers = [*self._models[0].children()]
        recipes = [recipe for recipe, _ in trials]
        self._trained = recipes[0].trained_loss
        smoothing = torch.tensor([recipe.trained_loss.smoothing for recipe in recipes])
        self._smoothing = smoothing[:, None] if smoothing.any() else None  # (K, 1)
        clips = torch.tensor([recipe.values.clip or math.inf for recipe in recipes])
        self._clips = clips if clips.isfinite().any() else None  # (K,)
        self._rule: Rule = rule_of(trials, self._parameters)

    def step(self, batches: Sequence[tuple[Any, Tensor]], rates: Sequence[float]) -> list[float]:
        """A step of each trial on its own batch, at its own rate; the K losses before it."""
        x, targets = (_stacked(part) for part in zip(*batches, strict=True))
        losses = self._losses(self._outputs(x), targets)
        gradients = list(torch.autograd.grad(losses.sum(), self._parameters))
        with torch.no_grad():
            if self._clips is not None:
                torch._foreach_mul_(gradients, like(_scales(gradients, self._clips), gradients))
            self._rule.step(gradients, torch.tensor(rates))
        found: list[float] = losses.tolist()
        return found

    @torch.no_grad()
    def give_back(self) -> None:
        """Move the networks, and their optimizers, to where the steps have led."""
        for k, model in enumerate(self._models):
            for own, of_all in zip(model.parameters(), self._parameters, strict=True):
                own.copy_(of_all[k])
        self._rule.give_back()

    def _outputs(self, x: Any) -> Tensor:
        """(K, B, C) of inputs (K, B, …).

        Activations are (K, units, B): so the gradients of weights (K, out, in) lie in their order.
        """
        first, *layers = self._layers
        parameters = iter(self._parameters)
        if isinstance(first, Columns):
            x = _columns(x, [next(parameters) for _ in first.embeddings])
        values: Tensor = x.flatten(2).transpose(1, 2)  # (K, D, B)
        for _ in layers[::2]:  # a Linear; a ReLU stands between two
            weight, bias = next(parameters), next(parameters)
            last = weight is self._parameters[-2]
            values = torch.baddbmm(bias[:, :, None], weight, values)
            values = values if last else values.relu_()
        return values.transpose(1, 2)

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(K,), the means over the batches: of outputs (K, B, C) and targets (K, B, …)."""
        z, y = at_least_float32(outputs.flatten(0, 1)), targets.flatten(0, 1)
        terms = self._trained.loss.of_each(z, y).view(outputs.shape[:2])  # (K, B)
        if self._smoothing is not None:
            evenly = -z.log_softmax(1).mean(1).view(outputs.shape[:2])
            terms = terms.lerp(evenly, self._smoothing)
        return terms.mean(1)


def _stacked(parts: Sequence[Any]) -> Any:
    """(K, B, …): of tensors, or of each name in mappings of them."""
    if isinstance(parts[0], Mapping):
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    return torch.stack(list(parts))


def _columns(x: Mapping[str, Tensor], weights: Sequence[Tensor]) -> Tensor:
    """(K, B, D), as `models.mlp.Columns` has it: each trial looks up rows of its own (n, width)."""
    parts = [x["numbers"]] if "numbers" in x else []
    for weight, places in zip(weights, x["categories"].unbind(2), strict=True):  # (K, n, w), (K, B)
        trials, count, _ = weight.shape
        places = places + count * torch.arange(trials)[:, None]
        parts.append(functional.embedding(places, weight.flatten(0, 1)))
    return torch.cat(parts, 2)


def _scales(gradients: Sequence[Tensor], clips: Tensor) -> Tensor:
    """(K,), by which the gradients of each trial are shortened: `clip_grad_norm_`'s own rule."""
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
    norms = torch.stack(squares).sum(0).sqrt()  # (K,)
    return (clips / (norms + 1e-6)).clamp(max=1.0)
