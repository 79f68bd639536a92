"""What configurations came to on several sizes of the training set: rungs, finalists, `--at`.

`cli/drive.py` trains what `plan_sizes` says; `analysis/outlook.py` continues the curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hpogen.errors import UserError
from hpogen.record.history import Record
from hpogen.spec import StudySpec
from hpogen.study import status
from hpogen.study.finalists import begun, ranking
from hpogen.study.open import plugin_files
from hpogen.study.read import AT, RETRAIN, Folder
from hpogen.study.retrainable import check_known, check_one_training, check_task
from hpogen.study.retrained import Choice, alone, choice_of
from hpogen.tasks.base import Task
from hpogen.trial import Config, canonical

TOP = 2  # configurations, for the order of two is asked
Runs = Mapping[float, Sequence[Record]]


@dataclass(frozen=True)
class Sized:
    """A configuration's trainings by the fraction of the training set, which rise.

    `trial` is the one that `ranked` has of it, else the first of the search. `apart` says that
    `retrain --at` trained them: then the search's own are not among them, by which it was chosen.
    """

    trial: int
    config: Config
    is_answer: bool
    runs: Runs
    apart: bool

    def losses(self, data: float) -> list[float]:
        """The validation losses there, seed by seed, without those that failed."""
        good = [r.outcome for r in self.runs.get(data, ()) if r.outcome and not r.failure]
        return [outcome.metrics["val_loss"] for outcome in good]

    @property
    def failures(self) -> dict[float, list[str]]:
        """The kinds of the failures, by fraction."""
        found: dict[float, list[str]] = {}
        for data, records in self.runs.items():
            if kinds := [r.failure.kind for r in records if r.failure]:
                found[data] = [*kinds]
        return found


def check_fractions(at: Sequence[float], predict: float) -> None:
    """Raise UserError where the sizes that are asked for make no curve."""
    if len(at) < 2:
        raise UserError(
            f"--at: got {_said(at)}, expected two fractions of the training set or more, such as "
            "0.05,0.1,0.2"
        )
    if any(not 0 < x < 1 for x in at) or any(a >= b for a, b in pairwise(at)):
        raise UserError(f"--at: got {_said(at)}, expected fractions between 0 and 1 that rise")
    if not at[-1] < predict <= 1:
        raise UserError(
            f"--predict: got {predict:g}, expected a fraction above {at[-1]:g}, the largest of "
            "--at, and at most 1"
        )


def _said(at: Sequence[float]) -> str:
    return ",".join(f"{x:g}" for x in at) or "nothing"


def plan_sizes(
    study: Folder, at: Sequence[float], seeds: int, top: int = TOP, trial: int | None = None
) -> dict[Path, StudySpec]:
    """The studies to run, by folder: one per configuration and fraction, `seeds` trials each.

    The configurations are the answer and those that come after it, `top` in all; with `trial` that
    trial's alone. They train on parts of what the search may train on, and the same validation
    images judge. Raises UserError for what cannot be trained so, and while there is no answer.
    """
    _check(study, seeds, top)
    listed = [choice_of(study, n) for n in ([trial] if trial is not None else first(study, top))]
    had = {inner.directory.name: inner.history.stop["trials"] or 0 for inner in study.at_sizes}
    found = {}
    for choice in listed:
        task = _spec(study, choice, None, 1).task
        for data in at:
            _check_samples(task, choice, data)
            name = f"{AT}{data:g}-{choice.label}"
            spec = _spec(study, choice, data, max(seeds, had.get(name, 0)))
            found[study.directory / RETRAIN / name] = spec
    return found


def _check(study: Folder, seeds: int, top: int) -> None:
    if seeds < 1:
        raise UserError(f"--seeds: got {seeds}, expected 1 or more")
    if top < 1:
        raise UserError(f"--top: got {top}, expected 1 configuration or more")
    check_known(study, "--at")
    check_task(study)
    check_one_training(study, "--at")
    if "val_loss" not in study.spec.task.metrics():
        raise UserError(
            f"{study.directory}: --at: validation images judge, and there are none: expected a "
            "study with task.dataset.validation"
        )


def first(study: Folder, top: int) -> list[int]:
    """The trials of the answer and of the configurations that come after it, at most `top`.

    Raises UserError while there is no answer.
    """
    answer = status.record_of(study, status.best(study)["trial"])
    return [record.trial.id for record in ranked(study, answer)][:top]


def ranked(study: Folder, answer: Record) -> Iterator[Record]:
    """The answer, the finalists in their order, then the trials as the selection ranks them."""
    race = begun(study)
    finalists = [finalist.record for finalist in race.order()] if race else []
    seen = set[str]()
    for record in (answer, *finalists, *ranking(study)):
        if (key := canonical(record.trial.config)) not in seen:
            seen.add(key)
            yield record


def _spec(study: Folder, choice: Choice, data: float | None, seeds: int) -> StudySpec:
    """The study that trains one configuration on a fraction, with the splits of the search.

    None: on the search's subset.
    """
    record = study.spec.record()
    changed = {
        **alone(choice.config, seeds),
        "name": f"{study.spec.name} {choice.label} at {data or study.history.subset:g}",
        "task": {**record["task"], "measures": []},
        "objective": {"terms": [{"metric": "val_loss"}]},
        "budgets": data and {"over": "data", "min": data, "max": data, "eta": 2},
        "checkpoints": {**record["checkpoints"], "keep": "none"},
    }
    return StudySpec.from_record({**record, **changed}, plugins=plugin_files(study))


def _check_samples(task: Task, choice: Choice, data: float) -> None:
    """Raise UserError where the data have not as many samples, or less than a batch."""
    try:
        samples = task.check_data(data) or task.prepare(data)
    except (ValueError, UserError) as error:
        raise UserError(f"--at {data:g}: {error}") from error
    batch = choice.config.get("batch_size", 0)
    if samples is not None and isinstance(batch, int) and samples < batch:
        raise UserError(
            f"--at {data:g}: got {samples} images, less than one batch of the {batch} of "
            f"{choice.label}: expected larger fractions"
        )


def sized(study: Folder) -> list[Sized]:
    """What is known of sizes: of the configurations in the order of `ranked`, then of the others.

    Those that `retrain --at` has trained come first. Nothing while there is no answer. A finalist
    on all of the images but validation and audit is left out: which fraction that is, is not kept.
    """
    apart = _by_config(record for inner in study.at_sizes for record in _told(inner))
    if not apart and len(study.history.fractions) < 2:
        return []
    found = {**_by_config(_told(study)), **apart}
    if len({data for runs in found.values() for data in runs}) < 2:
        return []
    try:
        answer = status.record_of(study, status.best(study)["trial"])
    except UserError:
        return []
    best = [*ranked(study, answer)]
    named = [*reversed(study.history.records), *best]
    trials = {canonical(record.trial.config): record.trial for record in named}
    order = [canonical(record.trial.config) for record in best]
    keys = sorted(dict.fromkeys([*order, *found]), key=lambda key: key not in apart)
    return [
        Sized(trials[key].id, trials[key].config, key == order[0], found[key], key in apart)
        for key in keys
        if key in found and key in trials
    ]


def _told(study: Folder) -> Iterator[tuple[float, Record]]:
    """The trainings that a curve may have, each with its fraction: whole ones, from the start."""
    spec = study.spec
    for record in study.history.told():
        whole = record.trial.budget == spec.task.epochs and record.twin is None
        rest = record.trial.data == 1 and spec.task.retrains
        if whole and not rest and not spec.warm and "val_loss" in spec.task.metrics():
            yield record.trial.data or study.history.subset, record


def _by_config(runs: Iterable[tuple[float, Record]]) -> dict[str, dict[float, list[Record]]]:
    """Runs by configuration and fraction, these rising."""
    found: dict[str, dict[float, list[Record]]] = {}
    for data, record in sorted(runs, key=lambda pair: pair[0]):
        own = found.setdefault(canonical(record.trial.config), {})
        own.setdefault(data, []).append(record)
    return found
