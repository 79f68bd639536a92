"""The layers with weights (linear, convolutions) that a forward pass applies, in their order.

The measures of margins, Jacobians and spectral norms look at their inputs or weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hpogen.errors import Refusal
from hpogen.measures.passes import at_least_float32, tensor_of

WEIGHTED: frozenset[Callable[..., Any]] = frozenset(
    {
        functional.linear,
        functional.conv1d,
        functional.conv2d,
        functional.conv3d,
        functional.conv_transpose1d,
        functional.conv_transpose2d,
        functional.conv_transpose3d,
    }
)


@dataclass(frozen=True, eq=False)
class Weighted:
    """One use of a layer: `function(input, weight, bias, *rest, **options)`."""

    function: Callable[..., Tensor]
    input: Tensor  # (N, …)
    edge: GradientEdge  # of the input
    weight: Tensor
    rest: tuple[Any, ...]
    options: Mapping[str, Any]

    def apply(self, values: Tensor) -> Tensor:
        """The layer without its bias, on other values (n, …) of at least float32."""
        weight = at_least_float32(self.weight.detach())
        return self.function(values, weight, None, *self.rest, **self.options)


class WeightedLayers(TorchFunctionMode):
    """Collects, while it is entered, the weighted layers that run, as `layers`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Weighted] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WEIGHTED:
            self._record(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _record(
        self,
        function: Callable[..., Tensor],
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: Any,
        **options: Any,
    ) -> None:
        edge = get_gradient_edge(input)
        self.layers.append(Weighted(function, input.detach(), edge, weight, rest, options))


def forward(model: nn.Module, x: Tensor) -> tuple[Tensor, GradientEdge, list[Weighted]]:
    """The outputs for `x` (N, …), the edge of x in the autograd graph, and the weighted layers.

    Gradients reach every layer's input, also where parameters are frozen. Raises Refusal, naming
    the model, when it has no weighted layer.
    """
    parameter = next(model.parameters(), None)
    x = x.detach().to(None if parameter is None else parameter.device).requires_grad_()
    with torch.enable_grad(), WeightedLayers() as watch:
        outputs = tensor_of(model, model(x))
    if not watch.layers:
        raise Refusal(f"{type(model).__name__} applies no linear layer or convolution")
    return outputs, get_gradient_edge(x), watch.layers


def hidden(model: nn.Module, layers: Sequence[Weighted]) -> list[Weighted]:
    """The layers whose inputs are hidden activations, one for each distinct input.

    Raises Refusal, naming the model, when there is none.
    """
    distinct: dict[tuple[object, int], Weighted] = {}
    for layer in layers:
        distinct.setdefault((layer.edge.node, layer.edge.output_nr), layer)
    _, *inner = distinct.values()
    if not inner:
        raise Refusal(f"{type(model).__name__} has no hidden layer")
    return inner


def require_weighted(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, when it applies no linear layer or convolution to `x`."""
    forward(model, x)


def require_hidden(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, when it has no hidden layer."""
    hidden(model, forward(model, x)[2])
