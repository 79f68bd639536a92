"""The Pareto front of trials with several scores each, and its knee.

`choosing.py` lets every selection choose among the trials of the front; a study's end and its
reports ask here, too. Each score is to be made small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[Sequence[float]]
"""(n, k): of each trial its k scores; all of them infinity where one is not defined."""


def front(scores: Scores) -> list[int]:
    """The numbers of the trials that no other dominates, in their order.

    One dominates another where it is at most as large in each score and smaller in one. Equal
    trials do not dominate each other. A trial whose scores are not defined is not on the front.
    """
    finite = [i for i, own in enumerate(scores) if all(map(math.isfinite, own))]
    found: list[int] = []
    kept = np.empty((0, len(scores[finite[0]]) if finite else 0))
    for i in sorted(finite, key=lambda i: tuple(scores[i])):  # who dominates it comes before it
        own = np.asarray(scores[i])
        below = (kept <= own).all(axis=1)
        if not (below & (kept < own).any(axis=1)).any():
            found.append(i)
            kept = np.vstack([kept, own])
    return sorted(found)


def knee(scores: Scores) -> list[float]:
    """Of each trial of a front the sum of its scores, each scaled to [0, 1] over the front.

    The least is the knee. For two scores it is the trial that is the farthest below the straight
    line between the two ends of the front (Das 1999, On characterizing the "knee" of the Pareto
    curve). A score that is the same for all counts as 0.
    """
    own = np.asarray(scores, dtype=np.float64)
    low, high = own.min(axis=0), own.max(axis=0)
    scaled: NDArray[np.float64] = (own - low) / np.where(high > low, high - low, 1.0)
    found: list[float] = scaled.sum(axis=1).tolist()
    return found
