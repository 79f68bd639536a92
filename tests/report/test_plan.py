"""What `check` says a study will cost, against what it then does."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toys import SPACE, study_file

from hpogen.errors import UserError
from hpogen.report.planned import check_matrix_page, check_page
from hpogen.running import runner
from hpogen.searchers.optuna import Pool
from hpogen.spec import StudySpec, load_studies, load_study
from hpogen.study.rehearsal import COSTS, missing_data, plan, plans
from hpogen.study.study import Study

# A timer's exception that falls into a callback is lost there, and printed; it comes again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

BUDGETS = {"min": 2, "max": 8, "eta": 2}
RUNGS = {"budgets": BUDGETS, "task": {"name": "bowl", "epochs": 8}, "rungs": "continue"}
ENDLESS = 2**63 - 1


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


def asked(spec: StudySpec) -> dict[str, int]:
    """The numbers of a plan, counted by asking the searcher itself for every trial."""
    searcher, score, proposals = spec.make_searcher(), random.Random(0).random, []
    trials, epochs = spec.stop.trials or 10**9, spec.stop.epochs or 10**9
    while len(proposals) < trials and (proposal := searcher.ask()) is not None:
        epochs -= proposal.budget
        if epochs < 0:
            break
        searcher.tell(len(proposals), score())
        proposals.append(proposal)
    charged = sum(p.budget for p in proposals)
    continued = sum(proposals[p.parent].budget for p in proposals if p.parent is not None)
    return {
        "configurations": sum(p.parent is None and p.replicate == 0 for p in proposals),
        "evaluations": len(proposals),
        "epochs_charged": charged,
        "epochs_trained": charged - continued * (spec.rungs == "continue"),
    }


@pytest.mark.parametrize("stop", [{"trials": 17}, {"epochs": 77}, {"trials": 40, "epochs": 99}])
@pytest.mark.parametrize(
    "keys",
    [
        {"searcher": "random"},
        {"searcher": "cmaes"},
        {"searcher": {"name": "pso", "population": 4}},
        {"searcher": "optuna"},
        {"searcher": "listed", "enqueue": [{"x": 0.1}, {"x": 0.2}, {"x": 0.3}]},
        {"searcher": {"name": "grid", "points": 3}},
        {
            "searcher": {"name": "grid", "points": 4},
            "search_space": {
                **SPACE,
                "y": {"int": [1, 9], "when": {"z": [1]}},
                "z": {"int": [1, 2]},
            },
            "task": {"name": "any", "epochs": 3},
        },
        {"searcher": {"name": "hyperband", "brackets": 4}, **RUNGS},
        {"searcher": {"name": "bohb", "brackets": 90}, **RUNGS},
        {"searcher": "asha", **RUNGS},
        {"searcher": {"name": "asha", "sampler": "TPESampler"}, **RUNGS, "rungs": "retrain"},
    ],
    ids=lambda keys: str(keys.get("searcher", keys)),
)
def test_arithmetic_comes_to_what_asking_does(
    tmp_path: Path, keys: dict[str, Any], stop: dict[str, int]
) -> None:
    path = study_file(tmp_path, **{**keys, "stop": stop})
    source = (tmp_path / "bowl.py").read_text()
    resumable = source.replace("sums=", "resumable=True, sums=")
    free = '@task("any", metrics=METRICS)\ndef free(trial):\n    yield {}\n'
    (tmp_path / "bowl.py").write_text(resumable + free)
    spec = load_study(path)
    planned = plan(spec)
    assert {key: planned[key] for key in COSTS} == asked(spec)
    assert planned["at_least"] is None


def test_what_is_known_beforehand_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "ask", None)
    searcher = {"name": "optuna", "sampler": "GPSampler"}
    planned = plan(load_study(study_file(tmp_path, searcher=searcher, stop={"trials": ENDLESS})))
    assert planned["evaluations"] == planned["configurations"] == ENDLESS
    assert planned["epochs_charged"] == planned["epochs_trained"] == 2 * ENDLESS


def test_what_is_not_known_is_at_least_what_was_rehearsed(tmp_path: Path) -> None:
    path = study_file(tmp_path, searcher="asha", **RUNGS | {"rungs": "retrain"})
    begin = time.process_time()
    spec = load_study(path, [f"stop.trials={ENDLESS}"])
    planned = plan(spec)
    assert time.process_time() - begin < 2
    assert [planned[key] for key in COSTS] == [None] * 4
    assert planned["at_least"]["evaluations"] == ENDLESS  # ASHA has no end
    assert 100 < planned["at_least"]["configurations"] < ENDLESS
    page = "\n".join(check_page(spec, planned, "a.yaml"))
    assert "plan:       at least " in page and "rehearsed for half a second" in page


HANGS = """
from hpogen.plugins import searcher
from hpogen.searchers.random import RandomSearcher

