"""What another objective, alpha or selection would have chosen of a study's finished trials.

Reads the folder alone. Choices are made from metrics and validation losses, then judged by the
audit, which takes no part in them. `report/rescore.py` shows what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpogen.analysis.choices import Choice, Rule, Trials
from hpogen.analysis.fewer_labels import AtLabels, over_labels, require_losses
from hpogen.analysis.learned_rule import is_learned, learned_rule
from hpogen.analysis.pruning import Pruned, would_prune
from hpogen.analysis.trials import NOT_ADAPTIVE
from hpogen.errors import UserError
from hpogen.objective import Objective, Term
from hpogen.spec import StudySpec
from hpogen.study.read import Folder
from hpogen.study.restate import Form, alpha_of, objective_form, pruning, restated, weighed
from hpogen.study.standing import VALIDATION, chooses_by_validation, chosen
from hpogen.tasks.errors import audit_key

ALPHAS: tuple[float, ...] = tuple(float(x) for x in np.logspace(-4, 2, 25))
SUBSAMPLES = 200
LOSSES = frozenset({"val_loss", "train_loss"})  # the terms that alpha does not weigh

ALONE = Rule("validation loss alone", VALIDATION, "val_loss")


@dataclass(frozen=True)
class AtAlpha:
    """What is chosen when the objective's measures weigh alpha; 0: they are left aside."""

    alpha: float
    choice: Choice


@dataclass(frozen=True)
class Rescoring:
    """`validation` (alone) and `asked` are None where there is no such rule.

    `adaptive`: a searcher that learns proposed the trials for the study's own objective, so that
    another one would have seen others: only the selection is compared. `validation_images` are
    those whose losses are kept, None where they are not. `oracle` is the trial with the smallest
    audit figure, which nobody could have chosen so. `labels` leave out a rule of the study's own
    that losses of fewer images do not tell (`noise_cut`).
    """

    study: str
    searcher: str
    budget: int  # epochs
    data: float | None  # the fraction of the training set; None: the study's subset
    trials: int
    adaptive: bool
    judged_by: str  # "audit error", "audit RMSE", …, or empty: no audit
    audit_key: str  # what gives the trials of such a task audit figures
    validation_images: int | None
    own: Choice
    validation: Choice | None
    asked: Choice | None
    oracle: Choice | None
    weighed: str  # the objective whose alpha varies; empty: it has no measure
    alphas: tuple[AtAlpha, ...]
    labels: tuple[AtLabels, ...]
    pruning: Pruned | None = None
    caution: str = ""  # what a reader must know of a learned objective


def rescore(
    study: Folder,
    objective: str | None = None,
    selection: str | None = None,
    *,
    alpha: float | str | None = None,
    scale: str | None = None,
    alphas: Sequence[float] | None = None,
    validation: Sequence[int] = (),
    subsamples: int = SUBSAMPLES,
    seed: int = 0,
    prune: str | None = None,
) -> Rescoring:
    """Choose anew among the finished trials of the largest budget.

    `objective` is a preset or YAML terms, see `restate.objective_form`, or a learned one; with it
    the score selects, unless a `selection` is named. `alphas` (default: `ALPHAS`, and 0) weigh the
    objective's measures. `validation` are numbers of validation images. `prune`: a rule, or YAML.
    Raises UserError for what cannot be asked, and where trials, metrics or losses are missing.
    """
    spec, trials = study.spec, Trials(study)
    form = _form(study, objective, {"alpha": alpha, "scale": scale})
    asked, rules, caution = _compared(trials, form, selection)
    weighed = asked.objective if _measures(asked.objective) else None
    return Rescoring(
        study=spec.name,
        searcher=spec.searcher.name,
        budget=trials.rung.epochs,
        data=trials.rung.data,
        trials=len(trials.records),
        adaptive=spec.searcher.name not in NOT_ADAPTIVE,
        judged_by=trials.truth.on("audit") if trials.truth else "",
        audit_key=audit_key(spec.task.name),
        validation_images=trials.validation_images(),
        own=_own(study, trials, rules["own"]),
        validation=_choice(trials, rules.get("validation")),
        asked=_choice(trials, rules.get("asked")),
        oracle=trials.oracle(),
        weighed=weighed.label if weighed else "",
        alphas=_over_alphas(trials, weighed, ALPHAS if alphas is None else alphas),
        labels=_over_labels(trials, rules, validation, subsamples, seed),
        pruning=would_prune(study, trials, pruning(study, prune)) if prune else None,
        caution=caution,
    )


