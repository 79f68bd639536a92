"""The selection `shrunk`: validation loss, shrunk towards what the other metrics say it is.

`choosing.py` calls `shrunk`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpogen.objective import LOG_FLOOR, rank
from hpogen.plugins import FROM_VALIDATION
from hpogen.selection.evidence import Losses

Array = NDArray[np.float64]

FEWEST = 4  # trials; with fewer nothing can be learned from the others
PENALTIES = 10.0 ** np.arange(-3, 4)  # of the ridge regression, per trial


def shrunk(metrics: Sequence[Mapping[str, float]], losses: Losses) -> Array:
    """The shrunk logarithm of the validation loss of n trials of one budget, (n,).

    `losses` (n, N) are per validation sample. With ȳ_i the mean loss of trial i and y_i = ln ȳ_i:

        m_i  = the prediction of y_i by ridge regression on the other trials, from their metrics
               (as ranks, standardised) that no validation sample has touched
        s_i² = Var_k(ℓ_ik / ȳ_i − (1/n) Σ_j ℓ_jk / ȳ_j) / N
        τ²   = max(0, (1/n) Σ_i ((y_i − m_i)² − s_i²))
        shrunk_i = m_i + τ² / (τ² + s_i²) · (y_i − m_i)

    s_i² is the sampling variance of y_i (delta method) in what all trials do not share: they are
    judged on the same samples, and a hard sample is hard for all. τ² is how far the true losses are
    from their predictions (empirical Bayes, by moments; Efron and Morris 1975). The logarithm and
    the ranks keep an untrained network from being the regression's leverage. Below four trials, y.
    """
    means = np.maximum(losses.mean(axis=1, dtype=np.float64), LOG_FLOOR)
    y: Array = np.log(means)
    if len(y) < FEWEST:
        return y
    m = y - left_out_residuals(_features(metrics), y)
    variance = sampling_variances(losses, means)
    tau2 = max(0.0, float(((y - m) ** 2 - variance).mean()))
    with np.errstate(invalid="ignore"):
        weight = np.where(tau2 + variance > 0, tau2 / (tau2 + variance), 1.0)
    found: Array = m + weight * (y - m)
    return found


def sampling_variances(losses: Losses, means: Array) -> Array:
    """s² of `shrunk`, (n,); infinite for a single sample."""
    n, samples = losses.shape
    if samples < 2:
        return np.full(n, np.inf)
    shared = np.zeros(samples)  # (N,)
    for own, mean in zip(losses, means, strict=True):  # row by row: all at once takes much memory
        shared += own / mean / n
    variances = [(own / mean - shared).var(ddof=1) for own, mean in zip(losses, means, strict=True)]
    found: Array = np.array(variances) / samples
    return found


def left_out_residuals(features: Array, y: Array) -> Array:
    """y_i minus its ridge prediction from the other trials, (n,), for the best of `PENALTIES`.

    Features (n, p) are standardised over all trials. The residual of the fit to all trials over
    1 − h_ii is the one left out (Allen 1974); the penalty is the one with the least sum of squares.
    """
    n = len(y)
    left, singular, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    projected = left.T @ (y - y.mean())  # (p,)
    best: Array | None = None
    for penalty in PENALTIES * n:
        shrinkage = singular**2 / (singular**2 + penalty)
        fitted = y.mean() + left @ (shrinkage * projected)
        leverage = 1 / n + (left**2) @ shrinkage
        residuals = (y - fitted) / (1 - leverage)
        if best is None or residuals @ residuals < best @ best:
            best = residuals
    assert best is not None  # there are penalties
    return best


def _features(metrics: Sequence[Mapping[str, float]]) -> Array:
    """The ranks of the metrics that all trials have, standardised, (n, p)."""
    names = set(metrics[0]).intersection(*metrics) - FROM_VALIDATION
    columns = [np.asarray(rank([trial[name] for trial in metrics])) for name in sorted(names)]
    ranks = np.column_stack([np.zeros(len(metrics)), *columns])  # never without a column
    spread = ranks.std(axis=0)
    standardised: Array = (ranks - ranks.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return standardised
