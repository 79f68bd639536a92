"""Whether a finalist does worse on more data than it did on the study's subset.

`study/finalists.py` asks after each round of a race; such a finalist is never the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from hpogen.selection.evidence import Losses

MAD = 1.4826 * 1.2  # median absolute deviation to standard deviation; 1.2: of about five values


def worse(
    before: Sequence[Losses], after: Sequence[Losses], trials: int, alpha: float
) -> list[bool]:
    """Of each of F finalists whether its loss has risen by more than chance explains.

    `before` are its losses (N,) on the subset, `after` those of its s seeds on more data, (s, N).
    With d_k the difference of its mean losses on sample k, and t_f the quantile of Student's t
    distribution at 1 − alpha/T, it has when

        mean(d)² > (t_{N−1} · sd_k(d)/√N)² + (t_{F−1} · σ)²  and  mean(d) > 0

    The first part is chance in the samples; σ, how much seeds change a mean, is the larger of two
    estimates that a few jumps do not touch: the median absolute deviation of the finalists'
    mean(d), which also holds how unlike their gains are, and √(v (1 + 1/s)) with v the median of
    their variances over seeds. The finalists are the best of T `trials`, for small losses that
    were partly luck and do not come back: a bound at alpha/T holds for all T at once (Bonferroni).
    """
    differences = [
        own.mean(axis=0, dtype=np.float64) - first.astype(np.float64)
        for first, own in zip(before, after, strict=True)
    ]
    if len(differences) < 2:
        return [False] * len(differences)
    level = alpha / trials
    of_seeds = float(stats.t.isf(level, len(differences) - 1)) * _sigma(differences, after)
    return [
        bool(own.mean() > math.hypot(of_seeds, float(stats.t.isf(level, n - 1)) * _error(own)))
        for own in differences
        if (n := len(own))
    ]


def _sigma(differences: Sequence[Losses], after: Sequence[Losses]) -> float:
    means = np.array([own.mean() for own in differences])
    spread = MAD * float(np.median(np.abs(means - np.median(means))))
    seeds = [own.mean(axis=1, dtype=np.float64).var(ddof=1) for own in after if len(own) > 1]
    if not seeds:
        return spread
    return max(spread, math.sqrt(float(np.median(seeds)) * (1 + 1 / min(map(len, after)))))


def _error(differences: Losses) -> float:
    """The standard error of the mean; without end for a single sample."""
    n = len(differences)
    return float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
