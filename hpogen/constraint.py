"""What no answer may exceed: a bound on a metric, and how far a trial misses it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CONSTRAINT = re.compile(r"\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """`metric <= bound` or `metric >= bound`."""

    metric: str
    sign: Literal["<=", ">="]
    bound: float

    @classmethod
    def of(cls, metric: str, text: object) -> Constraint:
        """Of a metric and a text such as `<= 0.2`. Raises ValueError for anything else."""
        found = CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
        try:
            bound = float(found[2]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            raise ValueError(f"got {text!r}, expected <= or >= and a number, as in '<= 0.2'")
        return cls(metric, "<=" if found[1] == "<=" else ">=", bound)

    @property
    def text(self) -> str:
        return f"{self.sign} {self.bound!r}"

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far the bound is missed, in sizes of the bound, or as it is from 0.

        At most 0 where the metric is within; infinity where there is none.
        """
        if self.metric not in metrics:
            return math.inf
        over = metrics[self.metric] - self.bound
        return (over if self.sign == "<=" else -over) / (abs(self.bound) or 1.0)


def violation(excess: Mapping[str, float]) -> float:
    """By how much a trial fails to satisfy constraints in all; 0 where it satisfies them.

    `excess` is by metric how far each bound is missed, at most 0 within it.
    """
    return sum(x for x in excess.values() if x > 0)
