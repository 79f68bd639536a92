"""How a study stands: its answer so far, what validation loss alone would choose, what failed.

Computed from a spec and a history; the live table, the verdict and `status` are drawn from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hpogen.constraint import violation
from hpogen.errors import shortened
from hpogen.objective import Objective, Term, score_name
from hpogen.record.history import History, Record
from hpogen.selection import SELECTIONS, alone, candidates, choose, front, gather, settled, vectors
from hpogen.selection.choosing import LOSS, SelectionName
from hpogen.spec import StudySpec
from hpogen.study.finalists import Final, begun, final
from hpogen.study.read import AnyStudy
from hpogen.study.repeats import is_over
from hpogen.trial import Rung, canonical

ANSWER, BY_LOSS, BASELINES = "answer", "val_loss", "baselines"  # rules: `History.contenders`
VALIDATION = Objective((Term("val_loss", 1.0),), "val")


@dataclass(frozen=True)
class Standing:
    """`by_validation` is None where that question is not asked: no val_loss, or it is the choice.

    `baselines` are the finished trials whose configuration is a baseline's, by its name.
    """

    best: Record | None
    by_validation: Record | None
    baselines: Mapping[str, Record]
    told: int
    held: int  # trained, waiting for their scale
    failures: Mapping[str, int]  # by kind
    pruned: int
    duplicates: int
    infeasible: int  # finished at the largest budget, but without satisfying the constraints
    alpha: float | None  # that was found from the trials; None where it was given, or is none yet
    front: int | None = None  # how many trials are on the Pareto front, where that is searched
    race: Final | None = None  # of the finalists, once the search has ended


def standing(study: AnyStudy) -> Standing:
    """O(trials); some selections read files of the folder."""
    spec, history = study.spec, study.history
    race = begun(study)
    return Standing(
        best=_answer(study, spec, race),
        by_validation=None
        if chooses_by_validation(spec)
        else _chosen(study, VALIDATION, "val_loss", BY_LOSS),
        baselines=_baselines(spec, history),
        told=len(history.order),
        held=len(history.held),
        failures=_kinds(history),
        pruned=history.pruned,
        duplicates=history.duplicates,
        infeasible=history.infeasible[spec.ladder[-1]],
        alpha=alpha(study),
        front=len(front_of(study)) if spec.objective.pareto else None,
        race=race,
    )


@dataclass(frozen=True)
class Reason:
    """The commonest failure: its latest trial, how many failed so, and how many in all."""

    trial: int
    text: str  # `error: ValueError: why`
    alike: int
    failed: int
    every: bool  # whether no trial that has finished succeeded

    def __str__(self) -> str:
        return f"{self.alike} of {self.failed} failures: {self.text} (trial {self.trial})"


def commonest(history: History) -> Reason | None:
    """What most of the failed trials failed of, numbers aside; None while none has failed."""
    if not history.failures:
        return None
    most = max(history.failures.values(), key=lambda alike: (alike.count, alike.latest))
    failed = sum(alike.count for alike in history.failures.values())
    every = failed == len(history.order) - history.pruned
    return Reason(most.latest, shortened(most.text), most.count, failed, every)


def _kinds(history: History) -> Counter[str]:
    """How many trials failed so, by the kind of failure, the one that came first first."""
    found = Counter[str]()
    for alike in sorted(history.failures.values(), key=lambda alike: alike.first):
        found[alike.text.partition(":")[0]] += alike.count
    return found


def infeasible(history: History, rung: Rung) -> list[Record]:
    """The finished trials of that rung that do not satisfy the constraints, the nearest first."""
    found = [r for r in history.records if not r.feasible and r.trial.rung == rung and not r.repeat]
    return sorted(found, key=lambda record: violation(record.excess))


def unsatisfied(history: History, record: Record) -> str:
    """`gap_loss 0.31, expected <= 0.2`: of each constraint that the trial does not satisfy."""
    metrics = record.outcome.metrics if record.outcome else {}
    return "; ".join(
        f"{c.metric} {metrics.get(c.metric, math.nan):.6g}, expected {c.sign} {c.bound:g}"
        for c in history.constraints
        if record.excess[c.metric] > 0
    )


def nearest(history: History, rung: Rung) -> str:
    """How far the nearest trial is, where none of those that finished satisfies the constraints."""
    found = infeasible(history, rung)
    if not found or candidates(history, rung):
        return ""
    first = found[0]
    return (
        f"none of {len(found)} finished trials satisfies the constraints; the nearest is trial "
        f"{first.trial.id}: {unsatisfied(history, first)}"
    )


def alpha(study: AnyStudy, spec: StudySpec | None = None) -> float | None:
    """The α of an objective that finds it from the trials; None for others, and as yet."""
    objective, rung = (spec or study.spec).objective, study.spec.ladder[-1]
    records = candidates(study.history, rung) if objective.finds_alpha else []
    if not records:
        return None
    found = settled(gather(study.history, records, rung, study.directory), objective)
    return None if found.finds_alpha else found.terms[0].weight


def front_of(study: AnyStudy, spec: StudySpec | None = None) -> list[Record]:
    """The trials on the Pareto front, of a study or `spec` whose objective has several scores."""
    objective, rung = (spec or study.spec).objective, study.spec.ladder[-1]
    records = candidates(study.history, rung)
    evidence = gather(study.history, records, rung, study.directory)
    return [records[i] for i in front(vectors(evidence, objective))]


def front_scores(study: AnyStudy, spec: StudySpec | None = None) -> dict[int, dict[str, float]]:
    """The scores of the trials on the Pareto front, by trial; each is small where it is good."""
    objective, rung = (spec or study.spec).objective, study.spec.ladder[-1]
    names = [score_name(term) for term in objective.terms]
    return {
        record.trial.id: dict(
            zip(names, objective.scores(record.outcome.metrics, *rung), strict=True)
        )
        for record in front_of(study, spec)
        if record.outcome
    }


def chosen(study: AnyStudy, spec: StudySpec | None = None) -> Record | None:
    """The answer so far, by the study's own objective and selection, or those of `spec`.

    With finalists that is the search's trial of the one that leads, or has won.
    """
    spec = spec or study.spec
    return _answer(study, spec, final(study) if spec.finalists else None)


def _answer(study: AnyStudy, spec: StudySpec, race: Final | None) -> Record | None:
    if race is not None and race.standing is not None:
        return race.leader.record if race.leader else None
    own = (spec.objective, spec.selection) == (study.spec.objective, study.spec.selection)
    return _chosen(study, spec.objective, spec.selection, ANSWER if own else "")


def _chosen(
    study: AnyStudy, objective: Objective, selection: SelectionName, rule: str
) -> Record | None:
    """By a rule that has that name where an index may know who leads by it."""
    history = study.history
    among = history.contenders(rule) if alone(selection, objective) else None
    return choose(history, objective, selection, study.spec.ladder[-1], study.directory, among)


def leaders(study: AnyStudy) -> dict[str, list[int]]:
    """Of each rule the trials that lead by it, for `History.contenders`; not of all rules."""
    spec = study.spec
    rules: list[tuple[str, Objective, SelectionName]]
    rules = [(ANSWER, spec.objective, spec.selection), (BY_LOSS, VALIDATION, "val_loss")]
    found = {BASELINES: [*_baselines(spec, study.history).values()]}
    for rule, objective, selection in rules:
        if alone(selection, objective):
            found[rule] = [r for r in [_chosen(study, objective, selection, rule)] if r]
    return {rule: [record.trial.id for record in records] for rule, records in found.items()}


def wanted(spec: StudySpec) -> frozenset[str]:
    """The metrics that every outcome must have: those of objective, selection and constraints."""
    judged = LOSS if spec.finalists else frozenset[str]()
    constrained = frozenset(spec.constraints or {})
    return spec.objective.metrics | SELECTIONS[spec.selection].needs | judged | constrained


def rule(spec: StudySpec) -> str:
    """What chooses the answer, as people call it."""
    chosen = "" if spec.selection == "score" else f", selected by {spec.selection}"
    race = f", then a race of {spec.finalists.count} finalists" if spec.finalists else ""
    return f"{spec.objective.label}{chosen}{race}"


def fits(study: AnyStudy, rung: Rung) -> bool:
    """Whether `stop` has room for a trial of that rung after those that were asked."""
    spec, history = study.spec, study.history
    if history.ended:
        return False
    trials, epochs = spec.reserve.room(history.stop)
    return len(history.records) < trials and history.spent + history.cost(rung) <= epochs


def is_complete(study: AnyStudy) -> bool:
    """Whether nothing more will be asked, as far as `stop` tells: a grid may end before."""
    spec, history = study.spec, study.history
    if len(history.order) < len(history.records):
        return False
    return not fits(study, spec.ladder[0]) and is_over(study)


def chooses_by_validation(spec: StudySpec) -> bool:
    """Whether validation loss on the study's subset, alone, chooses the answer."""
    if spec.finalists is not None:
        return False
    return spec.selection == "val_loss" or (
        spec.selection == "score" and spec.objective.is_validation
    )


def _baselines(spec: StudySpec, history: History) -> dict[str, Record]:
    names = {canonical(config): name for name, config in spec.baselines.items()}
    found: dict[str, Record] = {}
    among = history.contenders(BASELINES)
    for record in candidates(history, spec.ladder[-1], among) if names else ():
        if (name := names.get(canonical(record.trial.config))) is not None:
            found.setdefault(name, record)
    return found
