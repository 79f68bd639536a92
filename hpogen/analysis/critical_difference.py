"""Arms compared over many tasks: average ranks, Friedman's test, Nemenyi's critical difference.

Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets" (JMLR 7), section 3.2.
`comparison.py` asks from ten tasks on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FEWEST_TASKS = 10  # below, the approximations are poor and nothing can be found


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
