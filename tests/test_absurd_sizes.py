"""Sizes out of all proportion: refused in a line, or trained until somebody has had enough."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from toys import StopsAfter, by_trial, study_file

from hpogen import Study, load_study, run
from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.spec import load_studies
from hpogen.study.rehearsal import plan

# A timer's exception that falls into a callback is lost there, and printed; it comes again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HUGE = 2**62


def images(space: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    return {
        "task": {"dataset": "digits", "model": "mlp", "epochs": 1, **task},
        "search_space": {"lr": {"float": [0.01, 0.1]}, **(space or {})},
    }


REFUSED: dict[str, dict[str, Any]] = {
    "task.threads": {"task": {"name": "bowl", "epochs": 2, "threads": 2**31}},
    "task.model: depth": images(model={"name": "mlp", "depth": HUGE}),
    "task.model: width": images(model={"name": "mlp", "width": HUGE}),
    "search_space.depth.int": images({"depth": {"int": [1, HUGE]}}),
    "search_space.batch_size.int": images({"batch_size": {"int": [1, HUGE]}}),
    "task.dataset": images(dataset={"name": "digits", "validation": HUGE}),
    "matrix": {"matrix": {"seed": [*range(1000)], "stop.trials": [1, 2]}},
}


@pytest.fixture(scope="module")
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What refusing the options of a model imports takes seconds, whatever the sizes."""
    with pytest.raises(UserError, match="depth"):
        load_study(
            study_file(tmp_path_factory.mktemp("a"), **images(model={"name": "mlp", "depth": -1}))
        )


@pytest.mark.usefixtures("_imported")
@pytest.mark.parametrize("where", REFUSED)
def test_a_size_that_nothing_has_is_refused_in_a_line(where: str, tmp_path: Path) -> None:
    path = study_file(tmp_path, **REFUSED[where])
    begin = time.process_time()
    with pytest.raises(UserError, match=rf"study\.yaml:1:\d+: {re.escape(where)}: [^\n]*$"):
        load_study(path) if where != "matrix" else load_studies(path)
    assert time.process_time() - begin < 5


BEGUN: dict[str, dict[str, Any]] = {
    "epochs": {"task": {"name": "bowl", "epochs": HUGE}},
    "trials": {"stop": {"trials": HUGE}},
    "epochs charged": {"stop": {"epochs": HUGE}},
    "seconds": {"limits": {"trial_seconds": 1e300, "epoch_seconds": 1e300}},
    "errors": {"limits": {"max_consecutive_errors": HUGE}},
    "rungs": {
        "searcher": "asha",
        "budgets": {"min": 1, "max": HUGE, "eta": 2},
        "task": {"name": "bowl", "epochs": HUGE},
    },
    "one rung above": {
        "searcher": "asha",
        "budgets": {"min": 1, "max": HUGE, "eta": HUGE},
        "task": {"name": "bowl", "epochs": HUGE},
        "stop": {"trials": HUGE},
    },
    "start": {"searcher": {"name": "optuna", "n_startup_trials": HUGE}},
}


@pytest.mark.parametrize("what", BEGUN)
def test_a_study_without_end_is_planned_begun_and_stopped(what: str, tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path, **BEGUN[what]))
    begin = time.process_time()
    plan(spec)
    with Study(spec, tmp_path / "q") as study:
        assert run(study, observer=StopsAfter(5)).end == "interrupted"
    assert time.process_time() - begin < 5
    assert by_trial(ledger.read(tmp_path / "q"), "asked")


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"schedule": {"name": "cosine", "warmup": HUGE - 1}}])
def test_images_without_end_are_trained_and_stopped(keys: dict[str, Any], tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path, **images(epochs=HUGE, **keys)))
    with Study(spec, tmp_path / "q") as study:
        assert run(study, observer=StopsAfter(2)).end == "interrupted"
