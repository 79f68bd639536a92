"""The check of a pass: what the gradients of a few samples add up to, without the others.

`network.py` makes one for each model and shape. Rows that are no samples or not in their order, and
samples that change each other's outputs, give another sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.as_found import kept, without
from hpogen.measures.batches import logits_in
from hpogen.measures.passes import at_least_float32
from hpogen.measures.uses import Gradients

FEW = 7  # samples that are looked at, at most; an odd number, or pairs may stay the same
GOLDEN = 0.618034  # its multiples, modulo 1, are far from each other
FAINT = 1e-2  # gradients that small beside the largest parameter's may be nothing but rounding
TotalOf = Callable[[Tensor, Tensor], Tensor]  # of outputs and targets: the summed loss, ()


@dataclass(frozen=True)
class Together:
    """A batch, and what the model and the loss make of all its samples together."""

    x: Tensor
    y: Tensor
    outputs: Tensor
    total: Tensor


class Check:
    """Σ_k w_k G_k of each parameter by autograd: a few samples k, 1 ≤ w_k < 2."""

    def __init__(
        self, model: nn.Module, names: Mapping[Tensor, str], batch: Together, total_of: TotalOf
    ) -> None:
        x, y = batch.x, batch.y
        self.rows, self.settled = few(x, y)  # settled: another batch would tell no more
        self._names = names
        self._sums: dict[str, Tensor] = {}
        self._whole, self._faint, self._error = True, 0.0, 0.0
        try:
            self._backward(model, x, y, total_of)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # the model's own: it takes no such batch, but one sample, perhaps
            self.rows, self._whole = self.rows[:1], False
            with suppress(Exception):
                self._backward(model, x, y, total_of)
        refuse_sum(batch, _losses(batch, total_of))

    def _backward(self, model: nn.Module, x: Tensor, y: Tensor, total_of: TotalOf) -> None:
        unhooked = without("_backward_hooks", None, self._names)  # a user's may change gradients
        with torch.enable_grad(), unhooked, kept(model):
            outputs = logits_in(model(x[self.rows]))
            each = _each(outputs, y[self.rows], total_of)
            losses = [
                weight * loss for loss, (_, weight) in zip(each, self._weighted(), strict=True)
            ]
            gradients = torch.autograd.grad(losses, list(self._names), allow_unused=True)
        for name, gradient in zip(self._names.values(), gradients, strict=True):
            if gradient is not None:
                self._sums[name] = flat(gradient)
        norms = (float(value.norm()) for value in self._sums.values())
        self._faint = FAINT * max((norm for norm in norms if math.isfinite(norm)), default=0)
        self._error = rounding([*self._names, outputs])

    def _weighted(self) -> Iterator[tuple[int, float]]:
        return ((row, 1 + k * GOLDEN % 1) for k, row in enumerate(self.rows))

    def confirms(self, name: str, gradients: Gradients) -> bool:
        """Whether the gradients that a pass gave are those of its samples."""
        if not self._whole:
            return False
        if not self._expected(name, gradients.size).any():
            self.settled = False
            return not any(bool(chunk.any()) for chunk in gradients.chunks())
        return self._agrees(name, gradients.size, gradients.of, self._error)

    def contradicts(self, name: str, gradients: Mapping[int, Tensor]) -> bool:
        """Whether explicit gradients, by their samples, are other than autograd's."""
        size = len(next(iter(gradients.values())))
        expected = self._expected(name, size)
        self.settled &= bool(expected.any())
        agree = self._agrees(name, size, gradients.__getitem__, self._error**0.5)
        return bool(expected.isfinite().all()) and not agree

    def _expected(self, name: str, size: int) -> Tensor:
        found = self._sums.get(name)
        return torch.zeros(size) if found is None else found

    def _agrees(self, name: str, size: int, of: Callable[[int], Tensor], error: float) -> bool:
        difference, scale = -self._expected(name, size), self._faint
        for row, weight in self._weighted():
            gradient = of(row)
            if gradient.shape != difference.shape:
                return False
            difference = difference.to(gradient) + weight * gradient
            scale += weight * float(gradient.norm())
        return float(difference.norm()) <= error * scale


