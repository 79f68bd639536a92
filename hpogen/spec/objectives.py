"""Whether what a study minimises, and is constrained by, fits its task, searcher and budgets.

Each function checks one key of the YAML, adds what is wrong to the mistakes, and gives the value
that the study uses. `loading.py` calls them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hpogen.objective import PART, Objective, Term, label, named, preset, score_name
from hpogen.spec.checks import metric
from hpogen.spec.choice import ObjectiveForm, ScoreForm
from hpogen.spec.form import StudyForm
from hpogen.spec.mistakes import Mistakes, shown
from hpogen.spec.parts import SearcherSpec
from hpogen.spec.positions import KeyPath
from hpogen.spec.steering import LEARNED, learned_of, terms_of
from hpogen.tasks.base import Task

SEVERAL = "optuna (TPESampler, NSGAIISampler, NSGAIIISampler, GPSampler), random or grid"


def objective(
    form: ObjectiveForm,
    task: Task,
    searcher: SearcherSpec,
    budgets: Sequence[int],
    mistakes: Mistakes,
) -> Objective | None:
    """The objective, with the task's sums; None when something is wrong with it."""
    learned = learned_of(form, task, mistakes)
    if learned is not None:
        terms = terms_of(learned, task)
        found: Found | None = LEARNED, terms, [("objective",)] * len(terms)
    elif form.pareto is not None:
        found = _pareto(form.pareto, mistakes)
    else:
        found = _preset(form, budgets, mistakes) if form.terms is None else _terms(form, mistakes)
    _only(form, mistakes)
    if found is None:
        return None
    text, terms, paths = found
    own = "preset" if form.terms is None and form.pareto is None else "metric"
    for term, path in zip(terms, paths, strict=True):
        at_scale = (*path, "scale")
        metric(term.metric, task, (*path, "model" if learned else own), mistakes)
        if term.scale == "log" and term.metric.startswith("gap_"):
            mistakes.add(at_scale, f"'log' is refused for {term.metric!r}, which may be negative")
        if term.scale == "rank" and not searcher.declares("ranks_only"):
            mistakes.add(at_scale, "'rank' needs a searcher that uses ranks only, such as cmaes")
        if term.scale == "rank" and searcher.options.get("asynchronous"):
            mistakes.add(at_scale, "'rank' waits for a whole generation: not with asynchronous")
    with mistakes.under("objective"):
        task.check(frozenset(term.metric for term in terms))
    swept, part = form.alpha == "swept", _part(form)
    made = Objective(terms, text, task.sums(), form.standard_after, part=part, swept=swept)
    return replace(made, learned=learned, pareto=form.pareto is not None)


Found = tuple[str, tuple[Term, ...], list[KeyPath]]


def _preset(form: ObjectiveForm, budgets: Sequence[int], mistakes: Mistakes) -> Found | None:
    path: KeyPath = ("objective",)
    if form.preset is None:
        mistakes.add(path, "needs preset or terms")
        return None
    if form.preset == LEARNED:
        return None  # it has been said why
    if form.preset in ("val", "train"):
        for key in ("alpha", "scale", "part"):
            if getattr(form, key) is not None:
                text = f"preset {form.preset!r} has no AGN term that {key} could apply to"
                mistakes.add((*path, key), text)
        return form.preset, preset(form.preset), [path]
    if form.alpha is None:
        such = f"{{preset: {form.preset}, alpha: 0.1, scale: log}}"
        mistakes.add((*path, "alpha"), f"is required by preset {form.preset!r}, as in {such}")
        return None
    if form.scale is None and len(budgets) > 1:
        text = "must be named where there are several budgets: log is recommended"
        mistakes.add((*path, "scale"), text)
    scale = form.scale or "raw"
    _found_alpha(form, mistakes)
    terms = preset(form.preset, form.alpha, scale)
    return label(form.preset, form.alpha, scale, _part(form)), terms, [path, path]


