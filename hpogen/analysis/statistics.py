"""Bootstrap intervals, Holm's correction, a paired permutation test: for all of `analysis/`.

Everything random comes from an explicit seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
Weighted = Callable[[Array], Array]
"""A statistic of a sample of n as a function of how often each member was drawn.

(B, n) counts → (B,) values, NaN where it is not defined.
"""

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def bootstrap(
    statistic: Weighted, n: int, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """The percentile bootstrap interval: the middle `level` of the resamples' values.

    Resamples in which the statistic is not defined are left out; None when that is most of them.
    Equal n and seed draw equal resamples, so that statistics of one sample can be compared.
    """
    values = statistic(_draws(n, resamples, seed))
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < resamples:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


@lru_cache(maxsize=8)
def _draws(n: int, resamples: int, seed: int) -> Array:
    """How often each of n is drawn, (resamples, n)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def mean(values: ArrayLike) -> Weighted:
    """The mean, to be bootstrapped."""
    x = np.asarray(values, dtype=np.float64)
    return lambda counts: counts @ x / counts.sum(1)


def kendall(x: ArrayLike, y: ArrayLike) -> Weighted:
    """Kendall's τ-b, to be bootstrapped; O(n²) memory.

    Two draws of one member are tied in both, so that they count neither for nor against.
    """
    signs = [np.sign(np.subtract.outer(v, v)) for v in (np.asarray(x), np.asarray(y))]

    def statistic(counts: Array) -> Array:
        def pairs(values: Array) -> Array:
            total: Array = ((counts @ values) * counts).sum(1)
            return total

        untied = pairs(np.abs(signs[0])) * pairs(np.abs(signs[1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            return pairs(signs[0] * signs[1]) / np.sqrt(untied)

    return statistic


def pearson(x: ArrayLike, y: ArrayLike) -> Weighted:
    """Pearson's correlation, to be bootstrapped."""
    a, b = standardized(x), standardized(y)

    def statistic(counts: Array) -> Array:
        n = counts.sum(1)
        mean_a, mean_b = counts @ a / n, counts @ b / n
        var_a = counts @ (a * a) / n - mean_a**2
        var_b = counts @ (b * b) / n - mean_b**2
        covariance = counts @ (a * b) / n - mean_a * mean_b
        spread = np.sqrt(np.maximum(var_a, 0) * np.maximum(var_b, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            # below 1e-12 of the sample's own variance nothing but rounding is left
            return np.where(spread > 1e-12, np.clip(covariance / spread, -1, 1), np.nan)

    return statistic


def standardized(values: ArrayLike) -> Array:
    """(x − mean) / standard deviation; zeros for a constant."""
    x = np.asarray(values, dtype=np.float64)
    centered = x - x.mean()
    spread = centered.std()
    return centered / spread if spread > 0 else np.zeros_like(centered)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979), in the order given; each at most 1.

    Rejecting those at or below α keeps the chance of any false rejection below α.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in adjusted]


def paired_permutation(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> float:
    """The two-sided p-value of the mean paired difference, by exchanging within pairs.

    Exact where 2ⁿ is at most `resamples`. Raises ValueError for unequal or no pairs.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"got {a.shape} and {b.shape}, expected two equal, non-empty rows")
    if len(a) == 1:
        return 1.0  # nothing to exchange with: both arrangements are as extreme

    def difference(x: Array, y: Array, axis: int) -> Array:
        gap: Array = np.mean(x - y, axis=axis)
        return gap

    result = stats.permutation_test(
        (a, b),
        difference,
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
