"""Watches the last layer of a network at work, and the gradient of the loss there.

The head measures and the training step take from it what no other pass has to compute again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hpogen.errors import Refusal


class LastLinear:
    """Watches, while it is entered, which `nn.Linear` of a model runs last, and its input."""

    def __init__(self, model: nn.Module) -> None:
        self._wrapped = isinstance(model, DistributedDataParallel)
        self._model = model.module if isinstance(model, DistributedDataParallel) else model
        self._runs: list[tuple[nn.Linear, Tensor, Tensor, int]] = []  # of the newest forward
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> LastLinear:
        self._hooks.append(self._model.register_forward_pre_hook(self._forget))
        for module in self._model.modules():
            if isinstance(module, nn.Linear):
                self._hooks.append(module.register_forward_hook(self._record))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._runs.clear()

    def _forget(self, *_: object) -> None:
        self._runs.clear()

    def _record(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Linear):  # detached: no graph is kept alive
            self._runs.append((module, inputs[0].detach(), output.detach(), output._version))

    def read(self, logits: Tensor) -> tuple[nn.Linear, Tensor]:
        """The last layer and its input h (N, D), of the newest forward, which gave `logits` (N, C).

        Raises Refusal when the last layer's output is not the model's, or it ran twice: the closed
        forms do not hold then.
        """
        runs, self._runs = self._runs, []
        name = type(self._model).__name__
        if not runs:
            raise Refusal(f"{name} has no nn.Linear")
        layer, features, output, version = runs[-1]
        same = _same(output, logits) and logits._version == version
        if not same and self._wrapped:  # which may give a copy
            same = torch.equal(output, logits)
        if features.ndim != 2 or not same:
            raise Refusal(f"the output of {name} is not that of its last nn.Linear")
        if sum(run[0] is layer for run in runs) > 1:
            raise Refusal(f"{name} uses its last nn.Linear twice")
        return layer, features

    def squared_gradient_norms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """s_i (N,) of the newest forward pass, which gave `logits`: see the function."""
        layer, features = self.read(logits)
        return squared_gradient_norms(features, logits.detach(), targets, layer.bias is not None)


def require_last_linear(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, when its output is not that of its last `nn.Linear`."""
    with LastLinear(model) as last:
        last.read(model(x))


def squared_gradient_norms(features: Tensor, logits: Tensor, targets: Tensor, bias: bool) -> Tensor:
    """s_i = ‖d_i‖² (‖h_i‖² + 1), without the 1 for a layer without bias (Goodfellow 2015).

    `features` (N, D), `logits` (N, C), `targets` (N,) labels or (N, C) probabilities; the result is
    (N,) float64.
    """
    size = features.double().square().sum(1) + bias  # (N,)
    return output_gradient(logits, targets).square().sum(1) * size


def output_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """d = p − q (N, C) float64, the gradient of each sample's cross-entropy by its logits.

    With labels, d_y is −Σ_{j≠y} p_j: p_y − 1 would cancel for samples that are well fitted.
    """
    difference = logits.double().softmax(1)
    if targets.is_floating_point():
        return difference - targets
    chosen = targets[:, None]
    difference.scatter_(1, chosen, 0.0)
    return difference.scatter_(1, chosen, -difference.sum(1, keepdim=True))


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """The targets of cross-entropy with label smoothing, (N, C) float64; hard labels at 0."""
    if smoothing == 0:
        return labels
    one_hot = nn.functional.one_hot(labels, classes).double()
    return one_hot * (1 - smoothing) + smoothing / classes


def _same(output: Tensor, logits: Tensor) -> bool:
    """Whether two tensors are the same memory in the same shape."""
    shared = output.untyped_storage()._cdata == logits.untyped_storage()._cdata
    return shared and output.shape == logits.shape
