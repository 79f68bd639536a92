"""The layers whose per-sample gradients are known: for each function that applies one, a rule.

`network.py` calls the rule when the forward pass does, and what it gives when the backward pass has
come to the layer's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.uses import Convolution, Direct, Lookup, Product, Use

Rule = list[tuple[Tensor | None, Callable[[Tensor], Use]]]
"""The parameters of a layer, each with what its use is, given the gradient of the output."""


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Rule:
    if input.ndim < 2 or weight.ndim != 2:
        return []

    def places(values: Tensor) -> Tensor:
        return values.reshape(len(values), -1, values.shape[-1])  # (N, T, d or p)

    return [
        (weight, lambda b: Product(_ready(places(input), b), places(b))),
        (bias, lambda b: Direct(places(b).sum(1))),
    ]


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Rule:
    rank = weight.ndim - 2
    if input.ndim != weight.ndim:
        return []
    steps, gaps = _each(stride, rank), _each(dilation, rank)
    pads: list[int] = []
    for axis in reversed(range(rank)):
        if padding == "same":
            total = gaps[axis] * (weight.shape[2 + axis] - 1)
            pads += [total // 2, total - total // 2]
        elif padding == "valid":
            pads += [0, 0]
        else:
            pads += [_each(padding, rank)[axis]] * 2
    shape = tuple(weight.shape)
    return [
        (
            weight,
            lambda b: Convolution(_ready(input, b), b, shape, tuple(pads), steps, gaps, groups),
        ),
        (bias, lambda b: Direct(b.flatten(2).sum(2))),
    ]


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Rule:
    if training:
        raise Refusal("batch_norm over the batch's own statistics has no per-sample gradients")

    def normalised(b: Tensor) -> Tensor:
        mean, variance = (v if v is None else _ready(v, b) for v in (running_mean, running_var))
        return functional.batch_norm(_ready(input, b), mean, variance, eps=eps)

    return _per_channel(normalised, weight, bias)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Rule:
    return _per_channel(
        lambda b: functional.group_norm(_ready(input, b), num_groups, eps=eps), weight, bias
    )


def _per_channel(
    normalised: Callable[[Tensor], Tensor], weight: Tensor | None, bias: Tensor | None
) -> Rule:
    def total(values: Tensor) -> Direct:
        return Direct(values.flatten(2).sum(2) if values.ndim > 2 else values)  # (N, C)

    return [(weight, lambda b: total(normalised(b) * b)), (bias, total)]


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Rule:
    shape = list(normalized_shape)
    if input.ndim <= len(shape):
        return []

    def total(values: Tensor) -> Direct:
        return Direct(values.reshape(len(values), -1, *shape).sum(1))  # (N, *shape)

    def scaled(b: Tensor) -> Direct:
        return total(functional.layer_norm(_ready(input, b), shape, eps=eps) * b)

    return [(weight, scaled), (bias, total)]


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Rule:
    if scale_grad_by_freq:
        return []

    def use(b: Tensor) -> Lookup:
        indices = input.reshape(len(input), -1)  # (N, T)
        b = b.reshape(*indices.shape, -1)
        if padding_idx is not None:
            b = b * (indices != padding_idx % len(weight))[..., None]
        return Lookup(indices, b, len(weight))

    return [(weight, use)]


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """An int, or one int in a sequence, for every axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _ready(values: Tensor, like: Tensor) -> Tensor:
    return values.detach().to(like.dtype)


RULES: Mapping[Callable[..., Any], Callable[..., Rule]] = {
    functional.linear: _linear,
    functional.conv1d: _convolution,
    functional.conv2d: _convolution,
    functional.conv3d: _convolution,
    functional.batch_norm: _batch_norm,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
    functional.embedding: _embedding,
}
"""By the function that applies the layer, which modules and hand-written forwards share."""
