"""What pruning would have saved and lost on trials that were trained to their end.

`hpogen rescore --prune` asks of a study's folder; the rule sees the recorded curves, one trial
after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpogen.analysis.choices import Choice, Trials
from hpogen.errors import UserError
from hpogen.record.history import Record
from hpogen.selection import rescore
from hpogen.spec.pruning import Prune
from hpogen.study.pruning import running, values_of_trainings
from hpogen.study.read import Folder
from hpogen.trial import plain


@dataclass(frozen=True)
class Pruned:
    """What a rule does to the finished trials of a study, in the order of their end.

    `charged` are the epochs with it, `whole` those without; `best` is the least score of all
    trials, `left` that of those which it lets finish, `lost` how much worse it is relatively (None
    where the best is 0). `choice` is the trial with `left`, `best_choice` the one with `best`.
    """

    rule: str
    after: int
    options: Mapping[str, Any]
    trials: int
    pruned: Mapping[int, int]  # by trial: the epoch, or how many of its trainings, it ends after
    charged: int | float
    whole: int | float
    best: float
    left: float
    lost: float | None
    choice: Choice
    best_choice: Choice


def would_prune(study: Folder, trials: Trials, prune: Prune) -> Pruned:
    """Replay the curves of the finished trials before the rule, and look at what it leaves.

    Raises UserError where the study has pruned trials itself: nobody knows what they would be.
    """
    if any(record.pruned for record in study.history.records):
        raise UserError(
            f"{study.directory}: --prune: this study has pruned trials itself, and what they would "
            "have come to is not known: expected a study without prune"
        )
    ends = _ends(study, trials, prune)
    history = study.history
    scores = rescore(trials.records, study.spec.objective, history.locations)
    numbers = [record.trial.id for record in trials.records]
    kept = [i for i, number in enumerate(numbers) if number not in ends]
    if not kept:
        raise UserError(
            f"{study.directory}: --prune: rule {prune.rule!r} would have ended all trials"
        )
    first = min(range(len(scores)), key=scores.__getitem__)
    left = min(kept, key=scores.__getitem__)
    best = scores[first]
    whole = [history.charge(record) for record in trials.records]
    saved = sum(_saved(study, record, ends) for record in trials.records)
    return Pruned(
        rule=prune.rule,
        after=prune.after,
        options=prune.options,
        trials=len(numbers),
        pruned=ends,
        charged=plain(sum(whole) - saved),
        whole=plain(sum(whole)),
        best=best,
        left=scores[left],
        lost=(scores[left] - best) / abs(best) if best else None,
        choice=trials.named("best score left", left),
        best_choice=trials.named("best score", first),
    )


def _ends(study: Folder, trials: Trials, prune: Prune) -> dict[int, int]:
    """By trial, the step that the rule ends it after; the first trial always finishes."""
    from hpogen.searchers.pruners import Pruner  # and with it Optuna

    pruner = Pruner(prune.rule, prune.after, prune.options)
    there = {record.trial.id: record for record in trials.records}
    ends: dict[int, int] = {}
    for number in study.order:
        if (record := there.get(number)) is None:
            continue
        values, last = _values(study, record)
        for step, value in values.items():
            if pruner.report(number, {step: value}) and step < last:
                ends[number] = step
                break
        pruner.end(number, None if number in ends else record.score)
    return ends


def _values(study: Folder, record: Record) -> tuple[dict[int, float], int]:
    """What the rule sees, by step, in order; and the last step, after which nothing is saved."""
    spec, history = study.spec, study.history
    if record.trainings.number > 1:
        found = values_of_trainings(spec.objective, record, history)
        return {part: found[part] for part in sorted(found)}, record.trainings.number - 1
    rows = study.curve(record.trial.id)
    return running(spec.objective, rows, record.trial, history), record.trial.budget


def _saved(study: Folder, record: Record, ends: Mapping[int, int]) -> Any:
    """The epochs that a trial is not charged by its end."""
    trial, history = record.trial, study.history
    if trial.id not in ends:
        return 0
    step = ends[trial.id]
    if record.trainings.number == 1:
        return history.charge(record) - history.epochs(trial.rung._replace(epochs=step))
    after = (outcome for part, outcome in record.parts.items() if part > step)
    return sum(trial.budget - outcome.spared for outcome in after)