@searcher("hangs")
class Hangs(RandomSearcher):
    size = None
    asked = 0

    def ask(self):
        self.asked += 1
        while self.asked > 3:
            pass
        return super().ask()
"""


def test_an_engine_that_does_not_come_back_is_left(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    path = study_file(tmp_path, searcher="hangs", plugins=["bowl.py", "hangs.py"])
    before = signal.getsignal(signal.SIGPROF)
    planned = plan(load_study(path))
    assert planned["evaluations"] is None
    assert planned["at_least"]["evaluations"] == 3
    assert signal.getsignal(signal.SIGPROF) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_a_matrix_is_planned_in_the_time_of_one(tmp_path: Path) -> None:
    matrix = {"stop.trials": [ENDLESS - i for i in range(60)], "seed": [0, 1, 2, 3]}
    path = study_file(tmp_path, searcher="asha", matrix=matrix, **RUNGS | {"rungs": "retrain"})
    specs = load_studies(path).specs
    begin = time.process_time()
    planned = plans(specs)
    assert time.process_time() - begin < 1.5
    assert len(planned) == 240
    page = "\n".join(check_matrix_page(planned, "a.yaml"))
    assert "≥ " in page and "≥: more depends on the scores" in page


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


def test_no_number_and_no_bracket_is_cut(tmp_path: Path) -> None:
    path = study_file(
        tmp_path,
        searcher={"name": "hyperband", "brackets": 5},
        budgets={"min": 1, "max": 81, "eta": 3},
        task={"name": "bowl", "epochs": 81},
        stop={"epochs": 100_000_000},
    )
    spec = load_study(path)
    known = plan(spec)
    page = check_page(spec, known, "a.yaml")
    assert any(line.startswith("81 × 1, 27 × 3, 9 × 9, 3 × 27, 1 × 81  ") for line in page)
    long = {**known, "name": "a-study-of-a-long-name", "epochs_charged": 12_345_678_901}
    assert any(" 12,345,678,901 " in line for line in check_matrix_page([long], "a.yaml"))


def test_a_task_without_a_data_set_misses_none(tmp_path: Path) -> None:
    assert missing_data(load_study(study_file(tmp_path))) is None


def test_a_data_set_that_cannot_be_read_is_named_with_its_place(tmp_path: Path) -> None:
    images = {"name": "mnist", "root": str(tmp_path / ("x" * 300))}
    path = study_file(
        tmp_path,
        plugins=None,
        task={"dataset": images, "model": "lenet5", "epochs": 1},
        search_space={"lr": {"float": [0.1, 1.0], "default": 0.5}},
    )
    with pytest.raises(UserError, match=r"study.*\.yaml:\d+:\d+: .*data set 'mnist': .* be read: "):
        missing_data(load_study(path))


SLOW = """
from hpogen.plugins import searcher
from hpogen.searchers.random import RandomSearcher

@searcher("slow")
class Slow(RandomSearcher):
    def WHERE:
        while True: ...
"""


@pytest.mark.parametrize("where", ["ask(self)", "tell(self, trial, score)"])
def test_a_searcher_of_ones_own_is_rehearsed_for_a_while_only(tmp_path: Path, where: str) -> None:
    path = study_file(tmp_path, searcher="slow", plugins=["bowl.py", "slow.py"])
    (tmp_path / "slow.py").write_text(SLOW.replace("WHERE", where))
    begin = time.process_time()
    planned = plan(load_study(path))
    assert time.process_time() - begin < 2
    assert planned["evaluations"] is None and planned["at_least"]["evaluations"] < 13


def test_the_import_of_an_engine_is_not_on_the_clock(tmp_path: Path) -> None:
    """In a process of its own, where nothing has imported cma before; that takes longer."""
    search = {"searcher": "cmaes", "selection": "noise_cut", "stop": {"trials": 100}}
    path = study_file(tmp_path, **search)
    command = [sys.executable, "-m", "hpogen", "check", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["evaluations"] == 100
