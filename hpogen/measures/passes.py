"""A forward pass over a data set that leaves the model as it found it, and what it predicts.

Called by the measures and by the training loop's evaluations: one code path for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from hpogen.measures.convolutions import mend_convolutions

Batch = tuple[Tensor, Tensor]  # images (B, …) and labels (B,)


class Collector(Protocol):
    """Takes what a forward pass gives, batch by batch."""

    def add(self, logits: Tensor, labels: Tensor) -> None: ...


@dataclass(frozen=True)
class Predictions:
    """The logits (N, C) of a pass, in the forward's precision (at least float32), and labels (N,).

    Labels may be probabilities (N, C). Losses are computed in float64.
    """

    logits: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        return len(self.labels)

    @cached_property
    def losses(self) -> Tensor:
        """The cross-entropy of each sample, (N,) float64."""
        return nn.functional.cross_entropy(self.logits.double(), self.labels, reduction="none")

    @property
    def classes(self) -> Tensor:
        """The labels (N,) int64; of probabilities the likeliest class."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    @cached_property
    def mean_loss(self) -> Tensor:
        """() float64, where the logits are: reading it is left to the caller."""
        return self.losses.mean()

    @cached_property
    def hit_rate(self) -> Tensor:
        """The share of samples whose largest logit is the label's, () float64 in [0, 1]."""
        return (self.logits.argmax(1) == self.classes).sum().double() / self.count

    @cached_property
    def loss(self) -> float:
        return float(self.mean_loss)

    @cached_property
    def accuracy(self) -> float:
        """The share of samples whose largest logit is the label's, in [0, 1]."""
        return float(self.hit_rate)


class PredictionCollector:
    """Keeps logits and labels: for losses and accuracies of any model."""

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._logits.append(at_least_float32(logits))
        self._labels.append(labels)

    def result(self) -> Predictions:
        """Raises ValueError when no sample was seen."""
        if not any(len(labels) for labels in self._labels):
            raise ValueError("got no samples: the batches are empty")
        return Predictions(torch.cat(self._logits), torch.cat(self._labels))


def forward_pass(
    model: nn.Module,
    batches: Iterable[Batch],
    collector: Collector,
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[None]:
    """Run the model on every batch in evaluation mode; yields after each, to be driven to its end.

    Images and labels are moved to the model's device. Each forward runs inside `within()`, an
    autocast, say.
    """
    parameter = next(model.parameters(), None)
    device = None if parameter is None else parameter.device
    with undisturbed(model):
        for x, y in batches:
            with torch.no_grad(), within():
                labels = y.to(device)
                collector.add(model(x.to(device)), labels)
            yield


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes, `.grad` and torch's random state are afterwards as before.

    What is differentiated inside has the right gradients (`mend_convolutions`).
    """
    mend_convolutions()
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    devices = {p.device.index for p, _ in gradients if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            model.eval()
            for parameter, _ in gradients:
                parameter.grad = None
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for module, mode in modes:
                module.training = mode


def at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
