"""A spec is what its fields say: with another value of any it runs, is written and goes on so."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from toys import TASK, by_trial, study_file

from hpogen.objective import Objective, Term
from hpogen.record import ledger
from hpogen.running.runner import run
from hpogen.space import Space
from hpogen.spec import Checkpoints, Limits, SearcherSpec, Stop, StudySpec, load_study
from hpogen.spec.pruning import Prune
from hpogen.spec.tracking import Track
from hpogen.study.open import loaded
from hpogen.study.read import read
from hpogen.study.standing import standing
from hpogen.study.study import Study

MIXED = Objective((Term("gap_loss", -1.0), Term("agn", 1, "per_epoch")), "mine")
NARROW = Space.parse({"x": {"float": [0.0, 0.1]}, "y": {"int": [1, 5]}})
MEDIAN = Prune.model_validate({"rule": "median", "after": 1})
OTHER: dict[str, Any] = {  # by field: a value that the YAML has not, and what the record says then
    "name": ("other", "other"),
    "seed": (7, 7),
    "task": (None, {"name": "bowl", "epochs": 3, "threads": 1, "mood": "nan", "pause": 0.0}),
    "space": (NARROW, NARROW.record()),
    "searcher": (SearcherSpec("cmaes", {"population": 4}), {"name": "cmaes", "population": 4}),
    "objective": (MIXED, {**MIXED.record(), "standard_after": 8}),
    "selection": ("val_loss", "val_loss"),
    "stop": (Stop(epochs=6), {"epochs": 6, "trials": None}),
    "baselines": ({"mine": {"x": 0.0, "y": 2}}, {"mine": {"x": 0.0, "y": 2}}),
    "limits": (Limits(max_consecutive_errors=3), Limits(max_consecutive_errors=3).model_dump()),
    "enqueue": (({"x": 0.25, "y": 2},), [{"x": 0.25, "y": 2}]),
    "plugins": (None, None),
    "checkpoints": (Checkpoints(keep="final"), {"keep": "final", "top": 1, "path": None}),
    "budgets": ((2, 4), {"min": 2, "max": 4, "eta": 2}),
    "finalists": (None, None),  # a toy has no losses of each sample: see `test_finalists`
    "constraints": ({"gap_loss": "<= 0.2"}, {"gap_loss": "<= 0.2"}),
    "prune": (MEDIAN, MEDIAN.record()),
    "track": (Track(tensorboard=True), {"tensorboard": True}),
    "rungs": ("continue", "continue"),
    "primary": ("a - b", "a - b"),
}
WITH = {  # what cannot be replaced alone
    "space": {"enqueue": (), "baselines": {}},
    "budgets": {"searcher": SearcherSpec("hyperband", {"brackets": 2})},
}
NOT_WRITTEN = {"source", "scope", "data"}  # the last is part of `budgets`


def replaced(spec: StudySpec, field: str, directory: Path) -> tuple[StudySpec, Any]:
    value, record = OTHER[field]
    if field == "task":
        value = replace(spec.task, epochs=3, options={**spec.task.options, "mood": "nan"})  # type: ignore[type-var]
    if field == "plugins":
        (directory / "elsewhere").mkdir()
        copy = spec.plugins[0].rename(directory / "elsewhere" / "bowl.py")
        value, record = (copy,), [str(copy)]
    if field == "budgets":
        spec = replace(spec, task=replace(spec.task, epochs=4))  # type: ignore[type-var]
    return replace(spec, **{field: value}, **WITH.get(field, {})), record


def test_there_is_a_value_for_every_field() -> None:
    assert {field.name for field in fields(StudySpec)} == OTHER.keys() | NOT_WRITTEN


@pytest.mark.parametrize("field", OTHER)
def test_the_replaced_study_is_what_runs_is_written_and_goes_on(field: str, tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"trials": 4})
    resumable = TASK.replace('sums=("agn",)', 'sums=("agn",), resumable=True')
    (tmp_path / "bowl.py").write_text(resumable)
    spec, record = replaced(load_study(path), field, tmp_path)
    directory = tmp_path / "q"
    with Study(spec, directory) as study:
        assert run(study).end == "finished"
        best = standing(study).best
        scores = {r.trial.id: r.score for r in study.history.told()}
    (header, *_), key = ledger.read(directory), "search_space" if field == "space" else field
    assert header["spec"][key] == json.loads(json.dumps(record))
    folder = read(directory)
    assert standing(folder).best == best
    again, past = loaded(folder), folder.history
    assert again.record() == folder.spec.record()
    for resumed in (spec, again):
        epochs = past.charged + spec.budgets[0]
        stop = Stop(epochs=epochs) if field == "stop" else Stop(trials=len(past.records) + 1)
        with Study(replace(resumed, stop=stop), directory) as study:
            assert run(study).end == "finished"
            assert study.history.records[0].score == scores[0]
        past = study.history
    events = by_trial(ledger.read(directory), "told")
    for record in past.told():
        if record.outcome and record.outcome.metrics and field != "plugins":
            told = events[record.trial.id]["score"]
            assert told == spec.objective.score(record.outcome.metrics, record.trial.budget)
