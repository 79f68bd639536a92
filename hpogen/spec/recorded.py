"""A study's spec as its ledger has it, for whoever reads: no plug-in is imported, nor torch.

`study/read.py` makes it of a folder's history. What no option of the parts tells, the header of a
new study says in `declared`, which `study/replay.py` writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any, cast

from hpogen import plugins
from hpogen.objective import Objective
from hpogen.record.history import History
from hpogen.spec import budgets as fitting
from hpogen.spec import checks, objectives
from hpogen.spec.choice import RACE
from hpogen.spec.form import SearcherForm
from hpogen.spec.loading import AS_WRITTEN, StudySpec, form_of
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.parts import SearcherSpec, searcher_of, space_of
from hpogen.spec.source import Source
from hpogen.tasks.base import Opaque, Task, check_patience
from hpogen.trial import Parts

POINTWISE = ("per_epoch", "log")  # scales that divide a sum by the budget


@dataclass(frozen=True)
class RecordedTask(Opaque):
    """Of `tasks.base.Task` what can be asked of a record; it trains nothing."""

    name: str
    epochs: int
    mapping: Mapping[str, Any]
    declared: Mapping[str, Any]

    @property
    def keeps_losses(self) -> bool:  # type: ignore[override]
        return bool(self.declared["keeps_losses"])

    @property
    def subset(self) -> float | None:  # type: ignore[override]
        return cast("float | None", self.declared.get("subset"))

    @property
    def parts(self) -> Parts:  # type: ignore[override]
        return Parts(**self.declared.get("parts", {}))

    @property
    def judged_by(self) -> str | None:  # type: ignore[override]
        return cast("str | None", self.declared.get("judged_by", self.mapping.get("error")))

    @property
    def retrains(self) -> bool:  # type: ignore[override]
        return self.name in plugins.OWN_TASKS or bool(self.declared.get("retrains"))

    @property
    def gpus_per_trial(self) -> int:
        return int(self.mapping.get("gpus_per_trial", 1))

    def metrics(self) -> frozenset[str]:
        return frozenset(self.declared["metrics"])

    def sums(self) -> frozenset[str]:
        return frozenset(self.declared["sums"])

    def step_sums(self) -> frozenset[str]:
        return frozenset(self.declared.get("step_sums", ()))

    def observed(self) -> frozenset[str]:
        return frozenset(self.declared.get("observed", ()))

    def check(self, wanted: frozenset[str]) -> None:
        check_patience(self.mapping.get("patience"), wanted, self.sums())

    def record(self) -> dict[str, Any]:
        return dict(self.mapping)


@dataclass(frozen=True)
class RecordedSearcher:
    """Of a plug-in's `SearcherSpec` what can be asked of a record; it proposes nothing."""

    name: str
    options: Mapping[str, Any]
    declared: Mapping[str, Any]

    def declares(self, what: str) -> bool:
        return bool(self.declared.get(what, False))


def declared(spec: StudySpec) -> dict[str, Any]:
    """What readers ask of the parts and no option tells, for the header of a new study."""
    found = {
        "metrics": sorted(spec.task.metrics()),
        "sums": sorted(spec.task.sums()),
        "keeps_losses": spec.task.keeps_losses,
        "ranks_only": spec.searcher.declares("ranks_only"),
    }
    if seen := observed(spec):
        found["observed"] = sorted(seen)
    if spec.task.parts.number > 1:
        found["parts"] = spec.task.parts._asdict()
    if spec.task.name not in plugins.OWN_TASKS:
        found |= {"judged_by": spec.task.judged_by} if spec.task.judged_by else {}
        found |= {"retrains": True} if spec.task.retrains else {}
    if spec.task.subset is None:
        return found
    return {**found, "step_sums": sorted(spec.task.step_sums()), "subset": spec.task.subset}


def observed(spec: StudySpec) -> frozenset[str]:
    """What its objective and constraints name of which another run gives other numbers."""
    return spec.objective.metrics.union(spec.constraints or ()) & spec.task.observed()


