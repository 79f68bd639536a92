"""Trains a study's answer and baselines on the full training set and tests them: `hpogen retrain`.

Each configuration is a study of its own in `DIR/retrain/`, whose trials are the seeds: so it is
recorded, resumed and spread over workers like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from hpogen import history
from hpogen.belonging import belongs, own
from hpogen.driving import pool
from hpogen.errors import UserError, explained
from hpogen.executors.choice import Where
from hpogen.ledger import LEDGER, study_id
from hpogen.opening import read_study, studies_in
from hpogen.report.retrain import last_lines, page
from hpogen.report.terminal import print_lines, program, width
from hpogen.report.verdict import ending
from hpogen.retrained import RETRAIN, Choice, choices, results
from hpogen.runner import End, Result
from hpogen.spec import StudySpec
from hpogen.study import Study

TASK = "image-classification"  # the one whose data hpogen knows
SEEDS = 3


def retrain(directory: Path, where: Where, seeds: int = SEEDS, duration: str = "") -> list[End]:
    """Retrain, or go on with it, and print what was found; how each configuration's study ended.

    `directory` is a study's or a matrix's; `seeds` is how often each configuration is trained in
    all, so that more may be added. Raises UserError.
    """
    inner = studies_in(directory)
    studies = inner or [directory]
    specs = {path: spec for study in studies for path, spec in plan(study, seeds).items()}
    for study in studies:
        with explained(study, UserError):
            own(study / RETRAIN, study_id(study))
    home = directory if inner else directory / RETRAIN
    name = f"{directory.absolute().name}: {RETRAIN}"
    with pool(name, specs, home, where, duration) as (opened, ended):
        if not any(result.end == "broken" for result in ended):
            _print(directory, studies, opened, ended)
    return [result.end for result in ended]


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


def _print(
    directory: Path, homes: Sequence[Path], studies: Sequence[Study], ended: Sequence[Result]
) -> None:
    pairs = zip(studies, ended, strict=True)
    stopped = [ending(s.spec, r.end, r.trials, r.text) for s, r in pairs if r.end != "finished"]
    lines = [line for home in homes for line in page(home, results(home), width())]
    with contextlib.suppress(OSError):  # a terminal that has gone
        print_lines([*lines, *last_lines(directory, stopped, program(), width())])
