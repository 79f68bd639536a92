"""The head family: closed forms on the last layer, all from one forward pass over a data set.

`head_statistics` is for any PyTorch loop; hpogen's own loop collects the same in its evaluation
pass. Formulas and notation: z = W h + b, p = softmax(z), d = p − q with q the target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.passes import (
    Batch,
    PredictionCollector,
    Predictions,
    at_least_float32,
    forward_pass,
)

CHUNK = 4096  # samples that are in float64 at a time


@dataclass(frozen=True)
class HeadStatistics:
    """The last layer and what it saw: all that the measures of this family are computed from.

    H (N, D), Z (N, C), W (C, D) and b (C,) or None in the forward's precision, at least float32;
    labels (N,) int64. Sums are in float64.
    """

    predictions: Predictions
    features: Tensor  # H, the inputs of the last `nn.Linear`
    weight: Tensor  # W
    bias: Tensor | None  # b

    @property
    def logits(self) -> Tensor:
        return self.predictions.logits

    @property
    def labels(self) -> Tensor:
        return self.predictions.labels

    @property
    def count(self) -> int:
        """N, the number of samples."""
        return self.predictions.count

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return self.predictions.loss

    @property
    def accuracy(self) -> float:
        """The share of samples classified as labelled, in [0, 1]."""
        return self.predictions.accuracy

    @cached_property
    def agn(self) -> float:
        """The mean over samples of the squared norm of the last layer's loss gradient, s_i.

        One epoch's term of AGN (gradient-norm paper, eq. 5), which sums it over epochs.
        """
        total = 0.0
        for start in range(0, self.count, CHUNK):
            part = slice(start, start + CHUNK)
            norms = squared_gradient_norms(
                self.features[part], self.logits[part], self.labels[part], self.bias is not None
            )
            total += float(norms.sum())
        return total / self.count


def head_statistics(model: nn.Module, batches: Iterable[Batch]) -> HeadStatistics:
    """One forward pass, in evaluation mode, over `batches` of images (B, …) and labels (B,).

    The model's last `nn.Linear` must give the model's output: Refusal, naming the model's class,
    if not; ValueError if there is no sample. Parameters, buffers, `.grad`, training mode and
    torch's random state are left as they were.
    """
    with HeadCollector(model) as collector:
        for _ in forward_pass(model, batches, collector):
            pass
        return collector.result()


def squared_gradient_norms(features: Tensor, logits: Tensor, targets: Tensor, bias: bool) -> Tensor:
    """s_i = ‖d_i‖² (‖h_i‖² + 1), without the 1 for a layer without bias (Goodfellow 2015).

    `features` (N, D), `logits` (N, C), `targets` (N,) labels or (N, C) probabilities; the result is
    (N,) float64. Softmax in float64, or 1 − p_y would cancel for samples that are well fitted.
    """
    difference = logits.double().softmax(1)  # (N, C)
    if targets.is_floating_point():
        difference -= targets
    else:
        difference[torch.arange(len(targets), device=targets.device), targets] -= 1
    size = features.double().square().sum(1) + bias  # (N,)
    return difference.square().sum(1) * size


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """The targets of cross-entropy with label smoothing, (N, C) float64; hard labels at 0."""
    if smoothing == 0:
        return labels
    one_hot = nn.functional.one_hot(labels, classes).double()
    return one_hot * (1 - smoothing) + smoothing / classes


class LastLinear:
    """Watches, while it is entered, which `nn.Linear` of a model runs last, and its input."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._runs: list[tuple[nn.Linear, Tensor, Tensor, int]] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> LastLinear:
        for module in self._model.modules():
            if isinstance(module, nn.Linear):
                self._hooks.append(module.register_forward_hook(self._record))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._runs.clear()

    def _record(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            self._runs.append((module, inputs[0].detach(), output, output._version))

    def read(self, logits: Tensor) -> tuple[nn.Linear, Tensor]:
        """The last layer and its input h (N, D), of the forward pass that gave `logits` (N, C).

        Raises Refusal when the last layer's output is not the model's, or it ran twice: the closed
        forms do not hold then.
        """
        runs, self._runs = self._runs, []
        name = type(self._model).__name__
        if not runs:
            raise Refusal(f"{name} has no nn.Linear")
        layer, features, output, version = runs[-1]
        if features.ndim != 2 or not _same(output, logits) or logits._version != version:
            raise Refusal(f"the output of {name} is not that of its last nn.Linear")
        if sum(run[0] is layer for run in runs) > 1:
            raise Refusal(f"{name} uses its last nn.Linear twice")
        return layer, features


class HeadCollector:
    """Collects HeadStatistics from the forward passes that run while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        self._last = LastLinear(model)
        self._predictions = PredictionCollector()
        self._features: list[Tensor] = []
        self._layer: nn.Linear | None = None

    def __enter__(self) -> HeadCollector:
        self._last.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._last.__exit__()

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._layer, features = self._last.read(logits)
        self._features.append(at_least_float32(features))
        self._predictions.add(logits, labels)

    def result(self) -> HeadStatistics:
        """Raises ValueError when no sample was seen."""
        predictions = self._predictions.result()
        if self._layer is None:
            raise ValueError("got no samples: the batches are empty")
        bias = self._layer.bias
        return HeadStatistics(
            predictions,
            torch.cat(self._features),
            at_least_float32(self._layer.weight.detach().clone()),
            None if bias is None else at_least_float32(bias.detach().clone()),
        )


def _same(output: Tensor, logits: Tensor) -> bool:
    """Whether two tensors are the same memory in the same shape."""
    shared = output.untyped_storage()._cdata == logits.untyped_storage()._cdata
    return shared and output.shape == logits.shape
