"""Moments and signs of the last layer's per-sample gradients, and the measures made of them.

`HeadStatistics` fills them; no per-sample gradient is ever formed: g_ick = d_ic h_ik is a product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hpogen.measures.passes import check_finite

FEWEST = 30  # non-zero gradients of a parameter whose signs are worth counting
ROUNDING = 1e-12  # of the second moment: less variance than that is none


@dataclass
class Moments:
    """Sums over N samples of the gradient of each parameter, its square, sign and sign's size.

    Each (C, K) float64, with K = D, or D + 1 with the bias as the last column. What is computed
    from them raises FloatingPointError where a sum is not finite.
    """

    first: Tensor  # S1 = dᵀ h
    second: Tensor  # S2 = (d∘d)ᵀ (h∘h)
    signs: Tensor  # S = sgn(d)ᵀ sgn(h)
    nonzero: Tensor  # NZ = |sgn d|ᵀ |sgn h|
    count: int = 0  # N

    @classmethod
    def zeros(cls, shape: tuple[int, int], device: torch.device) -> Moments:
        first, second, signs, nonzero = torch.zeros(4, *shape, dtype=torch.float64, device=device)
        return cls(first, second, signs, nonzero)

    def add(self, d: Tensor, h: Tensor) -> None:
        """Add n samples with output gradients d (n, C) float64 and inputs h (n, D).

        The numbers that are computed from the sums must not have been read before.
        """
        width, squares, signs = h.shape[1], d.square(), d.sign().float()
        inputs = h.to(torch.float64, copy=True)
        self.first[:, :width] += d.T @ inputs
        self.second[:, :width] += squares.T @ inputs.square_()
        del inputs  # the largest of them
        input_signs = h.sign().float()  # float32 counts exactly to 2²⁴
        self.signs[:, :width] += signs.T @ input_signs
        self.nonzero[:, :width] += signs.abs().T @ input_signs.abs_()
        if self.first.shape[1] > width:  # the bias, whose input is 1
            for total, values in (
                (self.first, d),
                (self.second, squares),
                (self.signs, signs),
                (self.nonzero, signs.abs()),
            ):
                total[:, width] += values.sum(0)
        self.count += len(d)

    @cached_property
    def mean(self) -> Tensor:
        """m (C, K), the mean gradient."""
        check_finite(self.first, "a gradient")
        check_finite(self.second, "a gradient's square")
        return self.first / self.count

    @cached_property
    def _squares_and_variances(self) -> tuple[Tensor, Tensor]:
        """m² and ρ² of the parameters whose gradient varies by more than rounding, (P,) each."""
        square, second = self.mean.square(), self.second / self.count
        variance = second - square
        varying = variance > ROUNDING * second
        return square[varying], variance[varying]

    @cached_property
    def _ratios(self) -> Tensor:
        """r_j = m_j² / ρ_j² (P,): the GSNR paper's eq. 2, estimated as in its eq. 25."""
        square, variance = self._squares_and_variances
        return square / variance

    @property
    def gsnr(self) -> float:
        """mean_j r_j; 0 where no gradient varies, like the three after it."""
        return _mean(self._ratios)

    @property
    def gsnr_median(self) -> float:
        ratios = self._ratios.sort().values
        middle = ratios[(len(ratios) - 1) // 2 : len(ratios) // 2 + 1]
        return _mean(middle)

    @property
    def gsnr_ratio(self) -> float:
        """Σ_j m_j² / Σ_j ρ_j²."""
        square, variance = self._squares_and_variances
        return float(square.sum() / variance.sum()) if len(square) else 0.0

    @property
    def gsnr_debiased(self) -> float:
        """mean_j (m_j² − ρ_j²/N) / ρ_j²: without the bias of about 1/N."""
        return _mean(self._ratios - 1 / self.count)

    def gsnr_family(self, name: str) -> dict[str, float]:
        """The four, by metric."""
        return {
            name: self.gsnr,
            f"{name}_median": self.gsnr_median,
            f"{name}_ratio": self.gsnr_ratio,
            f"{name}_debiased": self.gsnr_debiased,
        }

    @property
    def osgr(self) -> float:
        """1 − (A − B)/(N·B), A = mean_i ‖g_i‖², B = ‖mean_i g_i‖², clipped to [−1, 1]; 0 at A = 0.

        The GSNR paper, eq. 19, whose expectations are eq. 24's with M = 1: with A − B = Σ_j ρ_j².
        It is eq. 22 with W_j = m_j²/B and the debiased r_j = m_j²/ρ_j² − 1/N.
        """
        b, a = float(self.mean.square().sum()), float(self.second.sum()) / self.count
        if a == 0:
            return 0.0
        return max(-1.0, min(1.0, 1 - (a - b) / (self.count * b))) if b > 0 else -1.0

    @property
    def same_sign(self) -> float:
        """mean_j max(n₊, n₋)/(n₊ + n₋), n± = (NZ ± S)/2, over parameters with NZ ≥ 30; else 0.5.

        The GSNR paper's p_same_sign (section 3.1). Chance is 0.5 + 0.4/√n where either sign is as
        likely, and 1 − 1/C in a layer of C balanced classes whose inputs are not negative.
        """
        check_finite(self.mean, "a gradient")
        counted = self.nonzero >= FEWEST
        share = (1 + self.signs[counted].abs() / self.nonzero[counted]) / 2
        return _mean(share) if len(share) else 0.5

    def opposite_sign(self, weight: Tensor, largest: float) -> float:
        """The share of the `largest` part of the weights (C, D) whose sign is opposite to m's."""
        opposite = (weight.sign() * self.mean[:, : weight.shape[1]].sign() < 0).flatten()
        kept = math.ceil(largest * weight.numel())
        chosen = weight.abs().flatten().topk(kept).indices
        return float(opposite[chosen].double().mean())


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 over anything is 0, and something over nothing infinite: a trial has diverged then."""
    return torch.where(numerator == 0, 0.0, numerator / denominator)
