"""What arms are set beside: baselines, restarts of plain validation, and what nobody can choose.

Whoever tries k arms and reports the best has searched k times: so do k restarts. `tables.py` asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from operator import itemgetter
from typing import Literal

import numpy as np

from hpogen.analysis.answers import Answer
from hpogen.analysis.statistics import Summary, by_seed, summary
from hpogen.analysis.truth import held_out
from hpogen.spec import StudySpec
from hpogen.study.read import Folder
from hpogen.study.standing import chooses_by_validation
from hpogen.tasks.errors import Error
from hpogen.trial import canonical

Kind = Literal["baseline", "restarts", "validated", "oracle"]
Answered = Sequence[tuple[Folder, Answer]]


@dataclass(frozen=True)
class Yardstick:
    """A row that is no arm. An oracle chooses by audit figures: nobody can have it.

    `validated` is what somebody gets who runs all arms (of several α, say) and keeps the answer
    with the lowest validation loss.

    `truth` is None where there are too few search seeds. Of restarts it is an expected value over
    all choices of k of the n searches, without a deviation.
    """

    label: str
    kind: Kind
    truth: Summary | None


def yardsticks(arms: Mapping[str, Answered], truth: Error) -> Iterator[Yardstick]:
    """Of the arms of a task: baselines, best of k restarts of `val`, oracles; k arms there are."""
    pairs = [pair for found in arms.values() for pair in found]
    for name in dict.fromkeys(name for study, _ in pairs for name in study.spec.baselines):
        values = by_seed((study.seed, _baseline(study, name, truth)) for study, _ in pairs)
        if found := summary(float(np.mean(x)) for x in values.values()):
            yield Yardstick(f"baseline {name!r}", "baseline", found)
    k = len(arms)
    if k > 1:
        for arm, answers in arms.items():
            if _validates(answers[0][0].spec):
                label = f"best of {k} restarts of {arm}"
                yield Yardstick(label, "restarts", _restarts(k, [given for _, given in answers]))
        yield Yardstick(f"by val loss: best of the {k} arms", "validated", _validated(k, pairs))
        errors = by_seed((given.seed, given.truth) for _, given in pairs)
        best = [min(values) for values in errors.values() if len(values) == k]
        yield Yardstick(f"oracle: best of the {k} arms", "oracle", summary(best))
    oracle = by_seed((given.seed, given.oracle) for _, given in pairs)
    yield Yardstick("oracle: best of all trials", "oracle", summary(map(min, oracle.values())))


def _validates(spec: StudySpec) -> bool:
    """Whether validation loss alone steers the search and chooses the answer."""
    return spec.objective.is_validation and chooses_by_validation(spec)


def _baseline(study: Folder, name: str, truth: Error) -> float | None:
    config = study.spec.baselines.get(name)
    for record in study.finished if config else ():
        if canonical(record.trial.config) == canonical(config or {}):
            return held_out(record, truth)
    return None


def _validated(k: int, pairs: Answered) -> Summary | None:
    """Of the search seeds that all arms have: the answer with the lowest validation loss."""
    by: dict[int, list[tuple[float, float]]] = {}
    for _, given in pairs:
        if given.val_loss is not None and given.truth is not None:
            by.setdefault(given.seed, []).append((given.val_loss, given.truth))
    shared = [known for known in by.values() if len(known) == k]
    return summary(min(known, key=itemgetter(0))[1] for known in shared)  # equal ones: the first


def _restarts(k: int, answers: Sequence[Answer]) -> Summary | None:
    known = [(g.val_loss, g.truth) for g in answers if g.val_loss is not None]
    pairs = [(loss, error) for loss, error in known if error is not None]
    value = best_of(k, [loss for loss, _ in pairs], [error for _, error in pairs])
    return None if value is None else Summary(value, None, len(pairs))


def best_of(k: int, validation: Sequence[float], errors: Sequence[float]) -> float | None:
    """The expected error of the one of k searches that has the lowest validation figure.

    Exact, over all subsets of k of the n searches: the i-th best by validation (from 0; equal ones
    in the order given) is chosen from C(n − 1 − i, k − 1) of the C(n, k) subsets. None for n < k.
    """
    n = len(errors)
    if not 1 <= k <= n:
        return None
    order = np.argsort(validation, kind="stable")
    chances = [comb(n - 1 - i, k - 1) / comb(n, k) for i in range(n)]
    return float(np.dot(chances, np.asarray(errors, dtype=np.float64)[order]))
