"""Whether the budgets of a study fit its searcher, its task and its `stop`.

As in `checks.py`, each function adds what is wrong to the mistakes. `loading.py` calls them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from hpogen.errors import UserError
from hpogen.objective import Objective
from hpogen.space import Space
from hpogen.spec.checks import extremes
from hpogen.spec.form import BudgetsForm, StudyForm
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.parts import SearcherSpec
from hpogen.spec.positions import KeyPath
from hpogen.spec.pruning import OF_TRAININGS, Prune
from hpogen.spec.reserve import Reserve, reserve
from hpogen.tasks.base import Task
from hpogen.trial import Rung, exact, plain


def budgets(
    form: BudgetsForm | None, task: Task, searcher: SearcherSpec, mistakes: Mistakes
) -> tuple[int, ...]:
    """The budgets as the searcher is told them, ascending; of epochs the last is the task's."""
    if not searcher.declares("multi_fidelity"):
        if form is not None and form.on_data and form.min == form.max:
            return form.rungs()
        if form is not None:
            mistakes.add(("budgets",), f"searcher {searcher.name!r} has one budget: task.epochs")
        return (task.epochs,)
    if form is None:
        mistakes.add(("budgets",), f"is required by searcher {searcher.name!r}: {{min, max, eta}}")
        return (task.epochs,)
    if not form.on_data and form.max != task.epochs:
        mistakes.add(("budgets", "max"), f"got {form.max}, expected task.epochs = {task.epochs}")
    return form.rungs()


def data(
    form: BudgetsForm,
    task: Task,
    space: Space | None,
    objective: Objective | None,
    mistakes: Mistakes,
) -> None:
    """Rungs on fractions of the training set: the task knows them, and has the samples."""
    if task.parts.number > 1:
        count, word = task.parts
        text = f"is refused with validation.{word}s: each of a trial's {count} trainings has splits"
        mistakes.add(("budgets", "over"), f"{text} of its own, made for the subset alone")
        return
    if task.subset is None:
        text = f"task {task.name!r} knows no fraction of its data: a command has the placeholder"
        mistakes.add(("budgets", "over"), f"{text} {{data}}, a @task declares data=True")
        return
    if space and "data" in space.names:
        text = "is searched, and rungs over data set it: give the hyper-parameter another name"
        mistakes.add(("search_space", "data"), text)
    with mistakes.under("budgets"):
        _ladder(form, task)
    for key in ("min", "max"):
        try:
            samples = task.check_data(float(getattr(form, key)))
            for name, parameter in space.parameters.items() if space else ():
                task.check_range(name, extremes(parameter), samples)
        except ValueError as error:
            mistakes.add(("budgets", key), str(error))
            break
    for i, term in enumerate(objective.terms if objective else ()):
        if term.metric in task.by_samples() and term.scale not in ("standard", "rank"):
            text = f"{term.metric!r} depends on the number of samples, which rungs over data change"
            debiased = f"{term.metric.removesuffix('_median').removesuffix('_ratio')}_debiased"
            other = f", or take {debiased!r}" if debiased in task.metrics() else ""
            mistakes.add(("objective", "terms", i), f"{text}: give it scale: standard{other}")


def _ladder(form: BudgetsForm | None, task: Task) -> tuple[Rung, ...]:
    if form is None:
        return (Rung(task.epochs),)
    try:
        return form.ladder(task.epochs, task.subset)
    except ValueError as error:
        raise UserError(str(error)) from None


def stop(form: StudyForm, task: Task, objective: Objective | None, mistakes: Mistakes) -> None:
    """At least one trial fits, beside those that the study keeps for its end."""
    try:
        ladder = _ladder(form.budgets, task)
    except UserError:
        return  # it has been said
    each, subset = task.parts.number, task.subset or 1.0
    low, top = (each * exact(*rung, subset) for rung in (ladder[0], ladder[-1]))
    if form.finalists is not None:
        cost = each * exact(ladder[-1].epochs, form.finalists.data, subset)
        kept = reserve(form.selection, form.finalists, cost)
        _stop_of_finalists(form, kept, form.finalists.count, top, mistakes)
        return
    if form.stop.no_improvement is not None and objective is not None and objective.uses("rank"):
        text = "a score by rank is of its cohort alone, and none is better than an earlier one: use"
        mistakes.add(("stop", "no_improvement"), f"{text} another scale, or drop no_improvement")
    kept = reserve(form.selection, None, top)
    trials, epochs = kept.room(form.stop.model_dump())
    text = f", and selection {form.selection!r} keeps {kept.trials} for the end"
    text = text if kept.trials else ""
    if epochs < low:
        takes = f"{float(top if kept.trials else low):g}"
        one = f"got {form.stop.epochs}, but one trial takes {takes} epochs"
        mistakes.add(("stop", "epochs"), one + text)
    if trials < 1:
        least = f"got {form.stop.trials}, expected at least {kept.trials + 1}"
        mistakes.add(("stop", "trials"), least + text)


