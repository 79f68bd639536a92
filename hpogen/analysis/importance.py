"""How much each hyper-parameter matters for the score: permutation importance of a forest.

A random forest predicts the rank of the score from the configuration; a parameter matters as much
as the prediction of unseen trials gets worse when its values are shuffled (Breiman 2001), as
scikit-learn has it. Faster than fANOVA by far, and it says how well the forest predicts at all.
`report/html/space.py` asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from hpogen.analysis.statistics import Array
from hpogen.space import Space
from hpogen.space.parameters import Choice, Number
from hpogen.trial import Config

FEWEST = 10  # trials
MOST = 1000  # trials; a random choice of them is taken of more
FOLDS = 5
TREES = 50
REPEATS = 5  # shuffles of a parameter in a fold
ABSENT = -1.0  # of a parameter that a configuration does not have; the others are at least 0


@dataclass(frozen=True)
class Lost:
    """How much of R² is lost without a parameter: mean and sd (n − 1) over the folds."""

    parameter: str
    mean: float
    sd: float


@dataclass(frozen=True)
class Importance:
    """The parameters that vary, the most important first.

    `r2` is the share of the variance of the ranks of unseen trials that the forest explains, the
    mean over the folds: near 0 or below, nothing can be said. `trials` were taken.
    """

    parameters: tuple[Lost, ...]
    r2: float
    trials: int


def importance(
    space: Space, searches: Sequence[tuple[Sequence[Config], Sequence[float]]], seed: int = 0
) -> Importance | None:
    """Of the configurations and scores of searches in one space.

    Scores are ranked within their search first, from 0 to 1: they need not be comparable between
    searches, and diverged trials do not outweigh all others. None for fewer than ten trials, equal
    scores, or where no parameter varies. What lies outside the space (a searcher of one's own may
    ask for it) is left out.
    """
    searches = [_inside(space, *search) for search in searches]
    points = np.array(
        [_coordinates(space, config) for configs, _ in searches for config in configs],
        dtype=np.float64,
    )  # (n, parameters)
    ranks = np.concatenate([*(_ranked(scores) for _, scores in searches), np.zeros(0)])
    if len(points) > MOST:
        kept = np.random.default_rng(seed).choice(len(points), MOST, replace=False)
        points, ranks = points[kept], ranks[kept]
    if len(points) < FEWEST or np.ptp(ranks) == 0:
        return None
    varying = [i for i in range(points.shape[1]) if np.ptp(points[:, i]) > 0]
    if not varying:
        return None
    losses, r2 = _cross_validated(points[:, varying], ranks, seed)
    found = [
        Lost(space.names[i], float(own.mean()), float(own.std(ddof=1)))
        for i, own in zip(varying, losses, strict=True)
    ]
    ordered = tuple(sorted(found, key=lambda lost: -lost.mean))
    return Importance(ordered, float(r2.mean()), len(points))


def _cross_validated(points: Array, ranks: Array, seed: int) -> tuple[Array, Array]:
    """R² lost by parameter and fold (parameters, folds), and R² by fold."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    losses, r2 = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(points):
        forest: Any = RandomForestRegressor(TREES, random_state=seed)
        forest.fit(points[train], ranks[train])
        r2.append(forest.score(points[test], ranks[test]))
        shuffled = permutation_importance(
            forest, points[test], ranks[test], n_repeats=REPEATS, random_state=seed
        )
        losses.append(shuffled.importances_mean)
    return np.array(losses, dtype=np.float64).T, np.array(r2, dtype=np.float64)


def _inside(
    space: Space, configs: Sequence[Config], scores: Sequence[float]
) -> tuple[list[Config], list[float]]:
    pairs = zip(configs, scores, strict=True)
    kept = [(config, score) for config, score in pairs if space.contains(config)]
    return [config for config, _ in kept], [score for _, score in kept]


def _coordinates(space: Space, config: Config) -> list[float]:
    """One per parameter: a number's place in its range (log where asked), a choice's index."""
    found = []
    for name, parameter in space.parameters.items():
        if name not in config:
            found.append(ABSENT)
        elif isinstance(parameter, Number):
            found += parameter.encode(config[name])
        else:
            found.append(
                float(parameter.index(config[name])) if isinstance(parameter, Choice) else 0.0
            )
    return found


def _ranked(scores: Sequence[float]) -> Array:
    """From 0 to 1, equal ones sharing their mean rank."""
    ranks: Array = (stats.rankdata(np.asarray(scores)) - 0.5) / max(len(scores), 1)
    return ranks
