"""The layers with weights (linear, convolutions) that a forward pass applies, in their order.

The measures of margins, Jacobians and spectral norms look at their inputs or weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.as_found import without
from hpogen.measures.batches import device_of, tensor_of
from hpogen.measures.crossing import Crossings
from hpogen.measures.passes import at_least_float32, uncompiled

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


RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
CELLS = frozenset(f"{name}_cell" for name in RECURRENT)


def _open(function: Any) -> Callable[..., Any]:
    """The same function of torch's, but that the functions which it calls are seen from outside."""
    known = {**function.__globals__, "has_torch_function": lambda _: False}
    found = FunctionType(function.__code__, known, function.__name__, function.__defaults__)
    found.__kwdefaults__ = function.__kwdefaults__
    return found


ATTENTION = functional.multi_head_attention_forward
OPEN_ATTENTION = _open(ATTENTION)  # which projects by functional.linear


@dataclass(frozen=True, eq=False)
class Weighted:
    """One use of a layer: `function(input, weight, bias, *rest, **options)`."""

    function: Callable[..., Tensor]
    input: Tensor  # (N, …)
    edge: GradientEdge | None  # of the input; None where no derivative by x is
    weight: Tensor
    rest: tuple[Any, ...]
    options: Mapping[str, Any]

    def apply(self, values: Tensor) -> Tensor:
        """The layer without its bias, on other values (n, …) of at least float32."""
        weight = at_least_float32(self.weight.detach())
        return self.function(values, weight, None, *self.rest, **self.options)


class Forward(NamedTuple):
    """What a forward pass gives."""

    outputs: Tensor
    edge: GradientEdge | None  # of x; None where it is not continuous
    layers: list[Weighted]
    crossed: bool  # whether it sums up, ranks or chooses samples


class WeightedLayers(Crossings):
    """Collects, while it is entered, the weighted layers that run, too, as `layers`.

    With `inner` also those inside torch's attention, whose inputs may have the time first.
    """

    def __init__(self, samples: int, inner: bool) -> None:
        super().__init__(samples)
        self._inner = inner
        self.layers: list[Weighted] = []
        self.others: set[str] = set()  # functions that apply weights, and are no such layer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is ATTENTION and self._inner:
            with self:
                return OPEN_ATTENTION(*args, **(kwargs or {}))
        if func.__name__ in RECURRENT | CELLS | {"bilinear"}:
            self.others.add(func.__name__)
        if func in WEIGHTED:
            self._record(func, *args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def _record(
        self,
        function: Callable[..., Tensor],
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: Any,
        **options: Any,
    ) -> None:
        edge = _edge(input)
        self.layers.append(Weighted(function, input.detach(), edge, weight, rest, options))


def all_layers(model: nn.Module, x: Tensor) -> list[Weighted]:
    """Every weighted layer that is applied to `x` (N, …), those inside torch's attention, too.

    Raises Refusal, naming the model, when it has none, and when it applies weights otherwise.
    """
    run, others = _run(model, x, inner=True)
    if others:
        raise Refusal(
            f"{type(model).__name__} applies weights by {sorted(others)[0]}, which is neither a "
            "linear layer nor a convolution"
        )
    return run.layers


def forward(model: nn.Module, x: Tensor) -> Forward:
    """The outputs for `x` (N, …), the edge of x in the autograd graph, and the weighted layers.

    Gradients reach every layer's input, also where parameters are frozen. Raises Refusal, naming
    the model, when it has no weighted layer.
    """
    return _run(model, x, inner=False)[0]


def _run(model: nn.Module, x: Tensor, inner: bool) -> tuple[Forward, set[str]]:
    x = x.detach().to(device_of(model))
    x.requires_grad_(x.is_floating_point() or x.is_complex())
    with torch.enable_grad(), uncompiled(), WeightedLayers(len(x), inner) as watch:
        outputs = tensor_of(model, model(x))
    if not watch.layers:
        raise Refusal(f"{type(model).__name__} applies no linear layer or convolution")
    return Forward(outputs, _edge(x), watch.layers, watch.found), watch.others


def hidden(model: nn.Module, layers: Sequence[Weighted]) -> list[Weighted]:
    """The layers whose inputs are hidden activations, one for each distinct input.

    Raises Refusal, naming the model, when there is none, and for one that is complex or has no
    derivative by x.
    """
    distinct: dict[tuple[object, int], Weighted] = {}
    for layer in layers:
        if layer.edge is None or layer.input.is_complex():
            raise Refusal(
                f"{type(model).__name__} applies a layer to values that are complex or have no "
                "derivative by its input: expected hidden activations of its samples"
            )
        distinct.setdefault((layer.edge.node, layer.edge.output_nr), layer)
    _, *inner = distinct.values()
    if not inner:
        raise Refusal(f"{type(model).__name__} has no hidden layer")
    return inner


def by_sample(model: nn.Module, run: Forward) -> list[Weighted] | None:
    """The hidden layers; None where their rows cannot be trusted to be the samples'."""
    inner, samples = hidden(model, run.layers), len(run.outputs)
    if samples > 1 and (run.crossed or any(len(layer.input) % samples for layer in inner)):
        return None
    return inner


def refuse_whole_numbers(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, for inputs that are token ids, say."""
    if not (x.is_floating_point() or x.is_complex()):
        raise Refusal(
            f"{type(model).__name__} takes whole numbers, such as token ids, which have no "
            "derivative, and whose embedding is no linear layer"
        )


def require_weighted(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, when it has no weighted layer, or takes whole numbers."""
    refuse_whole_numbers(model, x)
    forward(model, x)


def require_layers(model: nn.Module, x: Tensor) -> None:
    """The same, and when it applies weights otherwise than by such layers."""
    refuse_whole_numbers(model, x)
    all_layers(model, x)


def require_hidden(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, when it has no hidden layer, or takes whole numbers."""
    require_weighted(model, x)
    hidden(model, forward(model, x).layers)


def _edge(values: Tensor) -> GradientEdge | None:
    return get_gradient_edge(values) if values.requires_grad else None


def frozen(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, only what follows from x has a gradient; the backward of a checkpoint, too."""
    return without("requires_grad", False, model.parameters())
