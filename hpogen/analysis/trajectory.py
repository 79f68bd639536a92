"""What a study would have answered so far, after every trial that was told.

`overtuning.py` judges the last of these incumbents, `anytime.py` averages them over search seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from hpogen.analysis.answers import Siblings, Truth, held_out, seconds
from hpogen.analysis.statistics import Array
from hpogen.record.history import Record
from hpogen.selection import SELECTIONS, candidates, gather
from hpogen.selection.evidence import Losses, read_losses
from hpogen.study.read import Folder

STEPS = 50  # how many answers are sought where each takes all trials so far


@dataclass(frozen=True)
class Trajectory:
    """A study after each of the T trials that were told, in the order of being told.

    Epochs are charged in full for each of them; seconds are those of training, one after the
    other. `truth` is the incumbent's audit error, `oracle` the smallest of all finished trials at
    the largest budget: inf before there is one, NaN where the incumbent has no audit.
    """

    epochs: Array  # (T,)
    seconds: Array  # (T,)
    incumbents: tuple[Record | None, ...]  # T
    truth: Array  # (T,)
    oracle: Array  # (T,)


def trajectory(study: Folder, truth: Truth | None, siblings: Siblings) -> Trajectory:
    records = [study.history.records[number] for number in study.order]
    spent = seconds(study, siblings)
    finished = {r.trial.id for r in study.finished}
    found = incumbents(study)
    best = [
        _value(record, truth) if record.trial.id in finished else math.inf for record in records
    ]
    return Trajectory(
        epochs=np.cumsum([float(record.trial.budget) for record in records]),
        seconds=np.cumsum([spent[number].get("total", 0.0) for number in study.order]),
        incumbents=tuple(found),
        truth=np.array([math.inf if r is None else _value(r, truth) for r in found]),
        oracle=np.fmin.accumulate(np.array(best)) if best else np.array([]),
    )


def _value(record: Record, truth: Truth | None) -> float:
    value = held_out(record, truth)
    return math.nan if value is None else value


def incumbents(study: Folder) -> list[Record | None]:
    """The answer after each trial that was told: what `selection.choose` gives for these alone.

    A selection that weighs trials against each other is asked at most `STEPS` times; in between
    its last answer stands. The scale of a `standard` term is the frozen one all the time.
    """
    ranks = study.spec.selection == "score" and study.spec.objective.uses("rank")
    alone = SELECTIONS[study.spec.selection].alone and not ranks
    return _smallest(study) if alone else _by_asking(study)


def _smallest(study: Folder) -> list[Record | None]:
    """Of a figure that a trial has whatever the others have: the least so far."""
    spec, past = study.spec, study.history
    budget = spec.budgets[-1]
    records = study.finished
    evidence = gather(past, records, budget, study.directory)
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
    if not SELECTIONS[study.spec.selection].per_sample:
        return {}
    trials = [record.trial.id for record in study.finished]
    found = read_losses(study.directory, trials, study.history.id)
    return dict(zip(trials, found, strict=True))


def _chosen_of(study: Folder, told: set[int], losses: dict[int, Losses]) -> Record | None:
    """The answer of a study that has told these trials alone."""
    spec, budget = study.spec, study.spec.budgets[-1]
    past = replace(study.history, records=[r for r in study.history.records if r.trial.id in told])
    records = candidates(past, budget)
    if not records:
        return None
    evidence = gather(past, records, budget, study.directory)
    if losses:
        rows = np.stack([losses[record.trial.id] for record in records])
        evidence = replace(evidence, losses=lambda: rows)
    found = SELECTIONS[spec.selection].choose(evidence, spec.objective)
    return None if found is None else records[found]
