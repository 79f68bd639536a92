"""How good an arm's answer is after so many epochs or seconds, over its search seeds.

`comparison.py` asks, `report/` draws the curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpogen.analysis.statistics import Array
from hpogen.analysis.trajectory import Trajectory

Axis = Literal["epochs", "seconds"]
POINTS = 200  # at most


@dataclass(frozen=True)
class Curve:
    """Held-out errors of the answer so far: median and quartiles over the search seeds.

    `x` are epochs charged or seconds of training; a search that has ended keeps its answer. The
    curve begins where every search has an answer; where one has no held-out error is no point.
    `oracle` is the median of the best of all trials so far, which nobody can choose.
    """

    axis: Axis
    seeds: int
    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]  # lower quartile
    high: tuple[float, ...]  # upper quartile
    oracle: tuple[float, ...]


def curve(trajectories: Sequence[Trajectory], axis: Axis) -> Curve | None:
    """Of the searches that have answers with held-out errors; None where none has."""
    known = [t for t in trajectories if len(t.truth) and np.isfinite(t.truth[-1])]
    if not known:
        return None
    spent = [t.epochs if axis == "epochs" else t.seconds for t in known]
    x = np.unique(np.concatenate(spent))
    if len(x) > POINTS:
        x = np.linspace(x[0], x[-1], POINTS)
    errors = np.stack([_at(x, s, t.truth) for s, t in zip(spent, known, strict=True)])  # (n, X)
    oracle = np.stack([_at(x, s, t.oracle) for s, t in zip(spent, known, strict=True)])
    begun = np.isfinite(errors).all(0)
    low, median, high = np.quantile(errors[:, begun], [0.25, 0.5, 0.75], axis=0)
    best = np.median(oracle[:, begun], axis=0)
    columns = [tuple(map(float, row)) for row in (x[begun], median, low, high, best)]
    return Curve(axis, len(known), *columns)


def _at(x: Array, spent: Array, values: Array) -> Array:
    """A step function: the value of the last trial that had ended by x, inf before the first."""
    last = np.searchsorted(spent, x, side="right") - 1
    result: Array = np.where(last < 0, np.inf, values[np.maximum(last, 0)])
    return result
