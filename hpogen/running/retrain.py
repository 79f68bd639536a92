"""The studies that train a study's answer and baselines on the full training set, and test them.

Each configuration is a study of its own in `DIR/retrain/`, whose trials are the seeds: so it is
recorded, resumed and spread over workers like any other.
"""

from __future__ import annotations

from pathlib import Path

from hpogen.errors import UserError
from hpogen.record import history
from hpogen.record.belonging import belongs
from hpogen.record.ledger import LEDGER
from hpogen.spec import StudySpec
from hpogen.study.open import read_study
from hpogen.study.retrained import RETRAIN, Choice, choices

TASK = "image-classification"  # the one whose data hpogen knows
SEEDS = 3


def plan(directory: Path, seeds: int) -> dict[Path, StudySpec]:
    """The studies to run, by folder: one for the answer and each baseline, `seeds` trials each.

    Where more seeds have been trained already, those stay. Raises UserError for a task that cannot
    be retrained, and while there is no answer.
    """
    if seeds < 1:
        raise UserError(f"--seeds: got {seeds}, expected 1 or more")
    spec, past = read_study(directory)
    if spec.task.name != TASK:
        raise UserError(
            f"{directory}: the task {spec.task.name!r} cannot be retrained: it trains on its own "
            f"data, and hpogen knows a full training set and a test set of {TASK!r} alone"
        )
    found = choices(spec, past, directory)
    home = directory / RETRAIN
    known = belongs(home, past.id)  # else what is there was begun for another study
    asked = {c.label: max(seeds, _begun(home / c.label) * known) for c in found}
    return {home / c.label: _spec(spec, c, asked[c.label]) for c in found}


def _begun(directory: Path) -> int:
    """How many seeds were asked for before."""
    exists = (directory / LEDGER).exists()
    return history.read(directory).stop["trials"] or 0 if exists else 0


def _spec(spec: StudySpec, choice: Choice, seeds: int) -> StudySpec:
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
    return StudySpec.from_record({**record, **changed}, plugins=spec.plugins)
