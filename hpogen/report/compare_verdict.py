"""The sentence of `compare` that a tired person can act on. `compare.py` puts it first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from hpogen.analysis.comparison import Comparison
from hpogen.analysis.contrasts import ALPHA, Contrast, fewest_pairs
from hpogen.analysis.tables import Row
from hpogen.report.compare_figures import difference, p_value, points
from hpogen.report.text import configuration, count, error_text, number

LIMIT = "One search seed does not show which of them is better."
NOTHING = "There is no second arm to compare it with."
NAMED = 3  # separable pairs in the sentence


def verdict(found: Comparison) -> str:
    """What was found, with the evidence in it."""
    rows = [row for task in found.tasks for row in task.rows]
    if not rows:
        return "There is no answer yet: no trial has finished at the largest budget."
    if found.judged_by is None:
        losses = "; ".join(f"{arm}: val loss {loss}" for arm, loss in _losses(found))
        return (
            f"{losses}. There are no audit or test figures: which arm generalizes better cannot "
            "be said, for validation losses have been chosen for being small."
        )
    clauses = [f"{arm}: {text}" for arm, text in _figures(found)]
    clauses += [f"{label} {text}" for label, text in _baselines(found)]
    return f"{'; '.join(clauses)}. {' '.join(_conclusion(found))}"


def _losses(found: Comparison) -> Iterator[tuple[str, str]]:
    for arm in found.arms:
        means = [row.val_loss.mean for row in _rows(found, arm) if row.val_loss is not None]
        if means:
            yield arm, number(statistics.fmean(means))


def _rows(found: Comparison, arm: str) -> list[Row]:
    return [row for task in found.tasks for row in task.rows if row.arm == arm]


def _figures(found: Comparison) -> Iterator[tuple[str, str]]:
    """The arms of the primary contrast, else all of them, the best first; means over tasks."""
    means: dict[str, float] = {}
    of = str(found.judged_by)
    for arm in found.primary or found.arms:
        summaries = [row.test if found.by_test else row.truth for row in _rows(found, arm)]
        known = [one.mean for one in summaries if one is not None]
        if known:
            means[arm] = statistics.fmean(known)
    order = found.primary or sorted(means, key=lambda arm: means[arm])
    for arm in order:
        if arm in means:
            chose = ""
            if [len(row.answers) for row in _rows(found, arm)] == [1]:
                chose = f"chose {configuration(_rows(found, arm)[0].answers[0].config)}: "
            yield arm, f"{chose}{of} {error_text(means[arm], of)}"


def _baselines(found: Comparison) -> Iterator[tuple[str, str]]:
    """Means over the tasks; there are none of a test error."""
    of = str(found.judged_by)
    values: dict[str, list[float]] = {}
    for task in found.tasks:
        for yardstick in task.yardsticks:
            if yardstick.kind == "baseline" and yardstick.truth is not None:
                values.setdefault(yardstick.label, []).append(yardstick.truth.mean)
    for label, means in values.items():
        if len(means) == len(found.tasks):
            yield label, error_text(statistics.fmean(means), of)


def _conclusion(found: Comparison) -> Iterator[str]:
    if len(found.arms) == 1:
        seeds = {given.seed for row in _rows(found, found.arms[0]) for given in row.answers}
        yield f"That is over {count(len(seeds), 'search seed')}. {NOTHING}"
        return
    if not found.contrasts:
        yield "No two arms share a search seed: nothing can be paired."
        return
    others = [c for c in found.contrasts if not c.primary]
    if found.primary is not None:
        if len(others) == len(found.contrasts):
            yield f"{' and '.join(found.primary)} share no search seed: nothing can be paired."
        else:
            yield from _of_two(found.contrasts[0], str(found.judged_by))
    if others:
        yield from _of_many(others, " other" if found.primary else "")


def _of_many(contrasts: Sequence[Contrast], other: str) -> Iterator[str]:
    apart = [c for c in contrasts if c.separable]
    pairs = f"Of {count(len(contrasts), f'{other} pair'.strip())} of arms"
    if not apart:
        yield f"{pairs} none is separable (p after Holm's correction above {ALPHA:g})."
    elif len(apart) > NAMED:
        yield f"{pairs} {len(apart)} are separable after Holm's correction: see the contrasts."
    else:
        names = "; ".join(" and ".join(_better_first(c)) for c in apart)
        verb = "is" if len(apart) == 1 else "are"
        yield f"{pairs} {len(apart)} {verb} separable after Holm's correction, better one first:"
        yield f"{names}."
    if all(c.smallest_p * len(contrasts) > ALPHA for c in contrasts) and not other:
        yield "So few search seeds cannot separate so many arms: declare a primary contrast."
        without = count(fewest_pairs(len(contrasts)), "search seed")
        yield f"With one, {_enough()} can be separable; without, {without} or more."


def _better_first(c: Contrast) -> tuple[str, str]:
    return (c.first, c.second) if c.difference < 0 else (c.second, c.first)


def _of_two(c: Contrast, of: str) -> Iterator[str]:
    if c.pairs == 1:
        yield f"{LIMIT} {_enough()} can be separable."
        return
    evidence = f"difference {difference(c.difference, of)}{points(of)}"
    if c.interval is not None:
        low, high = difference(c.interval.low, of), difference(c.interval.high, of)
        evidence += f", 95 % interval {low} to {high}"
    over = count(c.pairs, "search seed")
    if c.tasks > 1:
        over = f"{count(c.pairs, 'pair')} of searches on {c.tasks} tasks"
    if c.ties == c.pairs:
        yield f"Over {over} the two are not separable: their answers are equally good in each."
        return
    if c.separable:
        better = _better_first(c)[0]
        yield f"Over {over} {better} is better ({evidence}, p {p_value(c.p)})."
        return
    yield f"Over {over} the two are not separable ({evidence}, p {p_value(c.p)})."
    if c.smallest_p > ALPHA:
        yield f"So few cannot be: {p_value(c.smallest_p)} is the smallest p they can give."
        yield f"{_enough(c.tasks)}{' with unequal answers' * (c.ties > 0)} can be separable."


def _enough(tasks: int = 1) -> str:
    """How many search seeds on so many tasks it takes for one contrast."""
    seeds = math.ceil(fewest_pairs() / tasks)
    return f"{count(seeds, 'search seed')} or more{' on each task' * (tasks > 1)}"
