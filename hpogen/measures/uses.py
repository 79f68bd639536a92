"""Per-sample gradients of one parameter, from a layer's input A and its output's gradient B.

`layers.py` makes a Use of each layer that a forward pass applies, `network.py` collects them; no
more than LIMIT numbers of explicit gradients are there at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

LIMIT = {"cpu": 2**19, "cuda": 2**24}
"""Explicit per-sample gradients (or unfolded inputs) at a time; a CPU's stay in its cache."""


class Use(Protocol):
    """One use of one parameter, when the backward pass has reached it."""

    def gradients(self, samples: slice) -> Tensor:
        """The chosen samples' gradients, (n, *shape of the parameter)."""
        ...


@dataclass(frozen=True)
class Direct:
    """Per-sample gradients that are small enough to be there: of biases and of norms."""

    values: Tensor  # (N, *shape)

    def gradients(self, samples: slice) -> Tensor:
        return self.values[samples]


@dataclass(frozen=True)
class Product:
    """A matrix: G_i = B_iᵀ A_i, summed over the T places where the layer is applied."""

    inputs: Tensor  # A (N, T, d)
    outputs: Tensor  # B, the gradient of the output, (N, T, p)

    def factors(self, samples: slice) -> tuple[Tensor, Tensor]:
        return self.outputs[samples, None], self.inputs[samples, None]  # (n, 1, T, p or d)

    def gradients(self, samples: slice) -> Tensor:
        return self.outputs[samples].mT @ self.inputs[samples]


@dataclass(frozen=True)
class Convolution:
    """A convolution's weight (g·p, C/g, *kernel) with d = C/g · kernel inputs per output."""

    inputs: Tensor  # A (N, C, *space)
    outputs: Tensor  # B (N, g·p, *space)
    shape: tuple[int, ...]
    padding: tuple[int, ...]  # as `functional.pad` has it
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def factors(self, samples: slice) -> tuple[Tensor, Tensor]:
        """B (n, g, T, p) and the unfolded A (n, g, T, d)."""
        patches = functional.pad(self.inputs[samples], self.padding)
        kernel = self.shape[2:]
        for axis, (size, step, gap) in enumerate(
            zip(kernel, self.stride, self.dilation, strict=True), start=2
        ):
            patches = patches.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
        patches = _grouped(patches, self.groups)  # (n, g, C/g, *space, *kernel)
        patches = patches.movedim(2, 2 + len(kernel))  # (n, g, *space, C/g, *kernel)
        columns = patches.flatten(2 + len(kernel)).flatten(2, -2)
        return _grouped(self.outputs[samples], self.groups).flatten(3).mT, columns

    def gradients(self, samples: slice) -> Tensor:
        if self.inputs.device.type != "cpu":
            outputs, columns = self.factors(samples)
            return (outputs.mT @ columns).reshape(-1, *self.shape)
        # The samples as groups of one convolution: at a CPU's full speed, and without unfolding.
        inputs, outputs = self.inputs[samples], self.outputs[samples]
        padding = list(self.padding[-2::-2])  # before each axis
        if padding != list(self.padding[::-2]):
            inputs, padding = functional.pad(inputs, self.padding), [0] * len(padding)
        n = len(inputs)
        gradients: Tensor = torch.ops.aten.convolution_backward(
            outputs.reshape(1, -1, *outputs.shape[2:]),
            inputs.reshape(1, -1, *inputs.shape[2:]),
            inputs.new_empty(n * self.shape[0], *self.shape[1:]),
            None,
            self.stride,
            padding,
            self.dilation,
            False,
            [0] * len(padding),
            n * self.groups,
            [False, True, False],
        )[1]
        return gradients.view(n, *self.shape)


@dataclass(frozen=True)
class Lookup:
    """An embedding's weight (V, D): each place adds its gradient to one row."""

    indices: Tensor  # (N, T)
    outputs: Tensor  # B (N, T, D), zero at the padding index
    rows: int

    def gradients(self, samples: slice) -> Tensor:
        indices, outputs = self.indices[samples], self.outputs[samples]
        result = outputs.new_zeros(len(indices) * self.rows, outputs.shape[2])
        result.index_add_(0, _keys(indices, self.rows), outputs.flatten(0, 1))
        return result.view(len(indices), self.rows, -1)


