"""How a searcher hears of a finished trial of a study with constraints.

The study (`study/repeats.py`) tells through `tell_constrained`, and so does a searcher that asks
another one (`asha.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpogen.constraint import violation

BEHIND = 1e150  # no score of a feasible trial is as large


def tell_constrained(searcher: Any, trial: int, score: float, excess: Mapping[str, float]) -> None:
    """As the searcher wants it told, see `searchers.base.Searcher`; else by the score alone.

    That of an infeasible trial then comes behind those of all feasible ones: see `behind`.
    """
    if (told := getattr(searcher, "tell_constrained", None)) is not None:
        told(trial, score, excess)
    else:
        searcher.tell(trial, behind(score, excess))


def behind(score: float, excess: Mapping[str, float]) -> float:
    """The score of a feasible trial; else one behind all of these, by the violation."""
    return score if violation(excess) == 0 else BEHIND * (1 + share(excess))


def share(excess: Mapping[str, float]) -> float:
    """The violation v as v / (1 + v), in [0, 1]."""
    v = violation(excess)
    return v / (1 + v) if v < BEHIND else 1.0
