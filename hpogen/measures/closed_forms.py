"""The head measures that are a mean over samples and no more, left on the device unread.

`HeadStatistics` makes one; whoever reads several of them reads them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, where

TINY = 1e-300  # in the place of Σq = 0, where all is 0


@dataclass(frozen=True)
class ClosedForms:
    """Each property is () float64. d = p − q (N, C) float64, `sizes` ‖h_i‖² + 1 (N,) float64."""

    output_gradients: Tensor  # d
    squares: Tensor  # ‖d_i‖² (N,)
    sizes: Tensor
    labels: Tensor  # (N,) int64, or probabilities (N, C)

    @property
    def agn(self) -> Tensor:
        """mean_i ‖d_i‖² (‖h_i‖² + 1)."""
        return (self.squares * self.sizes).mean()

    @property
    def agn_relative(self) -> Tensor:
        return _ratio(self.agn, self.sizes.mean())

    @cached_property
    def trace_hessian(self) -> Tensor:
        """mean_i Σq_i (1 − ‖p_i‖²)(‖h_i‖² + 1); of one logit, p(1 − p) in the place of 1 − ‖p‖²."""
        d, labels = self.output_gradients, self.labels
        if d.shape[1] == 1:  # |d| is p or 1 − p
            p = (d + labels)[:, 0] if labels.is_floating_point() else d[:, 0].abs()
            variances = p * (1 - p)
        elif labels.is_floating_point():  # (Σq)² (1 − ‖p‖²) = (Σq)² − ‖q‖² − 2 d·q − ‖d‖²
            q, total = labels.double(), labels.double().sum(1)
            variances = total.square() - q.square().sum(1) - 2 * (d * q).sum(1) - self.squares
            variances = variances / total.clamp_min(TINY)
        else:  # −2 d_y − ‖d‖²: nothing cancels where the label is the likeliest class
            variances = -2 * d.gather(1, labels[:, None])[:, 0] - self.squares
        return variances.clamp_min(0) @ self.sizes / len(self.sizes)

    @property
    def tic(self) -> Tensor:
        return _ratio(self.agn, self.trace_hessian)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 over anything is 0, and something over nothing infinite: a trial has diverged then."""
    return where(numerator == 0, 0.0, numerator / denominator)
