"""Whether the parts of a study fit together: space and task, objective and metrics, budgets.

Each function checks one key of the YAML against the parts that are already known, adds what is
wrong to the mistakes, and gives the value that the study uses. `loading.py` calls them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, unknown
from hpogen.objective import PART, Objective, Scale, Term, label, preset
from hpogen.record.stores import is_url
from hpogen.selection import SELECTIONS, SelectionName
from hpogen.space import Space
from hpogen.space.parameters import Choice, Number, Parameter
from hpogen.spec.choice import ObjectiveForm
from hpogen.spec.form import AUDIT, Checkpoints, StudyForm, is_folder_name
from hpogen.spec.mistakes import Mistakes, shown
from hpogen.spec.parts import SearcherSpec
from hpogen.spec.positions import KeyPath
from hpogen.spec.steering import LEARNED, learned_of, terms_of
from hpogen.spec.tracking import Track
from hpogen.tasks.base import Task
from hpogen.trial import Config, Value


def finite(data: Any, mistakes: Mistakes, path: KeyPath = ()) -> None:
    """No NaN and no infinity anywhere: none has a meaning here, and neither goes through JSON."""
    if isinstance(data, float) and not math.isfinite(data):
        mistakes.add(path, f"got {shown(data)}, expected a finite number")
    if isinstance(data, dict):
        for key, value in data.items():
            finite(value, mistakes, (*path, key))
    if isinstance(data, list):
        for i, value in enumerate(data):
            finite(value, mistakes, (*path, i))


def parameters(space: Space, task: Task, mistakes: Mistakes) -> None:
    """Every hyper-parameter is used by the task, and the task has all that it needs."""
    used = task.parameters()
    for name in space.names:
        if used is not None and name not in used:
            text = unknown(f"task {task.name!r}: hyper-parameter", name, used)
            mistakes.add(("search_space", name), text)
        else:
            _values(name, space, task, mistakes)
    missing = sorted(task.required() - {*space.names})
    if missing:
        mistakes.add(("search_space",), f"task {task.name!r} needs {' and '.join(missing)}")


def _values(name: str, space: Space, task: Task, mistakes: Mistakes) -> None:
    """The task can train with the ends of a range, or with every choice; not every task knows."""
    values = extremes(space.parameters[name])
    try:
        for value in values:
            task.check_value(name, value)
        task.check_range(name, values)
    except ValueError as error:
        mistakes.add(("search_space", name), f"task {task.name!r}: {error}")


def extremes(parameter: Parameter) -> Sequence[Value]:
    """The ends of a range, or all choices."""
    if isinstance(parameter, Choice):
        return parameter.values
    if isinstance(parameter, Number):
        return parameter.check(parameter.low), parameter.check(parameter.high)
    return (parameter.default,)


def checkpoints(form: Checkpoints, task: Task, mistakes: Mistakes) -> None:
    """Only a task that is told where may keep its files elsewhere than in a folder.

    Of a trial that is several trainings no network is kept.
    """
    if task.parts.number > 1 and form.of_all:
        count, word = task.parts
        text = f"got {form.keep!r}, but of a trial of {count} {word}s no network is the trial's: "
        mistakes.add(("checkpoints", "keep"), f"{text}leave it out, and hpogen retrain the answer")
    if form.path is not None and is_url(form.path) and not task.keeps_at_urls:
        text = f"got {form.path!r}, but task {task.name!r} keeps its files in a folder"
        mistakes.add(("checkpoints", "path"), text)


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
    else:
        found = _preset(form, budgets, mistakes) if form.terms is None else _terms(form, mistakes)
    if found is None:
        return None
    text, terms, paths = found
    for term, path in zip(terms, paths, strict=True):
        at_scale = (*path, "scale")
        key = "model" if learned else "preset" if form.terms is None else "metric"
        _metric(term.metric, task, (*path, key), mistakes)
        if term.scale == "log" and term.metric.startswith("gap_"):
            mistakes.add(at_scale, f"'log' is refused for {term.metric!r}, which may be negative")
        if term.scale == "rank" and not searcher.declares("ranks_only"):
            mistakes.add(at_scale, "'rank' needs a searcher that uses ranks only, such as cmaes")
    with mistakes.under("objective"):
        task.check(frozenset(term.metric for term in terms))
    swept, part = form.alpha == "swept", _part(form)
    made = Objective(terms, text, task.sums(), form.standard_after, part=part, swept=swept)
    return replace(made, learned=learned)


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


def _terms(form: ObjectiveForm, mistakes: Mistakes) -> Found | None:
    for key in ("preset", "alpha", "scale", "part"):
        if getattr(form, key) is not None:
            mistakes.add(("objective", key), "does not go together with terms")
    terms = tuple(Term(t.metric, t.weight, t.scale) for t in form.terms or [])
    text = " + ".join(_term_label(term.metric, term.weight, term.scale) for term in terms)
    return text, terms, [("objective", "terms", i) for i in range(len(terms))]


def _term_label(metric: str, weight: float, scale: Scale) -> str:
    scaled = metric if scale == "raw" else f"{scale}({metric})"
    return scaled if weight == 1 else f"{weight:g}·{scaled}"


def _metric(
    name: str, task: Task, path: KeyPath, mistakes: Mistakes, who: str = "objective"
) -> None:
    if name.startswith("audit"):
        mistakes.add(path, f"{AUDIT}: no {who} can name {name!r}")
    elif name not in task.metrics():
        mistakes.add(path, unknown("metric", name, task.metrics()))


def constraints(given: Mapping[str, str] | None, task: Task, mistakes: Mistakes) -> None:
    """The task gives the metrics that the answer is constrained by."""
    for name in given or {}:
        _metric(name, task, ("constraints", name), mistakes, "constraint")
    with mistakes.under("constraints"):
        task.check(frozenset(given or {}))


def swept(form: StudyForm, task: Task, mistakes: Mistakes) -> None:
    """An α that is chosen afterwards has losses to choose it by, and then chooses the answer."""
    if form.objective.alpha != "swept":
        return
    if not task.keeps_losses and form.objective.preset == "agn+val":
        text = f"'swept' reads the loss of each validation sample, which task {task.name!r} does"
        mistakes.add(("objective", "alpha"), f"{text} not keep; expected a number, or auto")
    if form.selection != "score":
        text = f"{form.selection!r} leaves alpha aside, and objective.alpha is swept to choose by"
        mistakes.add(("selection",), f"{text}: leave selection out")


def selection(name: SelectionName, task: Task, mistakes: Mistakes) -> None:
    """The task gives what the selection looks at."""
    path: KeyPath = ("selection",)
    row = SELECTIONS[name]
    if row.per_sample and not task.keeps_losses:
        text = f"{name!r} reads the loss of each validation sample, which task {task.name!r} does"
        mistakes.add(path, f"{text} not keep; expected score, val_loss or noise_cut")
        return
    for metric in sorted(row.needs):
        if metric == name:
            _metric(metric, task, path, mistakes)
        elif metric not in task.metrics():
            without = task.keeps_losses and metric == "val_loss"
            how = ": it has no validation images" if without else ""
            text = f"{name!r} needs {metric}, which task {task.name!r} does not give{how}"
            mistakes.add(path, text)
    with mistakes.under(*path):
        task.check(row.needs)


def baselines(
    given: Mapping[str, Mapping[str, Any]] | None, space: Space, mistakes: Mistakes
) -> dict[str, Config]:
    """Each baseline as a complete configuration; omitted: the space's defaults."""
    if given is None:
        return {"default": space.default}
    found = {}
    for name, partial in given.items():
        if (config := _config(partial, space, ("baselines", name), mistakes)) is not None:
            found[name] = config
    return found


