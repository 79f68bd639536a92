"""Works off what the last layer sees, some samples at a time: then no features have to be kept.

`head_pass.py` does so where no measure reads them; `head.py` does the same with those it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpogen.measures.last_linear import counts, refuse_frozen, sizes
from hpogen.measures.moments import Moments
from hpogen.measures.passes import Rows
from hpogen.measures.targets import LossFunction, by_rows, output_gradient

CHUNK = 4096  # samples whose features are in float64 at a time


@dataclass(frozen=True)
class Reduced:
    """What is left of features (N, D) that were worked off some at a time, and are kept no more."""

    sizes: Tensor  # ‖h_i‖² + 1 (N,)
    moments: Moments | None  # where a measure needs them


def output_gradients(logits: Tensor, labels: Tensor, loss: LossFunction | None) -> Tensor:
    """d (N, C) float64, the gradient of each sample's loss by its logits.

    NaN where one of them is not finite: −∞ would leave a finite one.
    """

    def of(logits: Tensor, labels: Tensor) -> Tensor:
        unknown = ~logits.isfinite().all(1, keepdim=True)
        return output_gradient(logits, labels, loss).masked_fill_(unknown, torch.nan)

    return by_rows(of, logits, labels)


def no_moments(weight: Tensor, counts: bool, bias: bool) -> Moments:
    """Those of no sample, for a last layer with that weight (C, D).

    `counts` and `bias` are whether weight and bias count. Raises Refusal where neither does.
    """
    refuse_frozen(counts, bias)
    width = weight.shape[1] if counts else 0
    return Moments.zeros((len(weight), width + bias), weight.device)


def add_samples(moments: Moments, d: Tensor, features: Tensor, counts: bool) -> None:
    """Add n samples: d (n, C) float64 and features (n, D); `counts`: whether the weight does."""
    with torch.autocast(d.device.type, enabled=False):
        moments.add(d, features if counts else features[:, :0])


class Reducing:
    """Works features off: for the moments `CHUNK` samples at a time, and no more of them are kept.

    These wait in one place: to put together what is large would tear holes into the memory.
    """

    def __init__(self, loss: LossFunction | None, moments: bool, expected: int) -> None:
        self._loss, self._wanted = loss, moments
        self._sizes = Rows(expected)
        self._moments: Moments | None = None
        self._waiting: tuple[Tensor, ...] = ()  # logits, labels, features: (CHUNK, …) each
        self._count = 0  # of those that do
        self._counts = (True, True)

    def add(self, layer: nn.Linear, *seen: Tensor) -> None:
        """Logits (B, C), labels, and features (B, D) of that layer."""
        self._counts = counts(layer)
        self._sizes.add(sizes(seen[2], *self._counts))
        if not self._wanted:
            return
        if self._moments is None:
            self._moments = no_moments(layer.weight, *self._counts)
            self._waiting = tuple(x.new_empty(CHUNK, *x.shape[1:]) for x in seen)
        start = 0
        while start < len(seen[0]):
            part = slice(start, start + CHUNK - self._count)
            added = [x[part] for x in seen]
            for place, x in zip(self._waiting, added, strict=True):
                place[self._count : self._count + len(x)] = x
            start += len(added[0])
            self._count += len(added[0])
            if self._count == CHUNK:
                self._add_up()

    def result(self) -> Reduced:
        if self._count:
            self._add_up()
        return Reduced(self._sizes.result(), self._moments)

    def _add_up(self) -> None:
        logits, labels, features = (x[: self._count] for x in self._waiting)
        assert self._moments is not None
        d = output_gradients(logits, labels, self._loss)
        add_samples(self._moments, d, features, self._counts[0])
        self._count = 0