def _part(form: ObjectiveForm) -> float | None:
    """The part of the loss's spread, where α is found by it."""
    return (PART if form.part is None else form.part) if form.alpha == "auto" else None


def _found_alpha(form: ObjectiveForm, mistakes: Mistakes) -> None:
    """What goes together with an α that is found from the trials, and what does not."""
    path: KeyPath = ("objective",)
    if form.alpha != "auto" and form.part is not None:
        mistakes.add((*path, "part"), f"is for alpha: auto, got alpha: {shown(form.alpha)}")
    if not isinstance(form.alpha, str):
        return
    if form.scale in ("standard", "rank"):
        text = f"{form.scale!r} does not go together with alpha: {form.alpha}, which measures AGN"
        mistakes.add((*path, "scale"), f"{text} by its spread: use raw, per_epoch or log")
    if form.alpha == "swept" and form.preset == "agn+train":
        text = "'swept' chooses by validation losses, which 'agn+train' has none of: use agn+val"
        mistakes.add((*path, "alpha"), text)


def _only(form: ObjectiveForm, mistakes: Mistakes) -> None:
    """Terms and scores are all that the objective says."""
    name = "pareto" if form.pareto is not None else "terms"
    others = ("preset", "alpha", "scale", "part", *(("terms",) if name == "pareto" else ()))
    for key in others if getattr(form, name) is not None else ():
        if getattr(form, key) is not None:
            mistakes.add(("objective", key), f"does not go together with {name}")


def _pareto(scores: Sequence[ScoreForm], mistakes: Mistakes) -> Found:
    path: KeyPath = ("objective", "pareto")
    names = [score.metric for score in scores]
    for i, name in enumerate(names):
        if name in names[:i]:
            mistakes.add((*path, i), f"{name!r} is a score twice")
    terms = tuple(Term(s.metric, -1.0 if s.maximize else 1.0, s.scale) for s in scores)
    listed = ", ".join(map(score_name, terms))
    return f"pareto of {listed}", terms, [(*path, i) for i in range(len(terms))]


def _terms(form: ObjectiveForm, mistakes: Mistakes) -> Found | None:
    terms = tuple(Term(t.metric, t.weight, t.scale) for t in form.terms or [])
    text = " + ".join(named(term) for term in terms)
    return text, terms, [("objective", "terms", i) for i in range(len(terms))]


def constraints(given: Mapping[str, str] | None, task: Task, mistakes: Mistakes) -> None:
    """The task gives the metrics that the answer is constrained by."""
    for name in given or {}:
        metric(name, task, ("constraints", name), mistakes, "constraint")
    with mistakes.under("constraints"):
        task.check(frozenset(given or {}))


def heard(form: StudyForm, searcher: SearcherSpec, mistakes: Mistakes) -> None:
    """Not every searcher learns from several scores."""
    if form.objective.pareto is not None and not searcher.hears_scores:
        count = len(form.objective.pareto)
        text = f"searcher {searcher.name!r} learns from one score, and pareto has {count}"
        mistakes.add(("objective", "pareto"), f"{text}: use {SEVERAL}, or add them up as terms")


def answers(form: StudyForm, task: Task, mistakes: Mistakes) -> None:
    """The knee is that of a front, and an α that is swept chooses with `score`."""
    objective = form.objective
    if form.selection == "knee" and objective.pareto is None:
        text = "'knee' is of a Pareto front: it needs an objective of several scores, such as"
        mistakes.add(("selection",), f"{text} {{pareto: [val_loss, agn]}}")
    if objective.alpha != "swept":
        return
    if not task.keeps_losses and objective.preset == "agn+val":
        text = f"'swept' reads the loss of each validation sample, which task {task.name!r} does"
        mistakes.add(("objective", "alpha"), f"{text} not keep; expected a number, or auto")
    if form.selection != "score":
        text = f"{form.selection!r} leaves alpha aside, and objective.alpha is swept to choose by"
        mistakes.add(("selection",), f"{text}: leave selection out")
