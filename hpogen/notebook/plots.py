"""The picture of a study for a notebook."""

from __future__ import annotations

import math
from typing import TypeVar

from matplotlib.figure import Figure

from hpogen.study.read import Folder
from hpogen.study.standing import rule

F = TypeVar("F", bound=Figure)


def scores(study: Folder, figure: F) -> F:
    """The finite scores of the largest budget by the trials' numbers, and the least so far."""
    found = [(r.trial.id, r.score) for r in study.finished if math.isfinite(r.score)]
    axes = figure.subplots()
    axes.plot(*zip(*found, strict=True) if found else ((), ()), "o", markersize=4, label="trial")
    least = math.inf
    best = [(trial, least := min(least, score)) for trial, score in found]
    axes.step(*zip(*best, strict=True) if best else ((), ()), where="post", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"score: {rule(study.spec)}")
    axes.legend()
    return figure
