"""What a study's answer and the one that comes after it would come to on more data.

`extrapolation.py` computes it; `best`, `retrain --at` and the report show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpogen.study.read import Folder
from hpogen.study.sizes import TOP, Sized, sized

if TYPE_CHECKING:
    from hpogen.analysis.extrapolation import Curve, Prediction

MOST = 20  # curves that are looked at, the best ones


@dataclass(frozen=True)
class Seen:
    """A configuration with what was seen of it, and what is predicted; None: `lacking` says why."""

    sized: Sized
    prediction: Prediction | None
    lacking: str = ""


@dataclass(frozen=True)
class Outlook:
    """The losses predicted at `data`, a fraction of the training set, best first.

    `order` is the probability that the first does better than the second there, None where one of
    them has no prediction. `curves` are those that the predictions rest on.
    """

    data: float
    seen: tuple[Seen, ...]
    order: float | None
    curves: int
    lacking: str = ""

    @property
    def sizes(self) -> list[float]:
        """The fractions that any of them was trained on."""
        return sorted({data for seen in self.seen for data in seen.sized.runs})


def outlook(study: Folder, data: float = 1.0) -> Outlook | None:
    """As far as trainings on two sizes allow; None where all were trained on one."""
    found = sized(study)
    if not found:
        return None
    apart = [one for one in found if one.apart]
    asked = apart or found[:TOP]
    reasons = [_lacking(one, data) for one in asked]
    good = [one for one, reason in zip(asked, reasons, strict=True) if not reason]
    others = [one for one in found if one not in asked and _tells(one, data)]
    curves = [*good, *sorted(others, key=_rank)][: max(MOST, len(good))]
    why = "" if any(_tells(one, data) for one in curves) else "none was trained well on two sizes"
    from hpogen.analysis.extrapolation import extrapolate  # scipy

    result = extrapolate([_curve(one) for one in curves], data, len(good)) if not why else None
    predicted = iter(result.predictions if result else ())
    seen = [
        Seen(one, None if reason or why else next(predicted), reason)
        for one, reason in zip(asked, reasons, strict=True)
    ]
    order = result.order if result and not any(reasons[:2]) and len(good) > 1 else None
    return Outlook(data, tuple(seen), order, len(curves), why)


def _lacking(one: Sized, data: float) -> str:
    """Why nothing is predicted of a configuration; empty where something is."""
    for fraction, kinds in one.failures.items():
        return f"{kinds[0]} on {100 * fraction:.3g} % of the training set"
    losses = [loss for fraction in one.runs for loss in one.losses(fraction)]
    if not all(0 < loss < math.inf for loss in losses):
        return "has a loss of 0 or below, which no power law has"
    return "" if max(one.runs) < data else "was trained on no less data"


def _tells(one: Sized, data: float) -> bool:
    """Whether its curve tells how curves run: it has two sizes."""
    return len(one.runs) > 1 and not _lacking(one, data)


def _rank(one: Sized) -> tuple[float, float]:
    """The largest size first, then the least loss there."""
    largest = max(one.runs)
    losses = one.losses(largest)
    return -largest, sum(losses) / len(losses)


def _curve(one: Sized) -> Curve:
    from hpogen.analysis.extrapolation import Curve

    pairs = [(data, loss) for data in one.runs for loss in one.losses(data)]
    sizes, losses = zip(*pairs, strict=True)
    return Curve(sizes, losses)
