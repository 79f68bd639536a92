"""What a study's `retrain` folder holds: the answer and the baselines on the full training set.

Each configuration is a study of its own there, whose trials are the seeds: so it is recorded,
resumed and spread over workers like any other. Reports and comparisons read it through `results`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpogen.errors import UserError
from hpogen.plugins import OWN_TASKS
from hpogen.record.history import History, Record
from hpogen.record.provenance import digest
from hpogen.spec import StudySpec
from hpogen.spec.form import is_folder_name
from hpogen.study import status
from hpogen.study.finalists import final
from hpogen.study.open import check_files, plugin_files
from hpogen.study.read import AGAIN, RETRAIN, Folder, read
from hpogen.study.retrainable import check_known, check_one_training, check_task
from hpogen.study.standing import chosen, wanted
from hpogen.tasks.errors import LOSS, Error, judging
from hpogen.trial import Config, Rung, canonical

SEEDS = 3


@dataclass(frozen=True)
class Choice:
    """A configuration that is worth retraining, and why: the answer, a baseline, or both.

    `label` is the name of its folder; the answer's changes when the answer does.
    """

    label: str
    config: Config
    is_answer: bool
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training on the full training set that has finished: a seed.

    `curve` has a row per epoch: `epoch`, `metrics` (of training), `audit` (`loss` and `accuracy`
    on the test set), `seconds`.
    """

    replicate: int
    seed: int
    judged: Error
    test: Mapping[str, float]  # the figures on the standard test set: `loss` and `accuracy`, …
    curve: tuple[Mapping[str, Any], ...]

    @property
    def error(self) -> float:
        return self.judged.required(self.test)

    @property
    def accuracy(self) -> float:
        return self.test["accuracy"]

    @property
    def loss(self) -> float | None:
        return self.test.get("loss")  # a task of one's own need not have one


@dataclass(frozen=True)
class Retrained:
    """A configuration and its runs so far, in the order of their replicates."""

    choice: Choice
    directory: Path
    runs: tuple[Run, ...]
    asked: int  # runs wanted
    failures: Mapping[int, str]  # by replicate: the kind

    @property
    def n(self) -> int:
        return len(self.runs)

    def mean(self, value: Callable[[Run], float | None]) -> float | None:
        """The mean of `error` or `loss` over the runs that have it; None without any."""
        found = self._each(value)
        return statistics.fmean(found) if found else None

    def sd(self, value: Callable[[Run], float | None]) -> float | None:
        """Their standard deviation (n − 1); None for fewer than two."""
        found = self._each(value)
        return statistics.stdev(found) if len(found) > 1 else None

    def _each(self, value: Callable[[Run], float | None]) -> list[float]:
        return [found for run in self.runs if (found := value(run)) is not None]


def choices(study: Folder) -> list[Choice]:
    """The answer, then the baselines; one that is both stands once.

    Raises UserError while the study has no answer.
    """
    answer = status.best(study)["config"]
    names: dict[str, list[str]] = {canonical(answer): []}
    configs: dict[str, Config] = {canonical(answer): answer}
    for name, config in study.spec.baselines.items():
        names.setdefault(canonical(config), []).append(name)
        configs.setdefault(canonical(config), config)
    return [
        Choice(
            _label(config, names[key], study.history), config, config is answer, tuple(names[key])
        )
        for key, config in configs.items()
    ]


def _label(config: Config, baselines: list[str], past: History) -> str:
    """`baseline-NAME`, which stays, else `trial-9`: the first trial of that configuration."""
    if baselines:
        name = baselines[0]
        return f"baseline-{name if is_folder_name(name) else digest({'config': canonical(config)})}"
    asked = (r.trial.id for r in past.records if canonical(r.trial.config) == canonical(config))
    return f"trial-{next(asked)}"


def choice_of(study: Folder, trial: int) -> Choice:
    """The configuration of a trial, as `choices` has it where it is among them.

    Raises UserError where there is no such trial.
    """
    config, spec = status.record_of(study, trial).trial.config, study.spec
    key = canonical(config)
    names = [name for name, other in spec.baselines.items() if canonical(other) == key]
    answer = chosen(study)
    is_answer = answer is not None and canonical(answer.trial.config) == key
    return Choice(_label(config, names, study.history), config, is_answer, tuple(names))


def fallback(study: Folder, seeds: int) -> int:
    """The trial of the next finalist, as the race has them, that has not been retrained so often.

    Raises UserError where no race has begun, and where none is left.
    """
    race = final(study)
    if race is None or race.standing is None:
        raise UserError(
            f"{study.directory}: --fallback: got no race, expected a study with finalists whose "
            "search has ended: retrain another trial with --trial N"
        )
    for finalist in race.order()[1:]:
        trial = finalist.record.trial.id
        begun = study.retrainings.get(choice_of(study, trial).label)
        if begun is None or len(begun.history.told()) < seeds:
            return trial
    raise UserError(
        f"{study.directory}: --fallback: every finalist that may be chosen has been retrained with "
        f"{seeds} seeds: retrain another trial with --trial N"
    )


def plan(study: Folder, seeds: int, trial: int | None = None) -> dict[Path, StudySpec]:
    """The studies to run, by folder: one for the answer and each baseline, `seeds` trials each.

    With `trial` the configuration of that one alone. Where more seeds have been trained already,
    those stay. Raises UserError for a task that cannot be retrained, and while there is no answer.
    """
    if seeds < 1:
        raise UserError(f"--seeds: got {seeds}, expected 1 or more")
    spec, directory = study.spec, study.directory
    check_task(study)
    check_files(study)
    listed = choices(study) if trial is None else [choice_of(study, trial)]
    begun = {label: inner.history.stop["trials"] or 0 for label, inner in study.retrainings.items()}
    files = plugin_files(study)
    return {
        directory / RETRAIN / choice.label: _spec(
            spec, choice, max(seeds, begun.get(choice.label, 0)), files
        )
        for choice in listed
    }


