"""A study as the program knows it: read from YAML, checked once, frozen from then on.

`load_study` reads a file, `StudySpec.from_record` what a ledger's header holds; every mistake of
the user in either is raised here, as one line with file, line and column.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.objective import Objective
from hpogen.plugins import Scope
from hpogen.searchers.base import Searcher
from hpogen.selection import SelectionName
from hpogen.space import Space
from hpogen.spec import budgets as fitting
from hpogen.spec import checks, objectives
from hpogen.spec.choice import Finalists
from hpogen.spec.form import (
    PLACEHOLDERS,
    REQUIRED,
    BudgetsForm,
    Checkpoints,
    Limits,
    Rungs,
    Stop,
    StudyForm,
)
from hpogen.spec.matrix import MATRIX
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.parts import SearcherSpec, searcher_of, space_of, task_of
from hpogen.spec.pruning import Prune
from hpogen.spec.reserve import Reserve, check_finalists, reserve
from hpogen.spec.source import Source, anchored, load, of_record
from hpogen.spec.tracking import Track
from hpogen.tasks.base import Task
from hpogen.trial import Config, Rung, Trial, exact

AS_WRITTEN = (
    *("seed", "selection", "finalists", "constraints", "stop", "prune", "limits"),
    *("rungs", "primary", "track"),
)


@dataclass(frozen=True)
class StudySpec:
    """Everything that a study is. Made by `load_study` or `from_record`, which check it.

    `budgets` are what the searcher is told, ascending: epochs, the last being the task's, or, with
    rungs on `data`, multiples of the lowest. `enqueue` and `baselines` are complete configurations.
    """

    name: str
    seed: int
    task: Task
    space: Space
    searcher: SearcherSpec
    objective: Objective
    selection: SelectionName
    finalists: Finalists | None
    constraints: Mapping[str, str] | None
    stop: Stop
    prune: Prune | None
    baselines: Mapping[str, Config]
    limits: Limits
    enqueue: tuple[Config, ...]
    plugins: tuple[Path, ...]
    checkpoints: Checkpoints
    budgets: tuple[int, ...]
    data: BudgetsForm | None  # the rungs, where they are fractions of the training set
    rungs: Rungs
    primary: str | None
    track: Track | None
    source: Source = field(repr=False, compare=False)
    scope: Scope = field(repr=False, compare=False)  # the plug-ins as they were when imported

    def __post_init__(self) -> None:
        """Another task has its own epochs and sums; whoever replaces it need not know."""
        if self.data is None:
            object.__setattr__(self, "budgets", (*self.budgets[:-1], self.task.epochs))
        sums, step_sums = self.task.sums(), self.task.step_sums()
        subset = self.task.subset or 1.0
        objective = replace(self.objective, sums=sums, step_sums=step_sums, subset=subset)
        object.__setattr__(self, "objective", objective)

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], plugins: Sequence[Path] | None = None
    ) -> StudySpec:
        """The study of a record, or of any mapping in the form of the YAML.

        `plugins` are the files to load instead of those that the record names. Raises UserError.
        """
        return build(of_record(record), None, plugins)

    def with_record(self, record: Mapping[str, Any]) -> StudySpec:
        """The study of another record with the plug-ins of this one, which are not read again."""
        with plugins.scope(self.scope):
            return replace(build(of_record(record), None, ()), plugins=self.plugins)

    @property
    def sources(self) -> dict[str, bytes]:
        """What the plug-in files held when they were imported, by the names of the files."""
        return {plugins.FILES[f].path.name: plugins.FILES[f].source for f in self.scope}

    def record(self) -> dict[str, Any]:
        """The study in the form of the YAML, every default filled in, the space inline.

        Goes through JSON unchanged; `from_record` gives the same study, with the same record.
        """
        budgets = BudgetsForm.of(self.budgets) if self.data is None else self.data
        rungs = self.searcher.declares("multi_fidelity") or self.data is not None
        return {
            "name": self.name,
            "seed": self.seed,
            "task": to_jsonable_python({"name": self.task.name, **self.task.record()}),
            "search_space": to_jsonable_python(self.space.record()),
            "searcher": to_jsonable_python({"name": self.searcher.name, **self.searcher.options}),
            "objective": self.objective.record(),
            "selection": self.selection,
            "finalists": self.finalists and self.finalists.model_dump(),
            **({"constraints": dict(self.constraints)} if self.constraints else {}),
            "stop": self.stop.record(),
            **({"prune": self.prune.record()} if self.prune else {}),
            "baselines": {name: dict(config) for name, config in self.baselines.items()},
            "limits": self.limits.model_dump(),
            "enqueue": [dict(config) for config in self.enqueue],
            "plugins": [str(path) for path in self.plugins],
            "checkpoints": self.checkpoints.model_dump(),
            "budgets": budgets.record() if rungs else None,
            "rungs": self.rungs,
            "primary": self.primary,
            **({"track": self.track.record()} if self.track else {}),
        }

    def where(self, key: str) -> str:
        """Where a dotted key was written, `studies/a.yaml:12:13`, or what encloses it.

        Just the file for a key that was not written, the study's name where there is no file.
        """
        return self.source.where(
            tuple(int(part) if part.isdigit() else part for part in key.split("."))
        )

    @property
    def typed(self) -> str:
        """How a command is given its file, `a.yaml --set seed=1`; empty where none is its own."""
        return shlex.join(self.source.typed)

    @cached_property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs that trials are of, the lowest first; the answer is one of the last."""
        if self.data is None:
            return tuple(map(Rung, self.budgets))
        return self.data.ladder(self.task.epochs, self.task.subset)

    def rung(self, budget: int) -> Rung:
        """What a trial trains for which the searcher asks with that budget.

        Raises UserError for a searcher of one's own that asks for none of `budgets`.
        """
        if self.data is None:
            return Rung(budget)
        if budget not in self.budgets:
            asked = f"searcher {self.searcher.name!r} asked for the budget {budget}"
            raise UserError(f"{asked}, expected one of {', '.join(map(str, self.budgets))}")
        return self.ladder[self.budgets.index(budget)]

    def cost(self, rung: Rung) -> int | Fraction:
        """What a trial of that rung is charged: epochs on the subset of as many samples."""
        return self.task.parts.number * exact(rung.epochs, rung.data, self.task.subset or 1.0)

    @property
    def final_rung(self) -> Rung:
        """That of the trials which are trained again at the end."""
        if self.finalists is None:
            return self.ladder[-1]
        data = self.finalists.data
        return self.ladder[-1]._replace(data=None if data == self.task.subset else data)

    @cached_property
    def reserve(self) -> Reserve:
        """What it keeps of `stop` for its end."""
        return reserve(self.selection, self.finalists, self.cost(self.final_rung))

    def may_go_on(self, rung: Rung) -> bool:
        """Whether a rung above may continue a trial of that one, from its checkpoint."""
        return self.rungs == "continue" and rung in self.ladder[:-1]

    @property
    def warm(self) -> bool:
        """Whether a promoted trial begins with its parent's weights, and epoch 0."""
        return self.data is not None and self.data.warm

    def shares(self, trial: Trial) -> bool:
        """Whether the same trial of another study has the same outcome, and all that is needed."""
        continued = self.may_go_on(trial.rung) or (self.warm and trial.parent is not None)
        return not continued and self.prune is None

    def make_searcher(self) -> Searcher:
        """A fresh searcher, which has been asked nothing. Raises Refusal."""
        given = self.space, self.budgets, self.seed, self.enqueue
        return self.searcher.make(*given, self.objective.count)


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> StudySpec:
    """The study in a YAML file, with `key.path=value` overrides.

    Its plug-ins are imported. Raises UserError: one line that names file, line and column.
    """
    path = Path(path)
    return build(load(path, overrides), path, None)