def recorded(past: History) -> StudySpec:
    """The spec of the study of that history, `stop` as it was raised.

    Raises UserError for a record that this hpogen cannot read.
    """
    record = {**past.header["spec"], "stop": past.stop}
    source = Source(record, str(record["name"]))
    mistakes = Mistakes(source)
    form = form_of(record, mistakes)
    mistakes.raise_first()
    known = past.header.get("declared") or _derived(past, form.task)
    data = form.budgets if form.budgets is not None and form.budgets.on_data else None
    known = {**known, "multi_fidelity": form.budgets is not None}
    space = space_of(form.search_space, mistakes)
    assert form.searcher  # a history without it is refused
    searcher = _searcher(form.searcher, known, mistakes)
    mistakes.raise_first()
    assert space and searcher  # what is None has left a mistake
    task = _task(form.task, known)
    budgets = form.budgets.rungs() if form.budgets else (task.epochs,)
    objective = objectives.objective(form.objective, task, searcher, budgets, Mistakes(source))
    assert objective  # it was checked when the study began
    if "declared" not in past.header:
        objective = replace(objective, sums=_sums(past, objective))
        task = _task(form.task, {**known, "sums": objective.sums})
    return StudySpec(
        name=form.name,
        task=task,
        space=space,
        searcher=searcher,
        objective=objective,
        baselines=checks.baselines(form.baselines, space, mistakes),
        enqueue=checks.enqueue(form.enqueue or [], space, searcher, mistakes),
        plugins=tuple(map(Path, form.plugins)),
        checkpoints=form.checkpoints,
        budgets=budgets,
        data=data,
        source=source,
        scope=(),
        **{key: getattr(form, key) for key in AS_WRITTEN},
    )


def restated_spec(
    spec: StudySpec, objective: Mapping[str, Any] | None, selection: str | None
) -> StudySpec:
    """The spec with an objective in the form of the YAML and a selection; None: its own.

    It has no finalists: those of another rule have not been trained. Raises UserError as
    `load_study` does.
    """
    record = spec.record()
    given = {"objective": objective, "selection": selection}
    record |= {key: value for key, value in given.items() if value is not None}
    mistakes = Mistakes(Source(record, spec.name))
    if selection == RACE:
        text = "'race' trains finalists: it cannot be asked of trials that are there"
        mistakes.add(("selection",), text)
    form = form_of(record, mistakes)
    found = spec.objective
    if objective is not None and "objective" not in mistakes.wrong:
        own = form.objective, spec.task, spec.searcher, spec.budgets
        made = objectives.objective(*own, mistakes)
        found = made or found
    checks.selection(form.selection, spec.task, mistakes)
    objectives.answers(form, spec.task, mistakes)
    mistakes.raise_first()
    return replace(spec, objective=found, selection=form.selection, finalists=None)


def with_prune(spec: StudySpec, prune: object) -> StudySpec:
    """The spec with a `prune` in the form of the YAML. Raises UserError as `load_study` does."""
    record = {**spec.record(), "prune": prune}
    mistakes = Mistakes(Source(record, spec.name))
    form = form_of(record, mistakes)
    if "prune" not in mistakes.wrong:
        fitting.prune(form, spec.task, spec.searcher, spec.objective, mistakes)
    mistakes.raise_first()
    return replace(spec, prune=form.prune)


def _task(mapping: Mapping[str, Any], known: Mapping[str, Any]) -> Task:
    task = RecordedTask(mapping["name"], mapping["epochs"], mapping, known)
    return cast(Task, task)  # it is not asked to train


def _searcher(
    form: SearcherForm, known: Mapping[str, Any], mistakes: Mistakes
) -> SearcherSpec | None:
    if plugins.searchers.is_builtin(form.name):
        return searcher_of(form, mistakes)
    return cast(SearcherSpec, RecordedSearcher(form.name, form.options, known))


def _derived(past: History, task: Mapping[str, Any]) -> dict[str, Any]:
    """`declared` of an older study: built-in parts are known, of others what the outcomes have."""
    names = [name for name in plugins.measures.names() if plugins.measures.is_builtin(name)]
    measures = [plugins.measures.get(name) for name in names]
    own = task["name"] == plugins.DEFAULT_TASK
    metrics = {name for r in past.records if r.outcome for name in r.outcome.metrics}
    given = [measure.metrics for measure in measures] if own else [task.get("metrics", ())]
    return {
        "metrics": metrics.union(*given),
        "sums": frozenset[str]().union(*(measure.sums for measure in measures)),
        "keeps_losses": own and not isinstance(task["dataset"].get("validation"), Mapping),
    }


def _sums(past: History, objective: Objective) -> frozenset[str]:
    """Which metrics are sums over epochs: of a plug-in's, those by which the told scores come out.

    A plug-in's metric that the objective does not divide is what hpogen's of that name is.
    """
    divided = {term.metric for term in objective.terms if term.scale in POINTWISE}
    record = next((r for r in past.told() if r.score < math.inf and r.trial.budget > 1), None)
    if record is None or record.outcome is None:
        return objective.sums
    rung = record.trial.rung
    tries = chain.from_iterable(combinations(sorted(divided), n) for n in range(len(divided) + 1))
    for sums in (objective.sums & divided, *tries):
        tried = replace(objective, sums=(objective.sums - divided).union(sums))
        try:
            score = tried.score(record.outcome.metrics, rung.epochs, past.locations.get(rung))
        except (KeyError, ValueError):  # it has a `rank` term
            break
        if math.isclose(score, record.score, rel_tol=1e-9, abs_tol=1e-12):
            return tried.sums
    return objective.sums