def plan_again(study: Folder, trial: int) -> dict[Path, StudySpec]:
    """The study, by its folder, that trains a trial once more as it was, and keeps its weights.

    The same images, seed and budget: on the same machine the same numbers. Raises UserError for a
    task that cannot be retrained, for a repeat, and where there is no such trial.
    """
    check_known(study, "--subset")
    check_task(study)
    check_one_training(study, "--subset")
    record = status.record_of(study, trial)
    asked = record.trial if record.twin is None else study.history.records[record.twin].trial
    if asked.replicate:
        raise UserError(
            f"{study.directory}: trial {trial} has a seed of its own, as replicate "
            f"{asked.replicate} of its configuration: only a first one can be trained again"
        )
    spec = study.spec
    if spec.warm and asked.parent is not None:
        raise UserError(
            f"{study.directory}: trial {trial} began with the weights of trial {asked.parent}: it "
            "cannot be trained again alone"
        )
    written, low = spec.record(), asked.budget < spec.ladder[-1].epochs
    budgets = _budgets(spec, asked.rung, written["budgets"]) if low or spec.data else None
    changed = {
        **alone(asked.config, 1),
        "name": f"{spec.name} trial {trial}",
        "objective": {"terms": [{"metric": name} for name in sorted(wanted(spec))]},
        "searcher": {"name": "asha", "sampler": "random"} if low else "listed",
        "budgets": budgets,
        "checkpoints": {"keep": "final" if low else "best"},  # of a rung no weights are kept
    }
    found = StudySpec.from_record({**written, **changed}, plugins=plugin_files(study))
    return {study.directory / RETRAIN / f"{AGAIN}{asked.id}": found}


def _budgets(spec: StudySpec, rung: Rung, written: Mapping[str, Any]) -> dict[str, Any]:
    """Those whose lowest rung is that one; over data alone there is no other."""
    if spec.data is None:
        return {**written, "min": rung.epochs}
    fraction = rung.data or spec.task.subset
    low = {**written, "min": fraction, "warm": False}
    only = {"over": "data", "max": fraction}
    return low if rung.epochs < spec.ladder[-1].epochs else {**low, **only}


def alone(config: Config, trials: int) -> dict[str, Any]:
    """The keys of a study that trains one configuration, so often.

    Its limits of time were those of another.
    """
    return {
        "searcher": "listed",
        "selection": "score",
        "finalists": None,
        "constraints": None,
        "stop": {"trials": trials},
        "prune": None,
        "baselines": {},
        "limits": {},
        "enqueue": [dict(config)],
        "budgets": None,
        "rungs": "retrain",
    }


def _spec(spec: StudySpec, choice: Choice, seeds: int, files: Sequence[Path]) -> StudySpec:
    """The study that trains one configuration on the full training set."""
    record = spec.record()
    kept = record["checkpoints"]
    changed = {
        **alone(choice.config, seeds),
        "name": f"{spec.name} {choice.label}",
        **(_on_all(record["task"]) if spec.task.name in OWN_TASKS else _told_so(record["task"])),
        "checkpoints": {**kept, "keep": "best"} if kept["keep"] == "none" else kept,
    }
    return StudySpec.from_record({**record, **changed}, plugins=files)


def _on_all(task: Mapping[str, Any]) -> dict[str, Any]:
    """The keys by which one of hpogen's tasks trains on all of its training set."""
    whole = {"subset": 1.0, "balanced": False, "validation": 0, "audit": "test-each-epoch"}
    dataset = {**task["dataset"], **whole}
    return {
        "task": {**task, "dataset": dataset, "measures": [], "patience": None},
        "objective": {"terms": [{"metric": "train_loss_online"}]},  # costs no pass
    }


def _told_so(task: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a task of one's own, whose objective stays: it says what it can give."""
    return {"task": {**task, "split": "retrain"}}


def results(directory: Path) -> list[Retrained]:
    """What has been retrained of a study: the answer, the baselines, then earlier answers.

    Works while a retraining runs. A choice whose training has not begun is left out. Raises
    UserError where nothing has been retrained.
    """
    if found := retrained(read(directory)):
        return found
    raise UserError(f"{directory}: nothing has been retrained: hpogen retrain {directory}")


def retrained(study: Folder) -> list[Retrained]:
    """The same of a study that has been read; nothing where nothing has been retrained."""
    begun = study.retrainings
    if not begun:
        return []
    now = {choice.label: choice for choice in choices(study)}
    earlier = {
        label: Choice(label, inner.spec.enqueue[0], False, ())
        for label, inner in begun.items()
        if label not in now
    }
    return [
        _retrained(choice, begun[label])
        for label, choice in {**now, **earlier}.items()
        if label in begun
    ]


def _retrained(choice: Choice, study: Folder) -> Retrained:
    told = study.history.told()
    return Retrained(
        choice,
        study.directory,
        tuple(_run(record, study) for record in told if record.failure is None),
        study.history.stop["trials"] or 0,
        {r.trial.replicate: r.failure.kind for r in told if r.failure},
    )


def _run(record: Record, study: Folder) -> Run:
    outcome, trial = record.outcome, record.trial
    if outcome is None or not outcome.audit:
        raise UserError(
            f"{study.directory}: trial {trial.id} has no test figures: is the test set empty"
        )
    audit, curve = outcome.audit, study.curve(trial.id)
    judged = judging([study.spec.task.judged_by], [audit]) or LOSS
    return Run(trial.replicate, trial.seed, judged, audit, tuple(curve))
