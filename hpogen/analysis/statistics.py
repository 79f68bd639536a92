"""Averages, bootstrap intervals, Holm's correction, permutations, effect sizes: for `analysis/`.

Everything random comes from an explicit seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Weighted = Callable[[Array], Array]
"""A statistic of a sample of n as a function of how often each member was drawn.

(B, n) counts → (B,) values, NaN where it is not defined.
"""

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_FREEDOM = 4  # degrees of freedom, for the interval of a mean
EXACT_PAIRS = 16  # 65,536 exchanges, all of them tried
PERMUTATIONS = 20_000  # random ones, for more pairs
BATCH = 10_000  # exchanges at a time
SMALLEST = 0.05  # τ that has a sign


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def bootstrap(
    statistic: Weighted,
    n: int | Sequence[int],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The percentile bootstrap interval: the middle `level` of the resamples' values.

    `n` members, or so many in each stratum, which is resampled within itself. Resamples in which
    the statistic is not defined are left out; None when that is most of them. Equal n and seed draw
    equal resamples, so that statistics of one sample can be compared.
    """
    sizes = (n,) if isinstance(n, int) else tuple(n)
    values = statistic(_draws(sizes, resamples, seed))
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < resamples:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_interval(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    sizes: Sequence[int] = (),
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The bootstrap interval of a mean of few, expanded so that it holds what it promises.

    `sizes` are those of the strata, in which alone is resampled. Of fewer than five values (in
    excess of the strata: fewer than four degrees of freedom) there is none: resamples of so few
    are too much alike.
    """
    x = np.asarray(values, dtype=np.float64)
    strata = sizes or (len(x),)
    if sum(strata) - len(strata) < FEWEST_FREEDOM:
        return None
    wider = expanded(strata, level)
    return bootstrap(mean(x, weights), strata, level=wider, resamples=resamples, seed=seed)


def expanded(sizes: Sequence[int], level: float = LEVEL) -> float:
    """The level to ask `bootstrap` for, so that means of few have intervals of about `level`.

    Percentile intervals are as much too narrow as normal ones without Bessel's and Student's
    corrections. Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.2:
    α'/2 = Φ(−√(n/(n−1)) · t_{α/2, n−1}); of strata n is the average size, and the degrees of
    freedom are those of all together. Needs a stratum of two.
    """
    n = sum(sizes) / len(sizes)
    from scipy import stats

    quantile = stats.t.ppf((1 + level) / 2, sum(sizes) - len(sizes))
    return float(1 - 2 * stats.norm.sf(np.sqrt(n / (n - 1)) * quantile))


@lru_cache(maxsize=8)
def _draws(sizes: tuple[int, ...], resamples: int, seed: int) -> Array:
    """How often each member is drawn, (resamples, Σ sizes)."""
    generator = np.random.default_rng(seed)
    strata = [generator.multinomial(n, np.full(n, 1 / n), size=resamples) for n in sizes]
    return np.concatenate(strata, axis=1).astype(np.float64)


def mean(values: ArrayLike, weights: ArrayLike | None = None) -> Weighted:
    """The mean, to be bootstrapped; weighted, where there are weights."""
    x = np.asarray(values, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    return lambda counts: counts @ (w * x) / (counts @ w)


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


def sign(tau: float) -> int:
    """1 or −1; 0 of a τ below 0.05 in size, which has no sign that could be believed, or of NaN."""
    return int(np.sign(tau)) if abs(tau) >= SMALLEST else 0


def tau_b(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's τ-b (Kendall 1945) of x (n,) and y (n,); NaN where one of them is constant.

    As `scipy.stats.kendalltau`, bit for bit, in O(n log² n) and without importing it, which takes
    longer than all else that `hpogen best` does.
    """
    a, b = (np.unique(np.asarray(values), return_inverse=True)[1] for values in (x, y))  # ranks
    pairs, both = len(a) * (len(a) - 1) // 2, np.sort(a.astype(np.int64) * (len(b) + 1) + b)
    tied_a, tied_b, tied = (_tied(values) for values in (a, b, both))
    if pairs in (tied_a, tied_b):
        return math.nan
    more = pairs - tied_a - tied_b + tied - 2 * _inversions(both % (len(b) + 1))
    tau = more / np.sqrt(pairs - tied_a) / np.sqrt(pairs - tied_b)
    return float(min(1.0, max(-1.0, tau)))


def _tied(values: NDArray[np.int64]) -> int:
    """The pairs of equal ones."""
    counts = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: NDArray[np.int64]) -> int:
    """The pairs of which the earlier is the larger, bit by bit from the highest.

    Those that first differ in a bit are alike above it: sorted by what is above, in their order,
    each 0 is counted with the 1s of its group that stand before it.
    """
    found, places = 0, np.arange(len(ranks))
    for bit in reversed(range(int(ranks.max(initial=0)).bit_length())):
        above, ones = ranks >> (bit + 1), (ranks >> bit) & 1
        before = np.cumsum(ones) - ones
        begins = np.append(True, above[1:] != above[:-1])
        first = np.maximum.accumulate(np.where(begins, places, 0))  # of its group
        found += int(((before - before[first]) * (1 - ones)).sum())
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return found


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
    first: ArrayLike,
    second: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    resamples: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """The two-sided p-value of the mean paired difference, by exchanging within pairs.

    The mean is weighted where there are `weights`: 1/n_t for each of the n_t pairs of stratum t
    gives strata equal say. Exact for up to 16 pairs; else from `resamples` random exchanges, the
    observed one counted among them (Phipson & Smyth 2010). Raises ValueError for unequal or no
    pairs.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"got {a.shape} and {b.shape}, expected two equal, non-empty rows")
    w = np.ones_like(a) if weights is None else np.asarray(weights, dtype=np.float64)
    scale = float(w @ np.abs(a - b))
    if len(a) == 1 or not scale:
        return 1.0  # nothing to exchange with: both arrangements are as extreme

    def extremeness(x: Array, y: Array, axis: int) -> Array:
        # errors are multiples of 1/images, so arrangements tie: rounding must not part them
        gap: Array = np.round(np.abs(np.sum(w * (x - y), axis=axis)) / scale, 12)
        return gap

    from scipy import stats

    result = stats.permutation_test(
        (a, b),
        extremeness,
        permutation_type="samples",
        alternative="greater",
        n_resamples=2**EXACT_PAIRS if len(a) <= EXACT_PAIRS else resamples,
        vectorized=True,
        batch=BATCH,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def smallest_p(differences: ArrayLike, *, resamples: int = PERMUTATIONS) -> float:
    """The least p-value that `paired_permutation` can give for so many unequal pairs."""
    pairs = int(np.count_nonzero(np.asarray(differences)))
    exact = 2.0 ** (1 - pairs) if pairs else 1.0
    return exact if np.size(differences) <= EXACT_PAIRS else max(exact, 1 / (resamples + 1))


def effect_size(differences: Sequence[ArrayLike]) -> float | None:
    """Cohen's d_z of paired differences by stratum: their mean over their standard deviation.

    The mean of the strata's means; the standard deviation pooled within strata. None where that is
    not defined or zero.
    """
    strata = [np.asarray(stratum, dtype=np.float64) for stratum in differences]
    freedom = sum(len(stratum) - 1 for stratum in strata)
    squares = sum(float(np.square(stratum - stratum.mean()).sum()) for stratum in strata)
    average = float(np.mean([stratum.mean() for stratum in strata]))
    spread = float(np.sqrt(squares / freedom)) if freedom else 0.0
    return average / spread if spread > 1e-12 * abs(average) else None


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n − 1) over search seeds; no deviation of a single one."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Average:
    """A mean over n search seeds and its 95 % bootstrap interval, None of fewer than five."""

    mean: float
    interval: Interval | None
    n: int


def summary(values: Iterable[float | None]) -> Summary | None:
    """Of the values that there are; None where there is none."""
    known = [float(x) for x in values if x is not None]
    if not known:
        return None
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Summary(float(np.mean(known)), sd, len(known))


def average(values: Iterable[float | None]) -> Average | None:
    """Of the values that there are; None where there is none."""
    known = [float(x) for x in values if x is not None]
    if not known:
        return None
    return Average(float(np.mean(known)), mean_interval(known), len(known))


def by_seed(values: Iterable[tuple[int, float | None]]) -> dict[int, list[float]]:
    """The values that there are, by search seed."""
    found: dict[int, list[float]] = {}
    for seed, value in values:
        if value is not None:
            found.setdefault(seed, []).append(value)
    return found