def build(source: Source, path: Path | None, files: Sequence[Path] | None) -> StudySpec:
    """The study of a file, or of a record. Raises UserError with every mistake in it."""
    mistakes = Mistakes(source)
    checks.finite(source.data, mistakes)
    form = form_of(source.data, mistakes)
    if form.matrix is not None:
        mistakes.add((MATRIX,), "stands for many studies, expected one (in Python: load_studies)")
    if files is None:
        folder = Path() if path is None else path.parent
        files = [Path(os.path.abspath(folder / file)) for file in form.plugins]
    scope = (*plugins.in_scope(), *_load_plugins(files, mistakes))
    with plugins.scope(scope):
        return _made(form, path, tuple(files), mistakes)


def _made(
    form: StudyForm, path: Path | None, files: tuple[Path, ...], mistakes: Mistakes
) -> StudySpec:
    wrong = mistakes.wrong
    name = checks.name(form, path, mistakes)
    task_form = form.task if path is None else anchored(form.task, path.parent)
    task = None if "task" in wrong else task_of(task_form, mistakes)
    searcher = None if "searcher" in wrong else searcher_of(form.proposes, mistakes)
    space = None if "search_space" in wrong else space_of(form.search_space, mistakes)
    checks.track(form.track, path, mistakes)
    resolved = _resolved(form, task, searcher, space, mistakes)
    mistakes.raise_first()
    assert task and searcher and space  # what is None has left a mistake
    return StudySpec(
        name=name,
        task=task,
        space=space,
        searcher=searcher,
        plugins=files,
        scope=plugins.in_scope(),
        checkpoints=form.checkpoints.anchored(Path() if path is None else path.parent),
        source=mistakes.source,
        **resolved,
        **{key: getattr(form, key) for key in AS_WRITTEN},
    )