@dataclass(frozen=True)
class Verdict:
    """Which parameters' gradients do not come from the layers' rows, as far as is known."""

    check: Check | None  # None: nothing is open
    slow: set[str] = field(default_factory=set)

    def trusts(self, name: str, gradients: Gradients) -> bool:
        if self.check is None or self.check.confirms(name, gradients):
            return True
        self.slow.add(name)
        return False


def refuse_sum(batch: Together, losses: Tensor) -> None:
    """Raise Refusal where the loss of all samples is not the sum of each one's losses (N,)."""
    total, alone = batch.total.double(), losses.double()
    error = rounding([batch.outputs]) * (alone.abs().sum() + total.abs())
    if bool(total.isfinite()) and not bool((total - alone.sum()).abs() <= error):
        raise Refusal(
            f"the loss of {len(losses)} samples together is {float(total):g}, the sum of each "
            f"one's {float(alone.sum()):g}: expected loss(outputs, y, reduction='sum') to add up "
            "samples that do not change each other's losses"
        )


def refuse_mixing(
    model: nn.Module,
    outputs: Tensor,
    samples: slice,
    alone: Tensor,
    what: str = "per-sample gradients",
) -> None:
    """Raise Refusal where samples alone have other outputs (n, …) than among all, (N, …)."""
    if not outputs.isfinite().all():  # nothing can be compared, and the numbers say so
        return
    together, alone = outputs[samples].flatten(1), alone.reshape(len(alone), -1)
    row = samples.start
    if together.shape == alone.shape:
        scale = torch.maximum(together.abs().amax(1), outputs.abs().mean())
        error = rounding([alone, *model.parameters()]) * scale[:, None]
        close = (together - alone).abs() <= error
        if close.all():
            return
        row += int((~close.all(1)).nonzero()[0])
    raise Refusal(
        f"{type(model).__name__} mixes the samples of a batch, sample {row} has other outputs "
        f"alone than among all {len(outputs)}: there are no {what}"
    )


def _losses(batch: Together, total_of: TotalOf) -> Tensor:
    with torch.no_grad():
        return torch.stack(list(_each(batch.outputs, batch.y, total_of)))


def _each(outputs: Tensor, y: Tensor, total_of: TotalOf) -> Iterator[Tensor]:
    """Each sample's loss by itself, ()."""
    parts = torch.split(outputs, len(outputs) // len(y))
    return (total_of(part, y[row : row + 1]) for row, part in enumerate(parts))


def flat(gradient: Tensor) -> Tensor:
    """A gradient as real numbers of at least float32, (size,): 2 of them for a complex one."""
    gradient = gradient.to_dense() if gradient.is_sparse else gradient
    gradient = torch.view_as_real(gradient) if gradient.is_complex() else gradient
    return at_least_float32(gradient.detach()).flatten()


def rounding(tensors: Iterable[Tensor]) -> float:
    """How far two ways to the same numbers may be apart, for the least precise of the tensors."""
    return float(max(_epsilon(tensor) for tensor in tensors) ** 0.7)


def _epsilon(tensor: Tensor) -> float:
    kind, epsilon = tensor.device.type, torch.finfo(tensor.dtype).eps
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        epsilon = max(epsilon, torch.finfo(torch.get_autocast_dtype(kind)).eps)
    return max(epsilon, 2.0**-11) if kind == "cuda" and tensor.dtype == torch.float32 else epsilon


def few(x: Tensor, y: Tensor) -> tuple[list[int], bool]:
    """Some samples, in another order, and whether they differ."""
    first = [(values == values[:1]).reshape(len(x), -1).all(1) for values in (x, y)]
    others = (~(first[0] & first[1].to(x.device))).nonzero()[:, 0].tolist()
    candidates = [0, *others]
    if len(x) < 4:
        return candidates[-1:], bool(others) or len(x) == 1
    shuffled = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0)).tolist()
    count = min(FEW, max(3, (len(x) // 2 - 1) | 1))
    return [candidates[place] for place in shuffled[:count]], bool(others) or len(x) == 1
