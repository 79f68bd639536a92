"""Which measure can be trusted: Kendall's τ with gap and error, on all trials and on two halves.

What `correlation.judge` says of one study with every detail, said of several search seeds and in a
time that a report of thousands of trials can wait. `report/html/measures.py` asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from hpogen.analysis.correlation import FEWEST, PARTS, SHARES, Part, halves
from hpogen.analysis.statistics import Array, Interval, average, bootstrap, kendall, sign
from hpogen.analysis.trials import FinishedTrials

MOST = 400  # trials of which τ is bootstrapped: it takes O(n²), and the interval is small then
RESAMPLES = 1000


@dataclass(frozen=True)
class Trust:
    """τ-b of one measure with one target on one part of the trials, averaged over n searches.

    `interval` (95 %) is a bootstrap over search seeds from five of them on; of a single search over
    its trials, as long as these are at most 400; else None.
    """

    measure: str
    target: str
    part: Part
    tau: float
    interval: Interval | None
    n: int


def trust(searches: Sequence[FinishedTrials]) -> list[Trust]:
    """Of the measures that all trials of these searches have. What is constant is left out."""
    names = sorted(set.intersection(*({*_whole(trials)} for trials in searches)))
    parts = [halves(trials)[0] for trials in searches]
    found = []
    for target, name, part in product(SHARES, names, PARTS):
        pairs = [
            (trials.metrics[name][own[part]], trials.target(target)[own[part]])
            for trials, own in zip(searches, parts, strict=True)
        ]
        found.append(_trust(name, target, part, pairs))
    return [one for one in found if one is not None]


def _whole(trials: FinishedTrials) -> list[str]:
    return [name for name, values in trials.metrics.items() if np.isfinite(values).all()]


def _trust(
    name: str, target: str, part: Part, pairs: Sequence[tuple[Array, Array]]
) -> Trust | None:
    defined = [(x, y) for x, y in pairs if len(x) >= FEWEST and np.ptp(x) > 0 and np.ptp(y) > 0]
    over = average(float(stats.kendalltau(x, y).statistic) for x, y in defined)
    if over is None:
        return None
    interval = over.interval
    if len(pairs) == 1 and len(defined[0][0]) <= MOST:
        x, y = defined[0]
        interval = bootstrap(kendall(x, y), len(x), resamples=RESAMPLES)
    return Trust(name, target, part, over.mean, interval, over.n)


def flips(found: Sequence[Trust]) -> set[tuple[str, str]]:
    """The measures and targets whose τ has one sign on some part and another on another."""
    signs: dict[tuple[str, str], set[int]] = {}
    for one in found:
        if own := sign(one.tau):
            signs.setdefault((one.measure, one.target), set()).add(own)
    return {key for key, own in signs.items() if len(own) > 1}
