"""What configurations would come to on more data: learning curves, pooled and continued.

`outlook.py` gives it the curves of a study.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special

from hpogen.analysis.statistics import LEVEL, Array, Interval

EXPONENTS = np.geomspace(0.08, 8, 16)  # g
OFFSETS = special.expit(np.linspace(-5, 4, 13))  # ρ
SHIFTS = np.array([0.0, 0.1, 0.3, 1.0, 3.0])  # d
NOISES = np.geomspace(0.005, 1.2, 14)  # σ
FORM = 0.25  # of a predicted fall in ln ℓ: how far the form itself may be wrong
NEGLIGIBLE = 1e-9  # of the posterior
TINY = 1e-300


@dataclass(frozen=True)
class Curve:
    """Losses of one configuration, each above 0, and the size that each was trained on.

    Sizes are numbers of samples, or fractions of one set; several seeds repeat a size.
    """

    sizes: Sequence[float]
    losses: Sequence[float]


@dataclass(frozen=True)
class Prediction:
    """The median of what one training would come to, and the interval that holds 95 % of it."""

    loss: float
    interval: Interval


@dataclass(frozen=True)
class Extrapolation:
    """`predictions` of the first curves, in their order.

    `order` is the probability that a training of the first has the lower loss than one of the
    second; None of a single curve.
    """

    predictions: tuple[Prediction, ...]
    order: float | None


def extrapolate(curves: Sequence[Curve], size: float, asked: int = 2) -> Extrapolation:
    """What the first `asked` curves come to at `size`; the others tell how curves run.

    With n₀ the largest size, u = n/n₀, of configuration c

        ln ℓ = s_c + ln(ρ_c + (1 − ρ_c) · ((u + d_c) / (1 + d_c))^−g_c) + σ_c · ε,  ε normal:

    a power law of exponent g over an offset, the share ρ of the loss at n₀ that no data takes away
    (loss = a + b·n^−g with a = ρ e^s). The shift d flattens its beginning, where there is too
    little to learn from: pow4 of Domhan, Springenberg and Hutter 2015, table 1, who continue curves
    by distributions of their parameters, too; for curves over data see Viering and Loog 2023, "The
    Shape of Learning Curves: a Review". A prediction has the variance of σ, of s, and of `FORM`.

    Partially pooled (Gelman and Hill 2007, chapter 12): ln g, logit ρ and ln σ are normal over the
    configurations, whose means and deviations have weak priors; d has one of five distributions.
    All of these are sums over grids, s (flat) is integrated exactly: nothing is drawn, nothing
    iterates. Configurations of one size have a prediction, too, by the others' shapes. Those that
    a searcher has dropped are missing by their seen losses alone, which leaves this valid.

    Raises ValueError unless some curve has two sizes, all losses are finite and above 0, and `size`
    is not below n₀.
    """
    _check(curves, size)
    largest = max(max(curve.sizes) for curve in curves)
    tables = [_table(curve, largest, size) for curve in curves]
    pooled = [np.maximum(_pooled(table.likelihood), TINY) for table in tables]
    log = sum(map(np.log, pooled)) + _prior()
    common = np.exp(log - log.max())
    common /= common.sum()
    found = [
        _prediction(table, common / own) for table, own in zip(tables[:asked], pooled, strict=False)
    ]
    return Extrapolation(tuple(found), _order(tables, pooled, common) if asked > 1 else None)


def _check(curves: Sequence[Curve], size: float) -> None:
    if all(len({*curve.sizes}) < 2 for curve in curves):
        raise ValueError("no configuration was trained on two sizes")
    for curve in curves:
        if not all(0 < loss < np.inf for loss in curve.losses):
            raise ValueError("a loss is not a finite number above 0")
        if max(curve.sizes) > size:
            raise ValueError(f"size {size:g} is below {max(curve.sizes):g}, which was trained on")


@dataclass(frozen=True)
class Table:
    """Of one curve, over the grid (g, ρ, d, σ): its likelihood, and the prediction of ln ℓ.

    `mean` is (g, ρ, d, 1), `variance` (σ,).
    """

    likelihood: Array
    mean: Array
    variance: Array


def _table(curve: Curve, largest: float, size: float) -> Table:
    """With K losses and s integrated: ln L = −(K − 1) ln σ − Σ (r − r̄)² / 2σ², r what s leaves."""
    fits = np.stack([_shape(n / largest) for n in curve.sizes], -1)  # (g, ρ, d, K)
    left = np.log(np.asarray(curve.losses)) - fits
    count = len(curve.losses)
    squares = left.var(-1, keepdims=True) * count
    log = -(count - 1) * np.log(NOISES) - squares / (2 * NOISES**2)  # (g, ρ, d, σ)
    fall = _shape(size / largest)[..., None]
    variance = NOISES**2 * (1 + 1 / count) + (FORM * fall) ** 2
    return Table(np.exp(log - log.max()), fall + left.mean(-1, keepdims=True), variance)


def _shape(u: float) -> Array:
    """ln ℓ − s, (g, ρ, d)."""
    grown = np.log((u + SHIFTS) / (1 + SHIFTS))
    rho = OFFSETS[:, None]
    found: Array = np.log(rho + (1 - rho) * np.exp(-EXPONENTS[:, None, None] * grown))
    return found


@dataclass(frozen=True)
class Axis:
    """The distributions that a parameter may have over configurations, as weights of its grid.

    `weights` are (H, values), `log_prior` is (H,).
    """

    weights: Array
    log_prior: Array


def _normal(grid: Array, means: Array, spreads: Sequence[float], at: float, within: float) -> Axis:
    """Normal ones with these means and standard deviations; the means are N(at, within²)."""
    m, spread = (x.ravel() for x in np.meshgrid(means, spreads, indexing="ij"))
    weights = np.exp(-(((grid - m[:, None]) / spread[:, None]) ** 2) / 2)
    return Axis(weights / weights.sum(1, keepdims=True), -(((m - at) / within) ** 2) / 2)


@cache
def _axes() -> tuple[Axis, ...]:
    """Of g, ρ, d, σ."""
    shifts = [
        [0.92, 0.02, 0.02, 0.02, 0.02],
        [0.60, 0.10, 0.10, 0.10, 0.10],
        [0.30, 0.30, 0.20, 0.10, 0.10],
        [0.10, 0.15, 0.25, 0.25, 0.25],
        [0.05, 0.05, 0.10, 0.30, 0.50],
    ]
    log = np.log
    return (
        _normal(log(EXPONENTS), log(np.geomspace(0.15, 4, 7)), (0.25, 0.5, 1.0), log(0.6), 1.0),
        _normal(special.logit(OFFSETS), np.linspace(-4, 2, 6), (0.75, 1.5, 3.0), -1.5, 1.5),
        Axis(np.array(shifts), np.zeros(len(shifts))),
        _normal(log(NOISES), log(np.geomspace(0.01, 0.5, 6)), (0.4, 0.8, 1.4), log(0.05), 1.2),
    )


def _prior() -> Array:
    """Of the common distributions, (H_g, H_ρ, H_d, H_σ)."""
    g, rho, d, sigma = (axis.log_prior for axis in _axes())
    found: Array = g[:, None, None, None] + rho[:, None, None] + d[:, None] + sigma
    return found


def _pooled(table: Array) -> Array:
    """The mean of a table (g, ρ, d, σ) under each of the common distributions."""
    for axis in _axes():
        table = np.tensordot(table, axis.weights, (0, 1))  # the first axis goes, its H is the last
    return table


def _mixed(common: Array) -> Array:
    """The weights of the grid under a mixture of the common distributions: `_pooled` reversed."""
    for axis in _axes():
        common = np.tensordot(common, axis.weights, (0, 0))
    return common


def _prediction(table: Table, common: Array) -> Prediction:
    weights = _mixed(common) * table.likelihood
    weights /= weights.sum()
    kept = weights > NEGLIGIBLE
    mean = np.broadcast_to(table.mean, weights.shape)[kept]
    spread = np.sqrt(np.broadcast_to(table.variance, weights.shape)[kept])
    weights = weights[kept] / weights[kept].sum()

    def share(x: float) -> float:
        return float(weights @ special.ndtr((x - mean) / spread))

    ends = float((mean - 9 * spread).min()), float((mean + 9 * spread).max())
    low, median, high = (_quantile(share, q, ends) for q in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    return Prediction(median, Interval(low, high))


def _quantile(share: Callable[[float], float], q: float, ends: tuple[float, float]) -> float:
    return float(np.exp(optimize.brentq(lambda x: share(x) - q, *ends, xtol=1e-6)))


def _order(tables: Sequence[Table], pooled: Sequence[Array], common: Array) -> float | None:
    """Given the common distributions the first two are independent, and taken as normal."""
    if len(tables) < 2:
        return None
    means, variances = [], []
    for table, own in zip(tables[:2], pooled, strict=False):
        mean = _pooled(table.likelihood * table.mean) / own
        square = _pooled(table.likelihood * (table.mean**2 + table.variance)) / own
        means.append(mean)
        variances.append(np.maximum(square - mean**2, TINY))
    return float((common * special.ndtr((means[1] - means[0]) / np.sqrt(sum(variances)))).sum())