def _stop_of_finalists(
    form: StudyForm, kept: Reserve, count: int, top: int | Fraction, mistakes: Mistakes
) -> None:
    """The search can finish as many trials as there are to be finalists, beside these."""
    needed = {"trials": (kept.trials, count), "epochs": (kept.epochs, count * top)}
    for unit, (of_finalists, of_search) in needed.items():
        got = form.stop.model_dump()[unit]
        least = math.ceil(of_finalists + of_search)
        if got is not None and got < least:
            text = (
                f"got {got}, expected at least {least}: {plain(of_finalists):,} {unit} are kept "
                f"for finalists, and to have {count} the search needs {plain(of_search):,}"
            )
            mistakes.add(("stop", unit), text)


def prune(
    form: StudyForm,
    task: Task,
    searcher: SearcherSpec | None,
    objective: Objective | None,
    mistakes: Mistakes,
) -> None:
    """What is pruned has a running objective, and nothing else ends it early."""
    path: KeyPath = ("prune",)
    if form.prune is None:
        return
    if searcher is not None and searcher.declares("multi_fidelity"):
        text = f"searcher {searcher.name!r} ends trials early itself, at its rungs: drop prune,"
        mistakes.add(path, f"{text} or use a searcher of one budget")
    if objective is not None and objective.uses("rank"):
        text = "a term with scale: rank is known when its whole cohort has ended, and of a running"
        mistakes.add(path, f"{text} trial nothing is: use another scale, or drop prune")
    if objective is not None and objective.pareto:
        text = "compares trials by one score, and pareto has several: add them up as terms, or"
        mistakes.add(path, f"{text} drop prune")
    _pruned(form.prune, task, mistakes)


def _pruned(form: Prune, task: Task, mistakes: Mistakes) -> None:
    """Trials have what the rule compares: epochs, or several trainings."""
    path: KeyPath = ("prune",)
    count, word = task.parts
    several = count > 1
    if (mistaken := form.mistaken()) is not None:
        key, text = mistaken
        mistakes.add((*path, key), text)
    if several != (form.rule == OF_TRAININGS):
        one = f"compares epochs, and a trial is {count} {word}s: use rule: wilcoxon"
        two = (
            "compares trainings of a trial, and it has one: give task.dataset.validation folds or "
            "repeats, or use median, percentile or asha"
        )
        mistakes.add((*path, "rule"), f"{form.rule!r} {one if several else two}")
    elif not several and form.after >= task.epochs:
        text = f"got {form.after}, but trials have {task.epochs} epochs: none could end before"
        mistakes.add((*path, "after"), f"{text}; expected less")
    elif several and (form.n_startup_steps or 0) >= count:
        text = f"got {form.n_startup_steps}, but a trial has {count} {word}s: expected less"
        mistakes.add((*path, "n_startup_steps"), text)


def rungs(form: StudyForm, task: Task, mistakes: Mistakes) -> None:
    """`continue` needs a task that can, and a schedule that does not depend on the rung."""
    budgets = form.budgets
    if budgets is not None and budgets.warm:
        _warm(form, budgets, task, mistakes)
        return
    if form.rungs != "continue":
        return
    if budgets is not None and budgets.on_data:
        text = "'continue' is refused over data: what a rung has trained is not the beginning of a"
        text += " training on more of it; budgets.warm: true begins anew with its weights"
        mistakes.add(("rungs",), text)
        return
    if not task.resumable:
        mistakes.add(("rungs",), f"'continue' needs a resumable task, and {task.name!r} is not")
        return
    schedule = task.record().get("schedule")
    anchor = schedule.get("anchor", "full") if isinstance(schedule, Mapping) else "full"
    if anchor != "full":
        mistakes.add(("rungs",), f"'continue' needs schedule.anchor: full, got {anchor!r}")


def _warm(form: StudyForm, budgets: BudgetsForm, task: Task, mistakes: Mistakes) -> None:
    path: KeyPath = ("budgets", "warm")
    if not budgets.on_data:
        mistakes.add(path, "is for rungs over data; over epochs rungs: continue goes on")
    elif form.rungs != "continue":
        mistakes.add(path, f"needs rungs: continue, got {form.rungs!r}")
    elif reserve(form.selection, form.finalists, 1).trials:
        who = "a race of finalists" if form.finalists else f"selection {form.selection!r}"
        mistakes.add(path, f"{who} trains trials again from the start")
    elif not task.keeps_weights:
        mistakes.add(path, f"hpogen does not keep the weights of task {task.name!r}")
