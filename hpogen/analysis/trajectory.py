"""What a study would have answered so far, after every trial that was told, and how good that is.

`tables.py` asks for the curves of an arm over its search seeds, and whether searches went on too
long: Schneider, Bischl & Feurer 2025, "Overtuning in Hyperparameter Optimization" (AutoML),
Definitions 3.1 and 3.2, with the audit set in the place of their test set.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hpogen.analysis.answers import Siblings, seconds
from hpogen.analysis.statistics import Array
from hpogen.analysis.truth import held_out
from hpogen.record.history import Record
from hpogen.selection import SELECTIONS, alone, candidates, gather, per_sample
from hpogen.selection.evidence import Losses, read_losses
from hpogen.study.finalists import final
from hpogen.study.read import Folder
from hpogen.tasks.errors import Error

Axis = Literal["epochs", "seconds"]

STEPS = 50  # how many answers are sought where each takes all trials so far
POINTS = 200  # of a curve, at most
LEAST_GAIN = 0.001
"""Less improvement over the first incumbent than this makes the relative number a noise ratio:
the paper's ε, for errors in [0, 1]."""


@dataclass(frozen=True)
class Trajectory:
    """A study after each of the T trials that were told, in the order of being told.

    Epochs are charged in full for each of them; seconds are those of training, one after the
    other. `truth` is the incumbent's audit error, `oracle` the smallest of all finished trials at
    the highest rung: inf before there is one, NaN where the incumbent has no audit.
    """

    epochs: Array  # (T,)
    seconds: Array  # (T,)
    incumbents: tuple[Record | None, ...]  # T
    truth: Array  # (T,)
    oracle: Array  # (T,)


def trajectory(study: Folder, truth: Error | None, siblings: Siblings) -> Trajectory:
    records = [study.history.records[number] for number in study.order]
    spent = seconds(study, siblings)
    finished = {r.trial.id for r in study.finished}
    found = incumbents(study)
    costs = (study.history.charge(record) for record in records)
    best = [
        _value(record, truth) if record.trial.id in finished else math.inf for record in records
    ]
    return Trajectory(
        epochs=np.array([float(x) for x in itertools.accumulate(costs)]),
        seconds=np.cumsum([spent[number].get("total", 0.0) for number in study.order]),
        incumbents=tuple(found),
        truth=np.array([math.inf if r is None else _value(r, truth) for r in found]),
        oracle=np.fmin.accumulate(np.array(best)) if best else np.array([]),
    )


def _value(record: Record, truth: Error | None) -> float:
    value = held_out(record, truth)
    return math.nan if value is None else value


def incumbents(study: Folder) -> list[Record | None]:
    """The answer after each trial that was told: what `selection.choose` gives for these alone.

    A selection that weighs trials against each other is asked at most `STEPS` times; in between
    its last answer stands. The scale of a `standard` term is the frozen one all the time.
    """
    settled = alone(study.spec.selection, study.spec.objective)
    found = _smallest(study) if settled else _by_asking(study)
    return found if study.spec.finalists is None else _raced(study, found)


def _raced(study: Folder, found: Sequence[Record | None]) -> list[Record | None]:
    """With the leaders of the race in the place of those that the selection alone would choose."""
    result: list[Record | None] = []
    for count, number in enumerate(study.order, 1):
        race = None
        if study.history.records[number].repeat:
            told = {*study.order[:count]}
            known = [r for r in study.history.records if r.trial.id in told]
            race = final(replace(study, history=replace(study.history, records=known)))
        if race is None or race.standing is None:
            result.append(found[count - 1])
        else:
            result.append(race.leader.record if race.leader else None)
    return result


def _smallest(study: Folder) -> list[Record | None]:
    """Of a figure that a trial has whatever the others have: the least so far."""
    spec, past = study.spec, study.history
    records = study.finished
    evidence = gather(past, records, spec.ladder[-1], study.directory)
    values = SELECTIONS[spec.selection].figures(evidence, spec.objective)
    by_trial = {r.trial.id: value for r, value in zip(records, values, strict=True)}
    found: list[Record | None] = []
    best: tuple[float, int] | None = None
    for number in study.order:
        if by_trial.get(number, math.inf) < math.inf:  # of equals the one that was asked first
            best = min(filter(None, (best, (by_trial[number], number))))
        found.append(None if best is None else past.records[best[1]])
    return found


def _by_asking(study: Folder) -> list[Record | None]:
    total = len(study.order)
    steps = {round(total * step / STEPS) for step in range(1, STEPS + 1)}
    losses = _losses(study)
    found: list[Record | None] = []
    last = None
    for count in range(1, total + 1):
        if count in steps:
            last = _chosen_of(study, {*study.order[:count]}, losses)
        found.append(last)
    return found


def _losses(study: Folder) -> dict[int, Losses]:
    """The per-sample losses by trial, read once; of the selections that want them."""
    if not per_sample(study.spec.selection, study.spec.objective):
        return {}
    trials = [record.trial.id for record in study.finished]
    found = read_losses(study.directory, trials, study.history.id)
    return dict(zip(trials, found, strict=True))


def _chosen_of(study: Folder, told: set[int], losses: dict[int, Losses]) -> Record | None:
    """The answer of a study that has told these trials alone."""
    spec, rung = study.spec, study.spec.ladder[-1]
    past = replace(study.history, records=[r for r in study.history.records if r.trial.id in told])
    records = candidates(past, rung)
    if not records:
        return None
    evidence = gather(past, records, rung, study.directory)
    if losses:
        rows = np.stack([losses[record.trial.id] for record in records])
        evidence = replace(evidence, losses=lambda: rows)
    found = SELECTIONS[spec.selection].choose(evidence, spec.objective)
    return None if found is None else records[found]


@dataclass(frozen=True)
class Curve:
    """Held-out errors of the answer so far: median and quartiles over the search seeds.

    `x` are epochs charged or seconds of training; a search that has ended keeps its answer. The
    curve begins where every search has an answer; where one has no held-out error is no point.
    `oracle` is the median of the best of all trials so far, which nobody can choose.
    """

    axis: Axis
    seeds: int
    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]  # lower quartile
    high: tuple[float, ...]  # upper quartile
    oracle: tuple[float, ...]


def curve(trajectories: Sequence[Trajectory], axis: Axis) -> Curve | None:
    """Of the searches that have answers with held-out errors; None where none has."""
    known = [t for t in trajectories if len(t.truth) and np.isfinite(t.truth[-1])]
    if not known:
        return None
    spent = [t.epochs if axis == "epochs" else t.seconds for t in known]
    x = np.unique(np.concatenate(spent))
    if len(x) > POINTS:
        x = np.linspace(x[0], x[-1], POINTS)
    errors = np.stack([_at(x, s, t.truth) for s, t in zip(spent, known, strict=True)])  # (n, X)
    oracle = np.stack([_at(x, s, t.oracle) for s, t in zip(spent, known, strict=True)])
    begun = np.isfinite(errors).all(0)
    low, median, high = np.quantile(errors[:, begun], [0.25, 0.5, 0.75], axis=0)
    best = np.median(oracle[:, begun], axis=0)
    columns = [tuple(map(float, row)) for row in (x[begun], median, low, high, best)]
    return Curve(axis, len(known), *columns)


def _at(x: Array, spent: Array, values: Array) -> Array:
    """A step function: the value of the last trial that had ended by x, inf before the first."""
    last = np.searchsorted(spent, x, side="right") - 1
    result: Array = np.where(last < 0, np.inf, values[np.maximum(last, 0)])
    return result


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
