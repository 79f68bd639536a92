"""The head measures that are a mean over samples and no more, left on the device unread.

`HeadStatistics` makes one; whoever reads several of them reads them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, where


@dataclass(frozen=True)
class ClosedForms:
    """Each property is () float64. d = p − q (N, C) float64, `sizes` ‖h_i‖² + 1 (N,) float64."""

    output_gradients: Tensor  # d
    sizes: Tensor
    labels: Tensor  # (N,) int64, or probabilities (N, C)

    @cached_property
    def squares(self) -> Tensor:
        """‖d_i‖² (N,)."""
        return self.output_gradients.square().sum(1)

    @property
    def agn(self) -> Tensor:
        """mean_i ‖d_i‖² (‖h_i‖² + 1)."""
        return (self.squares * self.sizes).mean()

    @property
    def agn_relative(self) -> Tensor:
        return _ratio(self.agn, self.sizes.mean())

    @property
    def brier(self) -> Tensor:
        return self.squares.mean()

    @cached_property
    def trace_hessian(self) -> Tensor:
        """mean_i (1 − ‖p_i‖²)(‖h_i‖² + 1)."""
        d, labels = self.output_gradients, self.labels
        if labels.is_floating_point():  # 1 − ‖p‖² = 1 − ‖q‖² − 2 d·q − ‖d‖²
            variances = 1 - labels.double().square().sum(1) - 2 * (d * labels).sum(1)
        else:  # −2 d_y − ‖d‖²: nothing cancels where the label is the likeliest class
            variances = -2 * d.gather(1, labels[:, None])[:, 0]
        variances = (variances - self.squares).clamp_min(0)  # (N,)
        return variances @ self.sizes / len(self.sizes)

    @property
    def tic(self) -> Tensor:
        return _ratio(self.agn, self.trace_hessian)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 over anything is 0, and something over nothing infinite: a trial has diverged then."""
    return where(numerator == 0, 0.0, numerator / denominator)