@dataclass(frozen=True)
class Gradients:
    """The per-sample gradients of one parameter of `size` numbers: the sum over its uses."""

    uses: Sequence[Use]
    count: int  # N
    size: int
    device: torch.device

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """B (N, p) and A (N, d) with G_i = b_i a_iᵀ, of a matrix used at one place; else None."""
        (use, *others) = self.uses
        if others or not isinstance(use, Product) or use.inputs.shape[1] > 1:
            return None
        return use.outputs[:, 0], use.inputs[:, 0]

    def chunks(self) -> Iterator[Tensor]:
        """Explicit gradients (n, size) of all samples, some samples at a time."""
        for samples in self._slices(self.size):
            yield self._explicit(samples)

    def of(self, sample: int) -> Tensor:
        """One sample's explicit gradient, (size,)."""
        return self._explicit(slice(sample, sample + 1))[0]

    def squared_norms(self) -> Tensor:
        """‖G_i‖², (N,) float64."""
        if all(isinstance(use, Lookup) for use in self.uses):
            return _lookup_norms([use for use in self.uses if isinstance(use, Lookup)])
        products = [use for use in self.uses if isinstance(use, Product | Convolution)]
        if len(products) == len(self.uses):
            left, right = _factors(products, slice(0, 1))
            _, groups, places, p = left.shape
            d = right.shape[-1]
            if places * (p + d) <= p * d:  # the Gram form has fewer multiplications
                numbers = groups * places * (p + d + 2 * places)
                slices = self._slices(numbers)
                return torch.cat([_gram_norms(*_factors(products, chosen)) for chosen in slices])
        return torch.cat([chunk.square().sum(1).double() for chunk in self.chunks()])

    def _explicit(self, samples: slice) -> Tensor:
        total = self.uses[0].gradients(samples)
        for use in self.uses[1:]:
            total = total + use.gradients(samples)
        return total.reshape(len(total), -1)  # of a parameter without dimensions, too

    def _slices(self, numbers: int) -> Iterator[slice]:
        """All samples, as many at a time as have LIMIT numbers together."""
        step = max(1, limit(self.device) // numbers)
        return (slice(start, start + step) for start in range(0, self.count, step))


def limit(device: torch.device) -> int:
    return LIMIT.get(device.type, LIMIT["cpu"])


def _factors(products: Sequence[Product | Convolution], samples: slice) -> tuple[Tensor, Tensor]:
    """The factors of all uses of a weight, joined along the places."""
    if len(products) == 1:
        return products[0].factors(samples)
    left, right = zip(*(product.factors(samples) for product in products), strict=True)
    return torch.cat(left, 2), torch.cat(right, 2)


def _gram_norms(left: Tensor, right: Tensor) -> Tensor:
    """Σ_g Σ_ts (BᵀB)_ts (AᵀA)_ts from (n, g, T, p) and (n, g, T, d); (n,) float64."""
    if left.shape[2] == 1:  # Goodfellow 2015: ‖b‖² ‖a‖²
        squares = left.square().sum(3).double() * right.square().sum(3).double()
        return squares.sum((1, 2))
    return ((left @ left.mT) * (right @ right.mT)).double().sum((1, 2, 3)).clamp(min=0)


def _lookup_norms(lookups: Sequence[Lookup]) -> Tensor:
    indices = torch.cat([lookup.indices for lookup in lookups], 1)
    outputs = torch.cat([lookup.outputs for lookup in lookups], 1)
    rows = lookups[0].rows
    used, place = torch.unique(_keys(indices, rows), return_inverse=True)
    sums = outputs.new_zeros(len(used), outputs.shape[2])
    sums.index_add_(0, place, outputs.flatten(0, 1))
    norms = torch.zeros(len(indices), dtype=torch.float64, device=outputs.device)
    return norms.index_add_(0, used // rows, sums.square().sum(1).double())


def _keys(indices: Tensor, rows: int) -> Tensor:
    """A number for each (sample, row), (N·T,)."""
    first = torch.arange(len(indices), device=indices.device)[:, None] * rows
    return (first + indices).flatten()


def _grouped(values: Tensor, groups: int) -> Tensor:
    """(n, g·c, …) as (n, g, c, …)."""
    return values.reshape(len(values), groups, -1, *values.shape[2:])
