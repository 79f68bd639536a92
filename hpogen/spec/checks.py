"""Whether the parts of a study fit together: space and task, objective and metrics, budgets.

Each function checks one key of the YAML against the parts that are already known, adds what is
wrong to the mistakes, and gives the value that the study uses. `loading.py` calls them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, unknown
from hpogen.record.stores import is_url
from hpogen.selection import SELECTIONS, SelectionName
from hpogen.space import Space
from hpogen.space.parameters import Choice, Number, Parameter
from hpogen.spec.form import AUDIT, Checkpoints, StudyForm, is_folder_name
from hpogen.spec.mistakes import Mistakes, shown
from hpogen.spec.parts import SearcherSpec
from hpogen.spec.positions import KeyPath
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


def metric(
    name: str, task: Task, path: KeyPath, mistakes: Mistakes, who: str = "objective"
) -> None:
    """The task gives a metric of that name, and it is none of the audit's."""
    if name.startswith("audit"):
        mistakes.add(path, f"{AUDIT}: no {who} can name {name!r}")
    elif name not in task.metrics():
        mistakes.add(path, unknown("metric", name, task.metrics()))


def selection(name: SelectionName, task: Task, mistakes: Mistakes) -> None:
    """The task gives what the selection looks at."""
    path: KeyPath = ("selection",)
    row = SELECTIONS[name]
    if row.per_sample and not task.keeps_losses:
        text = f"{name!r} reads the loss of each validation sample, which task {task.name!r} does"
        mistakes.add(path, f"{text} not keep; expected score, val_loss or noise_cut")
        return
    for needed in sorted(row.needs):
        if needed == name:
            metric(needed, task, path, mistakes)
        elif needed not in task.metrics():
            without = task.keeps_losses and needed == "val_loss"
            how = ": it has no validation images" if without else ""
            text = f"{name!r} needs {needed}, which task {task.name!r} does not give{how}"
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
    scores: int = 1,
) -> None:
    """The searcher can treat the space and so many scores, and takes what is enqueued."""
    try:
        spec.make(space, budgets, seed, enqueue, scores)
    except UserError as error:
        with mistakes.under("searcher"):
            spec.make(space, budgets, seed, (), scores)
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
