"""What `check` says a study will cost, against what it then does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import study_file

from hpogen import runner
from hpogen.report.plan import missing_data, plan
from hpogen.spec import load_study
from hpogen.study import Study

BUDGETS = {"min": 2, "max": 8, "eta": 2}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"stop": {"epochs": 7}},
        {"stop": {"epochs": 100, "trials": 5}},
        {"searcher": {"name": "grid", "points": 2}, "stop": {"trials": 100}},
        {
            "searcher": {"name": "hyperband", "brackets": 3},
            "budgets": BUDGETS,
            "task": {"name": "bowl", "epochs": 8},
            "stop": {"epochs": 1000},
        },
    ],
    ids=["trials", "epochs", "both", "grid", "hyperband"],
)
def test_the_plan_is_what_happens(tmp_path: Path, keys: dict[str, Any]) -> None:
    spec = load_study(study_file(tmp_path, **keys))
    planned = plan(spec)
    with Study(spec, tmp_path / "q") as study:
        runner.run(study)
    history = study.history
    assert planned["evaluations"] == len(history.records)
    assert planned["epochs_charged"] == history.charged
    assert planned["configurations"] == sum(r.trial.parent is None for r in history.records)


def test_brackets_are_listed(tmp_path: Path) -> None:
    spec = load_study(
        study_file(
            tmp_path,
            searcher={"name": "hyperband", "brackets": 1},
            budgets=BUDGETS,
            task={"name": "bowl", "epochs": 8},
            stop={"epochs": 1000},
        )
    )
    assert plan(spec)["brackets"] == [
        [
            {"budget": 2, "configurations": 4},
            {"budget": 4, "configurations": 2},
            {"budget": 8, "configurations": 1},
        ]
    ]


def test_a_task_without_a_data_set_misses_none(tmp_path: Path) -> None:
    assert missing_data(load_study(study_file(tmp_path))) is None
