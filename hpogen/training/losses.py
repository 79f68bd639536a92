"""The losses by name, and the loss of a task as the steps and the measures take it.

`plugins.losses` names them; `recipe.py` makes the `Loss` of a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from hpogen.errors import UserError
from hpogen.measures.passes import at_least_float32
from hpogen.measures.sequences import mean_cross_entropy


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−ln p_y of each sample, (N,): logits (N, C), classes (N,).

    Of logits (N, T, C) and classes (N, T) the mean over a sample's own labelled positions.
    """
    if targets.ndim == 2:
        if logits.ndim != 3 or targets.shape != logits.shape[:2]:
            raise UserError(
                f"the model gives {tuple(logits.shape)} for targets {tuple(targets.shape)}, "
                f"expected {(*targets.shape, 'C')}: logits for each position"
            )
        return mean_cross_entropy(logits, targets)
    return functional.cross_entropy(logits, targets, reduction="none")


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """The binary cross-entropy (N,), its mean over the labels: logits (N, L), targets of 0 and 1.

    Targets are (N, L), or (N,) for one logit.
    """
    targets = targets.reshape(logits.shape).to(logits.dtype)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses.mean(1)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """mean_k (z_k − y_k)² of each sample, (N,): both (N, K)."""
    return functional.mse_loss(outputs, targets, reduction="none").mean(1)


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """mean_k |z_k − y_k| of each sample, (N,): both (N, K)."""
    return functional.l1_loss(outputs, targets, reduction="none").mean(1)


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """mean_k of Huber's loss with δ = 1, (N,): ½ e² for |e| ≤ 1, else |e| − ½, e = z_k − y_k."""
    return functional.huber_loss(outputs, targets, reduction="none").mean(1)


@dataclass(frozen=True)
class Loss:
    """A named loss of each sample, called as torch's own losses are."""

    name: str
    func: Callable[[Tensor, Tensor], Tensor]  # of outputs (N, …) and targets; gives (N,)

    def __call__(self, outputs: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        """(N,); with `reduction="sum"` their sum in float64, for the measures. Raises UserError."""
        if reduction == "sum":
            outputs = outputs.double()
            outputs = outputs + (outputs - outputs)  # NaN for −∞, which leaves a finite gradient
            targets = targets.double() if targets.is_floating_point() else targets
            return self.of_each(outputs, targets).sum()
        return self.of_each(outputs, targets)

    def of_each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.func(outputs, targets)
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        if shape != (len(outputs),):
            raise UserError(
                f"the loss {self.name!r} gave {shape} for outputs {tuple(outputs.shape)} and "
                f"targets {tuple(targets.shape)}, expected one loss for each sample, "
                f"({len(outputs)},): take the mean over the others"
            )
        if outputs.requires_grad and not losses.requires_grad:
            raise UserError(
                f"the loss {self.name!r} does not depend on the model's outputs: expected a "
                "function of them that torch can differentiate"
            )
        return losses

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What a training step descends, ()."""
        return self.of_each(at_least_float32(outputs), targets).mean()
