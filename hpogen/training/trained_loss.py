"""The loss that the steps of a trial descend: the task's own, smoothed and weighted by class.

`recipe.py` makes it, `step.py` asks. What is measured after an epoch is the plain loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hpogen.measures.last_linear import LastLinear
from hpogen.measures.passes import at_least_float32
from hpogen.measures.targets import smoothed
from hpogen.training.data.prepared import Prepared
from hpogen.training.forms.task import Settings
from hpogen.training.losses import Loss


@dataclass(frozen=True)
class TrainedLoss:
    """A loss over a batch. With class weights w, Σ w_i l_i / Σ w_i, as torch's `weight=` has it."""

    loss: Loss
    own: bool  # not the targets' first one: the measures have no closed form for it
    smooths: bool  # the cross-entropy of classes, which torch itself smooths and weights
    smoothing: float = 0.0
    weights: Tensor | None = None  # (C,) float32

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What a step descends, (): of outputs (B, …) and targets."""
        if self.smooths:
            smoothing = self.smoothing
            return functional.cross_entropy(
                outputs, targets, self.weights, label_smoothing=smoothing
            )
        if self.weights is None:
            return self.loss.mean(outputs, targets)
        losses = self.loss.of_each(at_least_float32(outputs), targets)
        return (losses * self._shares(targets)).mean()

    def squared_norms(self, last: LastLinear, outputs: Tensor, targets: Tensor) -> Tensor:
        """s_i (B,) of the newest forward pass: of the terms whose mean over the batch is `mean`."""
        own = self.loss if self.own else None
        if self.weights is None:
            return last.squared_gradient_norms(outputs, targets, self.smoothing, own)
        if self.smooths:
            return last.squared_gradient_norms(outputs, self._soft(targets, self.weights))
        norms = last.squared_gradient_norms(outputs, targets, loss=own)
        return norms * self._shares(targets).double().square()

    def _shares(self, targets: Tensor) -> Tensor:
        """B w_i / Σ w_j (B,): what a sample counts in its batch."""
        assert self.weights is not None
        found = self.weights[targets]
        return found / found.mean()

    def _soft(self, targets: Tensor, weights: Tensor) -> Tensor:
        """Targets q (B, C) float64 with −Σ_c q_c ln p_c = B times a sample's term."""
        classes = len(weights)
        chosen = functional.one_hot(targets, classes).double()
        q = smoothed(chosen, classes, self.smoothing) * weights.double()
        return q / weights[targets].double().mean()


def trained_loss(settings: Settings, data: Prepared, loss: Loss, smoothing: float) -> TrainedLoss:
    """The trial's; balanced weights are those of its subset, as its labels are."""
    own = not data.target.entropy or loss.name != data.target.losses[0]
    smooths = data.target.smooths and not own
    weights = _weights(settings, data)
    return TrainedLoss(loss, own, smooths, smoothing if smooths else 0.0, weights)


def _weights(settings: Settings, data: Prepared) -> Tensor | None:
    """(C,): as given, or N/(C·N_c), where a class without a sample counts as one with one."""
    given, targets = settings.class_weights, data.subset.targets
    if given is None:
        return None
    if isinstance(given, tuple):
        return torch.tensor(given, device=targets.device)
    classes = data.target.classes(data.outputs)
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    return len(targets) / (classes * counts)
