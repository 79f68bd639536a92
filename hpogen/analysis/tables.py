"""A task's table: a row for each arm, what stands beside them, and which rule picks what is good.

`comparison.py` makes one for each task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpogen.analysis.answers import Answer, Siblings, answer
from hpogen.analysis.arms import Arm
from hpogen.analysis.fronts import Volumes, compared
from hpogen.analysis.statistics import Average, Summary, average, summary
from hpogen.analysis.trajectory import (
    Curve,
    Overtuning,
    Trajectory,
    curve,
    overtuning,
    trajectory,
)
from hpogen.analysis.validity import (
    RuleValidity,
    Transfer,
    Validity,
    averaged,
    of_study,
    transfer,
)
from hpogen.analysis.yardsticks import Answered, Yardstick, yardsticks
from hpogen.tasks.errors import Error


@dataclass(frozen=True)
class Row:
    """An arm on a task: the averages over its search seeds, and the answers by seed.

    `truth` is the error on the audit; `test` that of retrained nets, averaged over the retrainings
    of a study first. Epochs `charged` and `trained`, and `seconds`, are of a whole search;
    `measures_share` is the measures' part of the seconds. The last four judge the searches: see
    `trajectory.Overtuning`.
    """

    arm: str
    answers: tuple[Answer, ...]
    truth: Summary | None
    test: Summary | None
    val_loss: Summary | None
    charged: Summary | None
    trained: Summary | None
    seconds: Summary | None
    measures_share: float | None
    curves: tuple[Curve, ...]  # against epochs, against seconds
    overtuning: Average | None
    relative_overtuning: Average | None
    meta_overfitting: Average | None
    regret: Average | None


@dataclass(frozen=True)
class TaskTable:
    """A task: its arms, the yardsticks, and every rule's validity over all of its studies.

    `validity_by_arm` is the same on the trials of each arm's studies alone. `transfer` is the order
    on the subset against that of retrained nets.
    """

    task: str
    rows: tuple[Row, ...]
    yardsticks: tuple[Yardstick, ...]
    validity: tuple[RuleValidity, ...]
    validity_by_arm: Mapping[str, tuple[RuleValidity, ...]]
    transfer: Transfer | None
    volumes: tuple[Volumes, ...]  # of Pareto fronts

    @property
    def answers(self) -> list[Answer]:
        return [given for row in self.rows for given in row.answers]


def task_table(
    task: str, arms: Sequence[Arm], truth: Error | None, siblings: Siblings
) -> TaskTable:
    """Of the studies of one task that have an answer."""
    found: dict[str, Answered] = {}
    for arm in arms:
        studies = arm.studies.get(task, {}).values()
        pairs = [(study, answer(study, truth, siblings)) for study in studies]
        if answered := [(study, given) for study, given in pairs if given is not None]:
            found[arm.label] = answered
    valid = _validities(found, truth) if truth else {}
    return TaskTable(
        task=task,
        rows=tuple(_row(arm, answered, truth, siblings) for arm, answered in found.items()),
        yardsticks=tuple(yardsticks(found, truth)) if truth and found else (),
        validity=_over_seeds(found, valid, list(found)),
        validity_by_arm={arm: _over_seeds(found, valid, [arm]) for arm in found},
        transfer=transfer([study for pairs in found.values() for study, _ in pairs], truth),
        volumes=compared({arm: [study for study, _ in pairs] for arm, pairs in found.items()}),
    )


def _row(arm: str, answered: Answered, truth: Error | None, siblings: Siblings) -> Row:
    answers = [given for _, given in answered]
    walks = [trajectory(study, truth, siblings) for study, _ in answered]
    judged = [*filter(None, map(_judged, walks, answers))]
    seconds = math.fsum(given.seconds for given in answers)
    measures = math.fsum(given.measures for given in answers)
    curves = (curve(walks, "epochs"), curve(walks, "seconds") if seconds else None)
    return Row(
        arm=arm,
        answers=tuple(answers),
        truth=summary(given.truth for given in answers),
        test=summary(given.test_error for given in answers),
        val_loss=summary(given.val_loss for given in answers),
        charged=summary(given.charged for given in answers),
        trained=summary(given.trained for given in answers),
        seconds=summary(given.seconds for given in answers) if seconds else None,
        measures_share=measures / seconds if seconds else None,
        curves=tuple(c for c in curves if c is not None),
        overtuning=average(j.absolute for j in judged),
        relative_overtuning=average(j.relative for j in judged),
        meta_overfitting=average(j.meta_overfitting for j in judged),
        regret=average(j.regret for j in judged),
    )


def _judged(walk: Trajectory, given: Answer) -> Overtuning | None:
    if given.oracle is None:
        return None
    return overtuning(walk.truth, given.oracle, given.validation)


Validities = Mapping[tuple[str, int], Mapping[str, Validity]]  # by arm and seed; by rule


def _validities(arms: Mapping[str, Answered], truth: Error) -> Validities:
    """Every arm's objective, and every metric, on the trials of every study."""
    objectives = {
        study.spec.objective.label: study.spec.objective
        for answered in arms.values()
        for study, _ in answered
    }
    return {
        (arm, study.seed): of_study(study, [*objectives.values()], truth)
        for arm, answered in arms.items()
        for study, _ in answered
    }


def _over_seeds(
    arms: Mapping[str, Answered], found: Validities, chosen: Sequence[str]
) -> tuple[RuleValidity, ...]:
    """The rules on the studies of the chosen arms: objectives, their metrics, then by name."""
    objectives = {study.spec.objective for pairs in arms.values() for study, _ in pairs}
    labels = {objective.label for objective in objectives}
    first = {name for objective in objectives for name in objective.shown_first}
    results: dict[str, dict[int, list[Validity]]] = {}
    for (arm, seed), rules in found.items():
        for rule, result in rules.items() if arm in chosen else ():
            results.setdefault(rule, {}).setdefault(seed, []).append(result)

    def rank(rule: str) -> tuple[bool, bool, bool, str]:
        return rule not in labels, rule != "val_loss", rule not in first, rule

    ordered = sorted(results, key=rank)
    return tuple(averaged(rule, rule in labels, results[rule]) for rule in ordered)