def _resolved(
    form: StudyForm,
    task: Task | None,
    searcher: SearcherSpec | None,
    space: Space | None,
    mistakes: Mistakes,
) -> dict[str, Any]:
    """Check how the parts that are right fit together; the keys that depend on them."""
    resolved: dict[str, Any] = {"data": None}
    if task:
        checks.selection(form.selection, task, mistakes)
        objectives.answers(form, task, mistakes)
        objectives.constraints(form.constraints, task, mistakes)
        check_finalists(form, task, mistakes)
        checks.checkpoints(form.checkpoints, task, mistakes)
        fitting.rungs(form, task, mistakes)
    if space:
        resolved["baselines"] = checks.baselines(form.baselines, space, mistakes)
    if space and task:
        checks.parameters(space, task, mistakes)
    if space and searcher:
        enqueue = resolved["enqueue"] = checks.enqueue(form.enqueue, space, searcher, mistakes)
    if task and searcher and not mistakes.wrong & {"objective", "budgets"}:
        budgets = resolved["budgets"] = fitting.budgets(form.budgets, task, searcher, mistakes)
        own = form.objective, task, searcher, budgets
        resolved["objective"] = objectives.objective(*own, mistakes)
        objectives.heard(form, searcher, mistakes)
        if form.budgets is not None and form.budgets.on_data:
            resolved["data"] = form.budgets
            fitting.data(form.budgets, task, space, resolved["objective"], mistakes)
        fitting.stop(form, task, resolved["objective"], mistakes)
        fitting.prune(form, task, searcher, resolved["objective"], mistakes)
        if space:
            given = searcher, space, budgets, form.seed, enqueue, mistakes
            checks.searcher(*given, scores=len(form.objective.pareto or [()]))
    return resolved


def form_of(data: Mapping[str, Any], mistakes: Mistakes) -> StudyForm:
    """The form of the data, with placeholders for the keys with mistakes."""
    optional = StudyForm.model_fields.keys() - REQUIRED
    given = {k: v for k, v in data.items() if not (v is None and k in optional)}
    with mistakes.under(model=StudyForm):
        return StudyForm.model_validate(given)
    right = {key: value for key, value in given.items() if key not in mistakes.wrong}
    return StudyForm.model_validate({**PLACEHOLDERS, **right})


def _load_plugins(files: Sequence[Path], mistakes: Mistakes) -> Scope:
    """Import the plug-ins. Nothing else can be judged without them: a mistake is raised at once."""
    plugins.load_installed()
    names: set[str] = set()
    found: list[str] = []
    for i, file in enumerate(files):
        if file.name in names:
            mistakes.add(("plugins", i), f"a second plug-in is called {file.name!r}")
            continue
        names.add(file.name)
        with mistakes.under("plugins", i):
            found.append(plugins.bind_file(file))
    if "plugins" in mistakes.wrong:
        mistakes.raise_first()
    return tuple(found)
