"""The linear model of the generalization gap, ĝ = aζ + bκ + c (sparsity paper, eq. 7).

For any named metrics, fitted by least squares to trials whose gaps are known; the paper publishes
no coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hpogen.analysis.statistics import Array, standardized
from hpogen.analysis.trials import finished_trials
from hpogen.errors import Refusal, UserError
from hpogen.study.read import read

Indices = NDArray[np.int64]

SPLITS = 100
HELD_OUT = 0.1


@dataclass(frozen=True)
class GapModel:
    """ĝ = Σ coefficient · metric + intercept."""

    coefficients: Mapping[str, float]  # by metric
    intercept: float

    def predict(self, metrics: Mapping[str, ArrayLike]) -> Array:
        """The estimated gaps (n,). Raises UserError when a metric is missing."""
        return _columns(metrics, [*self.coefficients]) @ [*self.coefficients.values()] + (
            self.intercept
        )


@dataclass(frozen=True)
class GapModelTest:
    """A model of all trials, and how models of most of them do on the others (paper, Figure 3).

    `pearson` is of all trials with the model fitted to them. Each split fits another model:
    `residuals` are their sums of squared residuals on the held-out trials, `pearson_held_out` is of
    all held-out estimates together (None for constants).
    """

    model: GapModel
    trials: int
    held_out: int  # trials of each split
    pearson: float | None
    residuals: tuple[float, ...]
    pearson_held_out: float | None


def fit(metrics: Mapping[str, ArrayLike], gaps: ArrayLike) -> GapModel:
    """Least squares on n trials: one row of n numbers per metric, and the gaps (n,).

    Raises Refusal when the trials do not determine the coefficients: fewer than metrics + 1, or a
    metric that is constant or a linear function of the others.
    """
    columns, gap = _columns(metrics, [*metrics]), np.asarray(gaps, dtype=np.float64)
    # standardized, so that the rank does not depend on the metrics' units
    design = np.column_stack([*map(standardized, columns.T), np.ones(len(gap))])
    solution, _, rank, _ = np.linalg.lstsq(design, gap, rcond=None)
    if rank <= len(metrics):
        raise Refusal(
            f"{len(gap)} trials do not determine {len(metrics)} coefficients and a constant: there "
            f"are too few, or one of {', '.join(metrics)} is constant or follows from the others"
        )
    slopes = solution[:-1] / columns.std(0)
    intercept = solution[-1] - columns.mean(0) @ slopes
    return GapModel(dict(zip(metrics, slopes.tolist(), strict=True)), float(intercept))


def random_splits(
    trials: int, held_out: int, splits: int = SPLITS, seed: int = 0
) -> Iterator[tuple[Indices, Indices]]:
    """The numbers of the trials held out, and of the others: those that `assess` takes."""
    generator = np.random.default_rng(seed)
    for _ in range(splits):
        test, train = np.split(generator.permutation(trials), [held_out])
        yield test, train


def assess(
    metrics: Mapping[str, ArrayLike],
    gaps: ArrayLike,
    *,
    splits: int = SPLITS,
    held_out: float = HELD_OUT,
    seed: int = 0,
) -> GapModelTest:
    """Fit all trials, then `splits` random shares of them, predicting the `held_out` share.

    At least one trial is held out. Raises Refusal where `fit` does, on any split.
    """
    gap = np.asarray(gaps, dtype=np.float64)
    rows = {name: np.asarray(values, dtype=np.float64) for name, values in metrics.items()}
    count = max(round(held_out * len(gap)), 1)
    truth, estimates, residuals = [], [], []
    for test, train in random_splits(len(gap), count, splits, seed):
        model = fit({name: x[train] for name, x in rows.items()}, gap[train])
        truth.append(gap[test])
        estimates.append(model.predict({name: x[test] for name, x in rows.items()}))
        residuals.append(float(np.square(estimates[-1] - truth[-1]).sum()))
    model = fit(rows, gap)
    return GapModelTest(
        model,
        trials=len(gap),
        held_out=count,
        pearson=_pearson(model.predict(rows), gap),
        residuals=tuple(residuals),
        pearson_held_out=_pearson(np.concatenate(estimates), np.concatenate(truth)),
    )


def assess_study(
    directory: Path,
    names: Sequence[str] = ("zeta", "kappa"),
    *,
    target: str = "audit_gap_error",
    splits: int = SPLITS,
    seed: int = 0,
) -> GapModelTest:
    """The same on a study's finished trials that have all the metrics named."""
    trials = finished_trials(read(directory))
    columns = {name: trials.measure(name) for name in names}
    known = np.all([np.isfinite(x) for x in columns.values()], axis=0)
    metrics = {name: x[known] for name, x in columns.items()}
    return assess(metrics, trials.target(target)[known], splits=splits, seed=seed)


def _columns(metrics: Mapping[str, ArrayLike], names: Sequence[str]) -> Array:
    """(n, metrics)"""
    missing = [name for name in names if name not in metrics]
    if missing or not names:
        raise UserError(f"the gap model needs metrics: {', '.join(missing) or 'name at least one'}")
    return np.column_stack([np.asarray(metrics[name], dtype=np.float64) for name in names])


def _pearson(x: Array, y: Array) -> float | None:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(stats.pearsonr(standardized(x), standardized(y)).statistic)
