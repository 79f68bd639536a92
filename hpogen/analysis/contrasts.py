"""Arms against one another: in pairs by search seed within tasks, and all of them over many tasks.

`comparison.py` asks for the primary contrast and for all other pairs of arms; from ten tasks on for
average ranks, Friedman's test and Nemenyi's critical difference: Demšar 2006, "Statistical
Comparisons of Classifiers over Multiple Data Sets" (JMLR 7), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from hpogen.analysis.statistics import (
    Array,
    Interval,
    effect_size,
    holm,
    mean_interval,
    paired_permutation,
    smallest_p,
)
from hpogen.errors import UserError, unknown

ALPHA = 0.05
RESAMPLES = 10_000
FEWEST_TASKS = 10  # of statistics over tasks: below, the approximations are poor, nothing is found
AGAINST = " - "  # between the arms of a primary contrast: `A - B`
Errors = Mapping[str, Mapping[int, float]]  # of one arm: by task, by search seed


@dataclass(frozen=True)
class Contrast:
    """`first` minus `second`: below 0, the first one has the smaller errors.

    `difference` is the mean over tasks of the mean paired difference, `interval` its bootstrap
    interval (95 %, search seeds resampled within tasks; None of fewer than five), `p` that of the
    paired permutation test, `smallest_p` the least that so many unequal pairs can give. `p_holm`
    is None for the primary contrast. `effect` is Cohen's d_z. `worst_task` is where the first arm
    does worst against the second; None for one task. `wilcoxon_p` is over task means, from ten
    tasks on.
    """

    first: str
    second: str
    primary: bool
    pairs: int
    tasks: int
    difference: float
    interval: Interval | None
    p: float
    smallest_p: float
    p_holm: float | None
    effect: float | None
    wins: int
    ties: int
    losses: int
    worst_task: str | None
    worst_difference: float | None
    wilcoxon_p: float | None

    @property
    def decisive_p(self) -> float:
        """What decides: after Holm's correction, but for the primary contrast."""
        return self.p if self.p_holm is None else self.p_holm

    @property
    def separable(self) -> bool:
        return self.decisive_p <= ALPHA


def fewest_pairs(contrasts: int = 1) -> int:
    """The pairs, all unequal, from which on one of so many contrasts can be separable.

    The least n with `contrasts` · 2^(1 − n) ≤ ALPHA: `smallest_p` times what Holm multiplies it by.
    """
    return 1 + math.ceil(math.log2(contrasts / ALPHA))


def contrast(
    names: tuple[str, str], first: Errors, second: Errors, *, primary: bool = False, seed: int = 0
) -> Contrast | None:
    """Two arms on the search seeds that both have; None where they share none."""
    found = {
        task: np.array([values[s] - second[task][s] for s in values if s in second[task]])
        for task, values in first.items()
        if task in second
    }
    strata = {task: values for task, values in found.items() if len(values)}
    if not strata:
        return None
    differences = np.concatenate([*strata.values()])
    weights = np.concatenate([np.full(len(d), 1 / len(d) / len(strata)) for d in strata.values()])
    means = {task: float(values.mean()) for task, values in strata.items()}
    worst = max(means, key=lambda task: means[task]) if len(means) > 1 else None
    settled = _settled(differences)
    sizes = [len(values) for values in strata.values()]
    return Contrast(
        *names,
        primary=primary,
        pairs=len(differences),
        tasks=len(strata),
        difference=float(np.mean([*means.values()])),
        interval=mean_interval(differences, weights, sizes, resamples=RESAMPLES, seed=seed),
        p=paired_permutation(settled, np.zeros_like(settled), weights, seed=seed),
        smallest_p=smallest_p(settled),
        p_holm=None,
        effect=effect_size([*strata.values()]),
        wins=int((settled < 0).sum()),
        ties=int((settled == 0).sum()),
        losses=int((settled > 0).sum()),
        worst_task=worst,
        worst_difference=means[worst] if worst is not None else None,
        wilcoxon_p=_wilcoxon([*means.values()]),
    )


