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
from hpogen.training.mixing import Mixed


@dataclass(frozen=True)
class TrainedLoss:
    """A loss over a batch. With class weights w, Σ w_i l_i / Σ w_i, as torch's `weight=` has it."""

    loss: Loss
    own: bool  # not the targets' first one: the measures have no closed form for it
    smooths: bool  # the cross-entropy of classes, which torch itself smooths and weights
    smoothing: float = 0.0
    weights: Tensor | None = None  # (C,) float32

    def mean(self, outputs: Tensor, targets: Tensor | Mixed) -> Tensor:
        """What a step descends, (): of outputs (B, …) and targets."""
        if isinstance(targets, Mixed):
            first, second, share = targets
            return share * self.mean(outputs, first) + (1 - share) * self.mean(outputs, second)
        if self.smooths:
            smoothing = self.smoothing
            return functional.cross_entropy(
                outputs, targets, self.weights, label_smoothing=smoothing
            )
        if self.weights is None:
            return self.loss.mean(outputs, targets)
        return self._terms(at_least_float32(outputs), targets).mean()

    def squared_norms(self, last: LastLinear, outputs: Tensor, targets: Tensor | Mixed) -> Tensor:
        """s_i (B,) of the newest forward pass: of the terms whose mean over the batch is `mean`."""
        if isinstance(targets, Tensor) and self.weights is None:
            own = self.loss if self.own else None
            return last.squared_gradient_norms(outputs, targets, self.smoothing, own)
        if self.smooths:
            return last.squared_gradient_norms(outputs, self._soft(targets, outputs.shape[1]))
        first = targets.first if isinstance(targets, Mixed) else targets
        return last.squared_gradient_norms(
            outputs, first, loss=lambda z, _: self._terms(z, targets)
        )

    def _terms(self, outputs: Tensor, targets: Tensor | Mixed) -> Tensor:
        """(B,): what each sample brings into the mean over the batch, of any loss."""
        if isinstance(targets, Mixed):
            first, second, share = targets
            return share * self._terms(outputs, first) + (1 - share) * self._terms(outputs, second)
        losses = self.loss.of_each(outputs, targets)
        return losses if self.weights is None else losses * _relative(self.weights[targets])

    def _soft(self, targets: Tensor | Mixed, classes: int) -> Tensor:
        """Targets q (B, C) float64 of which −Σ_c q_c ln p_c is a sample's term."""
        if isinstance(targets, Mixed):
            first, second, share = targets
            return share * self._soft(first, classes) + (1 - share) * self._soft(second, classes)
        chosen = functional.one_hot(targets, classes).double()
        q = smoothed(chosen, classes, self.smoothing)
        if self.weights is None:
            return q
        return q * self.weights.double() / self.weights[targets].double().mean()


def _relative(weights: Tensor) -> Tensor:
    """B w_i / Σ w_j (B,)."""
    return weights / weights.mean()


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
