"""Whether a search went on too long for its own good: Schneider, Bischl & Feurer 2025.

"Overtuning in Hyperparameter Optimization" (AutoML), Definitions 3.1 and 3.2, with the audit set in
the place of their test set. `comparison.py` averages it over search seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpogen.analysis.statistics import Array

LEAST_GAIN = 0.001
"""Less improvement over the first incumbent than this makes the relative number a noise ratio:
the paper's ε, for errors in [0, 1]."""


@dataclass(frozen=True)
class Overtuning:
    """How the answer compares, on held-out data, with what was had before.

    `absolute`: with the best of all earlier incumbents (eq. 4), never negative. `relative`: that
    as a share of the best improvement over the first incumbent (eq. 8): 1 and more means that
    nothing was gained by searching; None where that improvement is below `LEAST_GAIN`.
    `meta_overfitting`: held-out minus validation error of the answer (eq. 5): what validation
    promised too much. `regret`: against the best of all trials (eq. 6).
    """

    absolute: float
    relative: float | None
    meta_overfitting: float | None
    regret: float


def overtuning(
    truth: Sequence[float] | Array, oracle: float, validation: float | None
) -> Overtuning | None:
    """Of the incumbents' held-out errors in their order, the last one being the answer's.

    `oracle` is the smallest error of all trials, `validation` the answer's validation error.
    Infinite values stand before the first incumbent; None where one has no held-out error.
    """
    values = np.asarray(truth, dtype=np.float64)
    values = values[~np.isposinf(values)]
    if not len(values) or np.isnan(values).any():
        return None
    first, best, last = float(values[0]), float(values.min()), float(values[-1])
    gain = first - best
    return Overtuning(
        absolute=last - best,
        relative=(last - best) / gain if gain >= LEAST_GAIN else None,
        meta_overfitting=None if validation is None else last - validation,
        regret=last - oracle,
    )