def _own(study: Folder, trials: Trials, rule: Rule) -> Choice:
    """What the study's own rule chooses: of one with finalists, who leads their race or won it."""
    if study.spec.finalists is None:
        return trials.choice(rule)
    numbers = [record.trial.id for record in trials.records]
    answer = chosen(study)
    label = f"race of {study.spec.finalists.count} finalists"
    return trials.named(label, None if answer is None else numbers.index(answer.trial.id))


def _choice(trials: Trials, rule: Rule | None) -> Choice | None:
    return None if rule is None else trials.choice(rule)


def _over_labels(
    trials: Trials, rules: Mapping[str, Rule], sizes: Sequence[int], subsamples: int, seed: int
) -> tuple[AtLabels, ...]:
    """A rule that was asked for is not left out in silence."""
    if sizes and "asked" in rules:
        require_losses(rules["asked"], trials.study.directory)
    return over_labels(trials, [*rules.values()], sizes, subsamples, seed)


def _form(study: Folder, objective: str | None, weighing: Mapping[str, Any]) -> Form | None:
    """The objective that is asked for, `alpha` and `scale` as far as they are given."""
    own = study.spec.record()["objective"]
    given = {key: value for key, value in weighing.items() if value is not None}
    if "alpha" in given:
        given["alpha"] = alpha_of(given["alpha"])
    if objective is not None:
        return objective_form(objective, **given, own=own)
    if given and is_learned(own):
        raise UserError(
            f"--{next(iter(given))}: the study's objective is learned and has none: name another "
            "with --objective"
        )
    if "alpha" in given:
        own = weighed(own, given["alpha"])
    return {**own, **given} if given else None


def _asked(study: Folder, form: Form | None, selection: str | None) -> StudySpec:
    """The study's spec with what is asked for; its own where that is a learned objective."""
    if not is_learned(form):
        score = "knee" if form is not None and form.get("pareto") else "score"
        return restated(study, form, selection or (None if form is None else score))
    if selection is not None:
        raise UserError(
            f"--selection: got {selection}, but of a learned objective the score selects"
        )
    return study.spec


def _compared(
    trials: Trials, form: Form | None, selection: str | None
) -> tuple[StudySpec, dict[str, Rule], str]:
    """The spec that is asked for, the rules, and what must be known of a learned objective."""
    asked = _asked(trials.study, form, selection)
    rules, caution = _rules(trials.study.spec, asked, trials), ""
    if form is not None and is_learned(form):
        rules["asked"], caution = learned_rule(form, trials)
    return asked, rules, caution


def _require_alphas(alphas: Sequence[float]) -> None:
    for alpha in alphas:
        if not 0 <= alpha < math.inf:
            raise UserError(f"--alphas: got {alpha}, expected a finite number of at least 0")


def _rules(spec: StudySpec, asked: StudySpec, trials: Trials) -> dict[str, Rule]:
    """The rules to be compared: the study's own, validation loss alone, the one asked for."""
    rules = {"own": _rule(spec)}
    if all("val_loss" in metrics for metrics in trials.evidence.metrics):
        rules["validation"] = ALONE
    if _rule(asked) != rules["own"]:
        rules["asked"] = _rule(asked)
    return rules


def _rule(spec: StudySpec) -> Rule:
    if chooses_by_validation(spec):
        return ALONE
    label = spec.objective.label if spec.selection == "score" else f"selection {spec.selection}"
    if spec.objective.pareto:
        label = f"{spec.objective.label}, {spec.selection}"
    return Rule(label, spec.objective, spec.selection)


def _measures(objective: Objective) -> list[Term]:
    """The terms that alpha weighs."""
    if objective.learned is not None or objective.pareto:
        return []
    return [term for term in objective.terms if term.metric not in LOSSES and term.weight]


def at_alpha(objective: Objective, alpha: float) -> Objective:
    """The objective with its first measure weighing ±alpha, further ones in proportion.

    Signs stay; the losses keep their weights. Terms that weigh nothing are left out.
    """
    unit = abs(_measures(objective)[0].weight)
    terms = [
        term if term.metric in LOSSES else replace(term, weight=alpha * term.weight / unit)
        for term in objective.terms
    ]
    kept = tuple(term for term in terms if term.weight)
    return replace(objective, terms=kept, part=None, swept=False)


def _over_alphas(
    trials: Trials, objective: Objective | None, alphas: Sequence[float]
) -> tuple[AtAlpha, ...]:
    _require_alphas(alphas)
    if objective is None:
        return ()
    found = []
    for alpha in sorted({0.0, *alphas}):
        weighed = at_alpha(objective, alpha)
        if weighed.terms:  # without a loss, alpha 0 leaves nothing
            rule = Rule(f"α {alpha:g}", weighed, "score")
            found.append(AtAlpha(alpha, trials.choice(rule)))
    return tuple(found)
