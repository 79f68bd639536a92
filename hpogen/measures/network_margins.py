"""First-order margins at the input and at hidden layers; the training loop calls both measures.

Jiang et al. 2019, "Predicting the Generalization Gap in Deep Networks with Margin Distributions".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hpogen.errors import Refusal
from hpogen.measures.batches import Batch, pairs
from hpogen.measures.catalog import FEATURES
from hpogen.measures.passes import at_least_float32, check_finite, undisturbed
from hpogen.measures.separate import Numbers, separate
from hpogen.measures.targets import classes_of, labelled
from hpogen.measures.weighted import Forward, by_sample, forward, frozen

Places = list[tuple[Tensor, GradientEdge | None]]
"""Values and their edges in the autograd graph."""
LAYERS = 3  # hidden layers, evenly spaced; of a CIFAR ResNet, what leaves each of its three stages


def margin_input(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """The quartile features of the margins at the model's input x.

    The margin of sample i is (z_y − z_j)/‖∇_x (z_y − z_j)‖, j the largest other class, divided by
    the square root of the total variation Σ_k Var_i x_ik; negative where the sample is classified
    wrongly. Features: quartiles, and the fences max(min, q25 − 1.5·IQR), min(max, q75 + 1.5·IQR).
    Samples without a gradient are left out. Evaluation mode. Raises ValueError when there is no
    sample; FloatingPointError when no sample has a gradient, when all are the same, and for a
    logit, an activation or a gradient that is not finite.
    """
    return _named("margin_input", _collected(model, batches, at_input=True)[0])


def margin_layers(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """The same at three hidden layers: `margin_layers_1_q25` to `margin_layers_3_upper`.

    h_l is the input of a linear layer or convolution but the first; of K distinct ones, those with
    the numbers ⌈K/3⌉, ⌈2K/3⌉ and K. Raises Refusal, too, naming the model, when there is none.
    """
    features: dict[str, float] = {}
    for number, margins in enumerate(_collected(model, batches, at_input=False), 1):
        features |= _named(f"margin_layers_{number}", margins)
    return features


class _Margins:
    """The margins of a data set at one place, and what their normalisation needs."""

    def __init__(self) -> None:
        self._margins: list[Tensor] = []
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0
        self._count = 0

    def add(self, values: Tensor, gaps: Tensor, gradients: Tensor) -> None:
        """h (N, D), z_y − z_j (N,) and its derivative by h (N, D)."""
        exact = at_least_float32(values).double()
        check_finite(exact, "an activation")
        self._first = self._first + exact.sum(0)
        self._second = self._second + exact.square().sum(0)
        self._count += len(values)
        norms = torch.linalg.vector_norm(at_least_float32(gradients), dim=1).double()
        check_finite(norms, "a gradient")
        self._margins.append(gaps[norms > 0] / norms[norms > 0])

    def normalised(self) -> Tensor:
        """The margins over the square root of the total variation, float64."""
        mean = torch.as_tensor(self._first) / self._count
        variation = float((torch.as_tensor(self._second) / self._count - mean.square()).sum())
        margins = torch.cat(self._margins) if self._margins else torch.empty(0)
        if not len(margins) or not variation > 0:
            raise FloatingPointError("the network tells no two samples apart: it has no margins")
        return margins / math.sqrt(variation)


def _collected(model: nn.Module, batches: Iterable[Batch], at_input: bool) -> list[Tensor]:
    places = [_Margins() for _ in range(1 if at_input else LAYERS)]
    with undisturbed(model), frozen(model):
        measure = partial(_margins, model, at_input)
        for _, gaps, *numbers in separate(model, labelled(pairs(batches)), measure):
            for place, values, gradients in zip(places, numbers[::2], numbers[1::2], strict=True):
                place.add(values, gaps, gradients)
    return [place.normalised() for place in places]


def _margins(model: nn.Module, at_input: bool, x: Tensor, y: Tensor) -> Numbers | None:
    """The logits, z_y − z_j (N,), and h (N, D) and its derivative (N, D) at each place."""
    run = forward(model, x)
    logits, count = run.outputs, len(run.outputs)
    check_finite(logits, "a logit")
    places = [(x.to(logits.device), run.edge)] if at_input else _chosen(model, run)
    if places is None or (at_input and run.crossed):
        return None
    edges = [edge for _, edge in places if edge is not None]
    if not logits.requires_grad or len(edges) < len(places):
        raise Refusal(f"{type(model).__name__} has no derivative by its input: it has no margins")
    y = classes_of(logits, y.to(logits.device))[:, None]
    with torch.enable_grad():
        others = logits.scatter(1, y, -torch.inf).amax(1)
        gaps = logits.gather(1, y)[:, 0] - others  # (N,)
        total = gaps.sum()
    gradients = torch.autograd.grad(total, edges, allow_unused=True)
    numbers = [logits.detach(), at_least_float32(gaps.detach()).double()]
    for (values, _), gradient in zip(places, gradients, strict=True):
        found = torch.zeros_like(values) if gradient is None else gradient
        numbers += [values.reshape(count, -1), found.reshape(count, -1)]
    return numbers


def _chosen(model: nn.Module, run: Forward) -> Places | None:
    """h and its edge at each of the hidden layers that are looked at; None as `by_sample`."""
    inner = by_sample(model, run)
    if inner is None:
        return None
    chosen = [inner[-(-k * len(inner) // LAYERS) - 1] for k in range(1, LAYERS + 1)]
    return [(layer.input, layer.edge) for layer in chosen]


def _named(prefix: str, margins: Tensor) -> dict[str, float]:
    low, middle, high = margins.quantile(margins.new_tensor([0.25, 0.5, 0.75])).tolist()
    reach = 1.5 * (high - low)
    features = (
        max(float(margins.min()), low - reach),
        low,
        middle,
        high,
        min(float(margins.max()), high + reach),
    )
    return {f"{prefix}_{name}": value for name, value in zip(FEATURES, features, strict=True)}
