"""A race: which of a few finalists is best, from runs with several seeds on the same samples.

Pure functions of the losses so far: whoever trains the finalists asks `race` after each run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Array = NDArray[np.float64]
Runs = NDArray[np.floating]
"""(s, N): of each of a finalist's s seeds the loss on each of the N validation samples."""

ALPHA = 0.05
FEWEST = 2  # seeds; one tells nothing of how much a seed changes
TAIL = 8.0  # standard deviations, beyond which nothing is left of a normal distribution
NODES = 100  # of the quadrature

ALONE = "one is left"
NO_FINALIST = "none is left: all diverged"
INDIFFERENT = "not separable: the difference is below indifference"
USED_UP = "not separable: the seeds are used up"


@dataclass(frozen=True)
class Separation:
    """How much larger a finalist's mean loss is than the best one's, after `seeds` runs of each.

    The interval holds the true difference at all looks and for all finalists at once (repeated
    confidence intervals, Jennison and Turnbull 1989): it lies above 0 for one that is out.
    """

    seeds: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class RaceStanding:
    """How a race stands. `why` is empty while it goes on: those `left` need one more run each.

    `best` has the least mean loss of those left; it is the `winner` when no other is left.
    `behind` are the others that are left, as the last look had them, `out` those that a look has
    separated from the best, or None: diverged.
    """

    left: tuple[int, ...]
    out: Mapping[int, Separation | None]
    best: int | None
    behind: Mapping[int, Separation]
    why: str

    @property
    def winner(self) -> int | None:
        return self.best if self.why == ALONE else None


def race(
    losses: Sequence[Runs | None], seeds: int, indifference: float = 0.0, alpha: float = ALPHA
) -> RaceStanding:
    """Where the race stands: a deterministic function of the losses, in the order of the seeds.

    A look is taken whenever all that are left have s = 2, …, `seeds` runs; further ones are not
    looked at. It puts out those that are worse than the best one of the look. None, or a loss that
    is not finite: the finalist has diverged. Raises ValueError for unequal samples.

    `alpha` is spent over the looks (`levels`), and shared by the finalists that are left (`look`):
    so often, at most, has a race of equal finalists a winner. `scripts/bench/race.py` measures it.
    """
    runs = _checked(losses)
    out: dict[int, Separation | None] = {i: None for i, own in enumerate(losses) if i not in runs}
    left, behind = list(runs), dict[int, Separation]()
    best = least(runs, left) if left and all(len(own) for own in runs.values()) else None
    for s in range(FEWEST, seeds + 1):
        if len(left) < 2 or any(len(runs[i]) < s for i in left):
            break
        now = {i: own[:s] for i, own in runs.items()}
        seen = look(now, left, partial(_level, alpha, seeds, s))
        best = next(i for i in left if i not in seen)
        behind = {i: gap for i, gap in seen.items() if gap.low <= 0}
        out |= {i: gap for i, gap in seen.items() if gap.low > 0}
        left = [i for i in left if i not in out]
        runs |= {i: now[i] for i in out if i in now}  # what it runs beyond is not looked at
        if behind and all(gap.high < indifference for gap in behind.values()):
            return RaceStanding(tuple(left), out, best, behind, INDIFFERENT)
    return RaceStanding(tuple(left), out, best, behind, _why([runs[i] for i in left], seeds))


def _level(alpha: float, seeds: int, look: int, left: int) -> float:
    return levels(alpha / left, seeds)[look - FEWEST]


def _why(left: Sequence[Runs], seeds: int) -> str:
    if len(left) < 2:
        return ALONE if left else NO_FINALIST
    return USED_UP if all(len(own) >= seeds for own in left) else ""


def _checked(losses: Sequence[Runs | None]) -> dict[int, Runs]:
    """The runs of each finalist that has not diverged."""
    runs = {i: own for i, own in enumerate(losses) if own is not None}
    if any(own.ndim != 2 for own in runs.values()) or len({o.shape[1] for o in runs.values()}) > 1:
        got = ", ".join(str(own.shape) for own in runs.values())
        raise ValueError(f"got losses of shapes {got}, expected (seeds, N) with one N")
    return {i: own for i, own in runs.items() if np.isfinite(own).all()}


def least(runs: Mapping[int, Runs], left: Sequence[int]) -> int:
    """The one of those left with the least mean loss; the earliest of equals."""
    return min(left, key=lambda i: float(runs[i].mean(dtype=np.float64)))


def look(
    runs: Mapping[int, Runs], left: Sequence[int], level: Callable[[int], float]
) -> dict[int, Separation]:
    """Those that are left, each against the best of them, after s runs of each.

    `level` is the one-sided level of a comparison while so many are left. They are gone through
    from the clearest on, and each that is put out raises the level of the next (Holm 1979; over
    several looks Ye, Li, Liu and Yao 2013). `runs` of those that are out tell how seeds spread.
    """
    best = least(runs, left)
    pooled = _spread([*runs.values()])
    gaps = {i: _gap(runs[i], runs[best], pooled) for i in left if i != best}
    found, m = dict[int, Separation](), len(left)
    for i, gap in sorted(gaps.items(), key=lambda pair: pair[1].p):
        found[i] = gap.at(level(m))
        m -= found[i].low > 0
    return found


@dataclass(frozen=True)
class Variance:
    """An estimate with its degrees of freedom."""

    value: float
    freedom: float


