"""Averages over search seeds, as the tables of a comparison have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hpogen.analysis.statistics import Interval, mean_interval


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n − 1) over search seeds; no deviation of a single one."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Average:
    """A mean over n search seeds and its 95 % bootstrap interval, None of fewer than five."""

    mean: float
    interval: Interval | None
    n: int


def summary(values: Iterable[float | None]) -> Summary | None:
    """Of the values that there are; None where there is none."""
    known = [float(x) for x in values if x is not None]
    if not known:
        return None
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Summary(float(np.mean(known)), sd, len(known))


def average(values: Iterable[float | None]) -> Average | None:
    """Of the values that there are; None where there is none."""
    known = [float(x) for x in values if x is not None]
    if not known:
        return None
    return Average(float(np.mean(known)), mean_interval(known), len(known))


def by_seed(values: Iterable[tuple[int, float | None]]) -> dict[int, list[float]]:
    """The values that there are, by search seed."""
    found: dict[int, list[float]] = {}
    for seed, value in values:
        if value is not None:
            found.setdefault(seed, []).append(value)
    return found