def _settled(differences: Array) -> Array:
    """With the rounding errors of equal figures as what they are: ties."""
    result: Array = np.where(np.abs(differences) < 1e-12, 0.0, differences)
    return result


def _wilcoxon(means: Sequence[float]) -> float | None:
    values = _settled(np.array(means))
    if len(values) < FEWEST_TASKS:
        return None
    return float(stats.wilcoxon(values).pvalue) if values.any() else 1.0


def pairwise(
    errors: Mapping[str, Errors], primary: tuple[str, str] | None = None
) -> list[Contrast]:
    """The primary contrast first, then all other pairs of arms, with Holm's p-values over these."""
    others = [pair for pair in combinations(errors, 2) if primary is None or {*pair} != {*primary}]
    found = [contrast(pair, errors[pair[0]], errors[pair[1]]) for pair in others]
    family = [c for c in found if c is not None]
    adjusted = holm([c.p for c in family])
    family = [replace(c, p_holm=p) for c, p in zip(family, adjusted, strict=True)]
    if primary is None:
        return family
    main = contrast(primary, errors[primary[0]], errors[primary[1]], primary=True)
    return [*([main] if main else []), *family]


def primary_of(text: str, arms: Sequence[str]) -> tuple[str, str]:
    """The two arms of `A - B`. Raises UserError with the nearest names."""
    splits = [i for i in range(len(text)) if text.startswith(AGAINST, i)]
    pairs = [(text[:i].strip(), text[i + len(AGAINST) :].strip()) for i in splits]
    named = [pair for pair in pairs if {*pair} <= {*arms} and pair[0] != pair[1]]
    if named:
        return named[0]
    if not pairs or any(first == second for first, second in pairs):
        raise UserError(f"primary: got {text!r}, expected two arms, 'A - B', of: {', '.join(arms)}")
    wrong = next(name for name in pairs[0] if name not in arms)
    raise UserError(f"primary: {unknown('arm', wrong, arms)}")


@dataclass(frozen=True)
class CriticalDifference:
    """Two arms are separable where their average ranks differ by at least `difference`.

    `groups` are the largest sets of arms, best first, within which no two are: the bars of the
    diagram. `friedman_p` is for "all arms are alike": above `alpha`, none is separable.
    """

    tasks: int
    ranks: Mapping[str, float]  # average over the tasks, 1 is best, best first
    friedman_p: float
    difference: float
    alpha: float
    groups: tuple[tuple[str, ...], ...]


def critical_difference(
    errors: Mapping[str, ArrayLike], alpha: float = 0.05
) -> CriticalDifference | None:
    """Of each arm's mean errors on the same tasks, (tasks,) each; None for less than three arms."""
    if len(errors) < 3:
        return None
    table = np.column_stack([np.asarray(column, dtype=np.float64) for column in errors.values()])
    tasks, arms = table.shape
    ranks = stats.rankdata(table, axis=1).mean(0)
    best_first = sorted(zip(errors, map(float, ranks), strict=True), key=lambda pair: pair[1])
    # q_α of Demšar's Table 5(a) is the studentized range statistic over √2
    quantile = stats.studentized_range.ppf(1 - alpha, arms, math.inf) / math.sqrt(2)
    difference = float(quantile * math.sqrt(arms * (arms + 1) / (6 * tasks)))
    alike = (table == table[:, :1]).all()
    return CriticalDifference(
        tasks=tasks,
        ranks=dict(best_first),
        friedman_p=1.0 if alike else float(stats.friedmanchisquare(*table.T).pvalue),
        difference=difference,
        alpha=alpha,
        groups=_groups(best_first, difference),
    )


def _groups(ranked: list[tuple[str, float]], difference: float) -> tuple[tuple[str, ...], ...]:
    """Runs of arms, in order of rank, that span less than the difference; none within another."""
    groups: list[tuple[str, ...]] = []
    reached = 0
    for first, (_, low) in enumerate(ranked):
        end = sum(rank - low < difference for _, rank in ranked[first:]) + first
        if end - first > 1 and end > reached:
            groups.append(tuple(name for name, _ in ranked[first:end]))
            reached = end
    return tuple(groups)