def enqueue(
    given: Sequence[str | Mapping[str, Any]] | None,
    space: Space,
    searcher: SearcherSpec,
    mistakes: Mistakes,
) -> tuple[Config, ...]:
    """The configurations to try first; omitted: the defaults, where the searcher takes any."""
    if given is None:
        return (space.default,) if searcher.declares("enqueues_default") else ()
    configs = []
    for i, entry in enumerate(given):
        partial = {} if isinstance(entry, str) else entry
        if (config := _config(partial, space, ("enqueue", i), mistakes)) is not None:
            configs.append(config)
    return tuple(configs)


def name(form: StudyForm, path: Path | None, mistakes: Mistakes) -> str:
    """The study's name, its file's where none is given: that of a folder."""
    found = form.name or ("study" if path is None else path.stem)
    if not is_folder_name(found):
        mistakes.add(("name",), f"is required: the file's name, {found!r}, cannot be a folder's")
    return found


def track(given: Track | None, path: Path | None, mistakes: Mistakes) -> None:
    """A study that is begun from a file, `path`, finds the packages of its trackers.

    One that goes on from its folder does without: nobody could take the key out of its ledger.
    """
    for package in given.packages if given and path else ():
        if importlib.util.find_spec(package) is None:
            mistakes.add(("track", package), f"needs a package: pip install 'hpogen[{package}]'")


def searcher(
    spec: SearcherSpec,
    space: Space,
    budgets: Sequence[int],
    seed: int,
    enqueue: Sequence[Config],
    mistakes: Mistakes,
) -> None:
    """The searcher can treat the space, and takes what is enqueued."""
    try:
        spec.make(space, budgets, seed, enqueue)
    except UserError as error:
        with mistakes.under("searcher"):
            spec.make(space, budgets, seed, ())
            mistakes.add(("enqueue",), str(error))


def _config(
    partial: Mapping[str, Any], space: Space, path: KeyPath, mistakes: Mistakes
) -> Config | None:
    """The complete configuration; one mistake per key that is wrong."""
    wrong = False
    for key, value in partial.items():
        try:
            space.complete({key: value})
        except UserError as error:
            mistakes.add((*path, key), str(error).removeprefix(f"{key}: "))
            wrong = True
    if wrong:
        return None
    config = space.complete(partial)
    if text := space.forbids(config):
        mistakes.add(
            path, f"got {shown(dict(partial))}, which search_space.forbid rules out: {text}"
        )
        return None
    return config
