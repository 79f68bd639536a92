"""How well measures tell the generalization gap, and the error, of a study's finished trials.

Reads a study's ledger alone; `Judgement` is what a report or the command line prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpogen.analysis.statistics import (
    LEVEL,
    RESAMPLES,
    Array,
    Interval,
    Weighted,
    bootstrap,
    holm,
    kendall,
    pearson,
    standardized,
)
from hpogen.analysis.trials import TARGETS, FinishedTrials, finished_trials
from hpogen.study.read import read

Part = Literal["all", "top", "bottom"]
PARTS: tuple[Part, ...] = get_args(Part)
SHARES = ("audit_gap_error", "audit_error")  # the targets in [0, 1]: Hoeffding's bound holds
FEWEST = 3  # trials, for a correlation

Indices = NDArray[np.intp]
Bootstrap = Callable[[Weighted, int], Interval | None]


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient, its bootstrap interval, and its p-value alone and after Holm.

    The p-values are None for trials that an adaptive searcher chose.
    """

    value: float
    interval: Interval | None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Correlation:
    """One measure against one target on one part of the trials.

    A coefficient is None where it is not defined: fewer than three trials, or a constant.
    """

    measure: str
    target: str
    part: Part
    trials: int
    kendall: Coefficient | None  # τ-b
    pearson: Coefficient | None


@dataclass(frozen=True)
class SignError:
    """Dziugaite et al. 2020: the weighted share of pairs of trials that a measure orders wrongly.

    0 for a measure that rises with the target, 0.5 for chance (and for ties of the measure), 1 for
    one that falls. `pairs` is the sum of the weights, the pairs whose order the audit can tell.
    """

    measure: str
    target: str
    value: float | None  # None where no pair can be told apart
    pairs: float


@dataclass(frozen=True)
class Judgement:
    """All measures of a study against gap and error, on the trials of the largest budget.

    `descriptive`: an adaptive searcher chose the trials, so coefficients describe them and say
    nothing of the space; there are no p-values. Holm's correction is over the measures, for each
    target, part and coefficient. Parts are halves by training error: see `halves`.
    """

    study: str
    searcher: str
    budget: int
    trials: int
    left_out: Mapping[str, int]
    descriptive: bool
    tied_at_median: int
    audit_images: int | None
    level: float
    resamples: int
    correlations: tuple[Correlation, ...]
    sign_errors: tuple[SignError, ...]

    def select(self, target: str, part: Part = "all") -> list[Correlation]:
        return [c for c in self.correlations if (c.target, c.part) == (target, part)]

    def sign_error(self, measure: str, target: str) -> float | None:
        found = [e for e in self.sign_errors if (e.measure, e.target) == (measure, target)]
        return found[0].value if found else None


def judge(
    directory: Path,
    measures: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Judgement:
    """Kendall's τ-b, Pearson's r and the sign-error of `measures` (default: every metric).

    Percentile bootstrap intervals over trials. Raises UserError when there is no study, no trial
    to be judged, or no such metric.
    """
    trials = finished_trials(read(directory))
    named = {name: trials.measure(name) for name in measures or sorted(trials.metrics)}
    parts, tied = halves(trials)
    interval = partial(bootstrap, level=level, resamples=resamples, seed=seed)
    correlated = partial(_correlation, interval=interval, descriptive=trials.adaptive)
    correlations: list[Correlation] = []
    for target, part in product(TARGETS, PARTS):
        truth, chosen = trials.target(target)[parts[part]], parts[part]
        family = [correlated(name, target, part, x[chosen], truth) for name, x in named.items()]
        correlations += family if trials.adaptive else _holm(family)
    return Judgement(
        study=trials.study,
        searcher=trials.searcher,
        budget=trials.budget,
        trials=len(trials),
        left_out=trials.left_out,
        descriptive=trials.adaptive,
        tied_at_median=tied,
        audit_images=trials.audit_images,
        level=level,
        resamples=resamples,
        correlations=tuple(correlations),
        sign_errors=tuple(
            SignError(name, target, *sign_error(values, trials.target(target), images))
            for target, (name, values) in product(SHARES, named.items())
            if (images := trials.audit_images)
        ),
    )


def halves(trials: FinishedTrials) -> tuple[dict[Part, Indices], int]:
    """The trials of each part, by training error (the gradient-norm paper's Figure 3: accuracy).

    Equal errors are ordered by training loss, the lower being the better fitted, then by number; of
    an odd number the middle one is in neither half. The second result is how many trials share the
    error at which equal ones came into different halves, 0 if none did.
    """
    unfit, loss = trials.unfit, trials.metrics["train_loss"]
    order = np.lexsort((np.array(trials.numbers), loss, unfit))
    half = len(order) // 2
    top, bottom = order[:half], order[len(order) - half :]
    tied = 0
    if half and unfit[top[-1]] == unfit[bottom[0]]:
        tied = int((unfit == unfit[top[-1]]).sum())
    return {"all": np.sort(order), "top": np.sort(top), "bottom": np.sort(bottom)}, tied


def sign_error(values: Array, truth: Array, images: int) -> tuple[float | None, float]:
    """The sign-error of Dziugaite et al. 2020, and the sum of its weights.

    Σ w (1 − sgn Δμ · sgn Δg) / 2 / Σ w over pairs of trials, with their Hoeffding weights
    w = max(0, 1 − 2 exp(−2 m (Δg/2)²))²: a lower bound of the chance that m audit images give Δg
    its true sign. `truth` in [0, 1]; trials without a value are left out.
    """
    known = np.isfinite(values)
    first, second = np.triu_indices(int(known.sum()), 1)
    gap = np.subtract(*(truth[known][i] for i in (first, second)))
    change = np.subtract(*(values[known][i] for i in (first, second)))
    weights = np.maximum(0, 1 - 2 * np.exp(-2 * images * (gap / 2) ** 2)) ** 2
    total = float(weights.sum())
    if not total:
        return None, 0.0
    wrong = (1 - np.sign(change) * np.sign(gap)) / 2
    return float((weights * wrong).sum() / total), total


def _correlation(
    name: str,
    target: str,
    part: Part,
    x: Array,
    y: Array,
    *,
    interval: Bootstrap,
    descriptive: bool,
) -> Correlation:
    def coefficient(test: Any, statistic: Weighted) -> Coefficient:
        p = None if descriptive else float(test.pvalue)
        return Coefficient(float(test.statistic), interval(statistic, len(x)), p)

    known = np.isfinite(x)
    x, y = x[known], y[known]
    tau = r = None
    if len(x) >= FEWEST and np.ptp(x) > 0 and np.ptp(y) > 0:
        tau = coefficient(stats.kendalltau(x, y), kendall(x, y))  # τ-b
        r = coefficient(stats.pearsonr(standardized(x), standardized(y)), pearson(x, y))
    return Correlation(name, target, part, len(x), tau, r)


def _holm(family: Sequence[Correlation]) -> list[Correlation]:
    """The same with Holm's p-values over the measures, for each coefficient apart."""
    taus = _adjusted([c.kendall for c in family])
    rs = _adjusted([c.pearson for c in family])
    return [replace(c, kendall=tau, pearson=r) for c, tau, r in zip(family, taus, rs, strict=True)]


def _adjusted(coefficients: Sequence[Coefficient | None]) -> list[Coefficient | None]:
    adjusted = iter(holm([c.p for c in coefficients if c is not None and c.p is not None]))
    return [c if c is None else replace(c, p_holm=next(adjusted)) for c in coefficients]