@dataclass(frozen=True)
class Gap:
    """How much larger a mean loss is than the best one, and how sure that is."""

    seeds: int
    difference: float
    variance: Variance

    @property
    def p(self) -> float:
        """One-sided. 1 where nothing varies and nothing differs."""
        spread = math.sqrt(self.variance.value)
        if not spread:
            return 0.0 if self.difference > 0 else 1.0
        return float(special.stdtr(self.variance.freedom, -self.difference / spread))

    def at(self, level: float) -> Separation:
        quantile = -float(special.stdtrit(self.variance.freedom, level))
        half = quantile * math.sqrt(self.variance.value)
        return Separation(
            self.seeds, self.difference, self.difference - half, self.difference + half
        )


def _spread(runs: Sequence[Runs]) -> Variance:
    """The variance of a run's mean loss over seeds, averaged over finalists.

    Of v_i with f_i degrees of freedom it has (Σ v_i)² / Σ (v_i² / (f_i + 2)) − 2 (Welch 1947): in
    expectation Σ f_i where all are alike, f_i where finalist i alone spreads. As few runs do not
    tell these apart, it is at most Σ f_i less the largest f_i: of two, what is right in any case.
    """
    known = [own for own in runs if len(own) > 1]
    v = np.array([own.mean(axis=1, dtype=np.float64).var(ddof=1) for own in known])
    f = np.array([len(own) - 1 for own in known])
    if not v.any():
        return Variance(0.0, 1.0)
    freedom = v.sum() ** 2 / (v**2 / (f + 2)).sum() - 2
    return Variance(float(v.mean()), float(np.clip(freedom, f.min(), max(f.sum() - f.max(), 1))))


def _gap(own: Runs, best: Runs, pooled: Variance) -> Gap:
    """The difference of the mean losses of two finalists of s runs each on the same N samples.

    Two variances add up: of the seeds, which they do not share, and of the samples, which they do,
    so that these are paired:

        V = V_seeds + max(0, V_samples − V_noise)
        V_seeds   = (σ_own² + σ_best²) / s,  σ² the variance of a run's mean loss over seeds
        V_samples = Var_k(mean_r ℓ_own,rk − mean_r ℓ_best,rk) / N
        V_noise   = (ε_own² + ε_best²) / (s N),  ε² what neither seed nor sample explains

    V_noise is in both others: it is counted once (Searle, Casella and McCulloch 1992, the crossed
    model with both effects random). σ² is the larger of the two finalists' own and the pooled one:
    own ones of few runs are too small by chance, pooled ones where a finalist is less stable.
    """
    s, n = own.shape
    difference = own.mean(axis=0, dtype=np.float64) - best.mean(axis=0, dtype=np.float64)  # (N,)
    spread = max(_spread([own, best]).value, pooled.value)
    noise = (_noise(own) + _noise(best)) / (s * n)
    paired = float(difference.var(ddof=1)) / n if n > 1 else math.inf
    samples = Variance(max(0.0, paired - noise), n - 1)
    variance = _sum(Variance(2 * spread / s, pooled.freedom), samples)
    return Gap(s, float(difference.mean()), variance)


def _noise(runs: Runs) -> float:
    """ε²: the variance of a loss about the sum of its run's and its sample's effect."""
    s, n = runs.shape
    x = runs.astype(np.float64)
    left: Array = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    return float(np.square(left).sum()) / float(max((s - 1) * (n - 1), 1))


def _sum(*parts: Variance) -> Variance:
    """Of independent estimates, with the degrees of freedom of Satterthwaite (1946)."""
    total = sum(part.value for part in parts)
    squares = sum(part.value**2 / max(part.freedom, 1) for part in parts)
    return Variance(total, total**2 / squares if 0 < squares < math.inf else 1.0)


@lru_cache
def levels(alpha: float, seeds: int) -> tuple[float, ...]:
    """The one-sided levels of the looks after 2, …, `seeds` runs, spending `alpha` in all.

    Lan and DeMets (1983) with α(t) = alpha · t², t = s / `seeds` (Kim and DeMets 1987): little at
    the first looks, whose variances are known badly. The bounds are those of a Brownian motion, as
    levels of t tests (Jennison and Turnbull 2000, §3.8). The samples are the same at all looks,
    which makes these more alike than independent increments, and crossings rarer.
    """
    times = np.arange(FEWEST, seeds + 1) / seeds
    return crossing(times, alpha * times**2)


def crossing(times: Array, spent: Array) -> tuple[float, ...]:
    """The levels by whose bounds a Brownian motion has crossed with chance `spent` at each time.

    Its density below the bounds is carried from look to look (Armitage, McPherson and Rowe 1969) at
    the nodes of a Gauss–Legendre quadrature.
    """
    found: list[float] = []
    x, mass = np.zeros(1), np.ones(1)  # where it may be before a look, and how likely it is there
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    for time, step, new in zip(times, _roots(times), np.diff(spent, prepend=0.0), strict=True):
        floor = -TAIL * math.sqrt(time)
        bound = optimize.brentq(_excess, floor, -floor, args=(x, mass, step, new))
        found.append(float(special.ndtr(-bound / math.sqrt(time))))
        y = floor + (bound - floor) * (nodes + 1) / 2
        density = (
            np.exp(-(((y[:, None] - x) / step) ** 2) / 2) / (step * math.sqrt(2 * math.pi)) @ mass
        )
        x, mass = y, density * weights * (bound - floor) / 2
    return tuple(found)


def _roots(times: Array) -> Array:
    """The standard deviation of each increment."""
    found: Array = np.sqrt(np.diff(times, prepend=0.0))
    return found


def _excess(bound: float, x: Array, mass: Array, step: float, new: float) -> float:
    """The chance of being beyond the bound after a step, less what is to be spent."""
    chance: float = mass @ special.ndtr((x - bound) / step)
    return chance - new
