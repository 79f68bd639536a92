"""The studies that train a study's answer and baselines on the full training set, and test them.

Each configuration is a study of its own in `DIR/retrain/`, whose trials are the seeds: so it is
recorded, resumed and spread over workers like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpogen.errors import UserError
from hpogen.plugins import DEFAULT_TASK
from hpogen.spec import StudySpec
from hpogen.study.open import plugin_files
from hpogen.study.read import RETRAIN, Folder
from hpogen.study.retrained import Choice, choices

SEEDS = 3


def plan(study: Folder, seeds: int) -> dict[Path, StudySpec]:
    """The studies to run, by folder: one for the answer and each baseline, `seeds` trials each.

    Where more seeds have been trained already, those stay. Raises UserError for a task that cannot
    be retrained, and while there is no answer.
    """
    if seeds < 1:
        raise UserError(f"--seeds: got {seeds}, expected 1 or more")
    spec, directory = study.spec, study.directory
    if spec.task.name != DEFAULT_TASK:
        raise UserError(
            f"{directory}: the task {spec.task.name!r} cannot be retrained: it trains on its own "
            f"data, and hpogen knows a full training set and a test set of {DEFAULT_TASK!r} alone"
        )
    begun = {label: inner.history.stop["trials"] or 0 for label, inner in study.retrainings.items()}
    files = plugin_files(study)
    return {
        directory / RETRAIN / choice.label: _spec(
            spec, choice, max(seeds, begun.get(choice.label, 0)), files
        )
        for choice in choices(study)
    }


def _spec(spec: StudySpec, choice: Choice, seeds: int, files: Sequence[Path]) -> StudySpec:
    """The study that trains one configuration; its limits of time were those of a subset."""
    record = spec.record()
    task = record["task"]
    whole = {"subset": 1.0, "balanced": False, "validation": 0, "audit": "test-each-epoch"}
    dataset = {**task["dataset"], **whole}
    changed = {
        "name": f"{spec.name} {choice.label}",
        "task": {**task, "dataset": dataset, "measures": []},
        "searcher": "listed",
        "objective": {"terms": [{"metric": "train_loss_online"}]},  # costs no pass
        "selection": "score",
        "stop": {"trials": seeds},
        "baselines": {},
        "limits": {},
        "enqueue": [dict(choice.config)],
        "budgets": None,
        "rungs": "retrain",
    }
    return StudySpec.from_record({**record, **changed}, plugins=files)
