"""`hpogen retrain --at`, and what `best` and the report say of more data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kept import DIGITS, TASK, finished
from test_before import call, called
from toys import StopsAfter, essence

from hpogen.analysis.extrapolation import Curve, extrapolate
from hpogen.analysis.outlook import outlook
from hpogen.executors.inline import InlineExecutor
from hpogen.record import ledger
from hpogen.report.html.page import write_report
from hpogen.report.outlook import outlook_data, sentences
from hpogen.running.runner import run_all
from hpogen.study.open import open_studies
from hpogen.study.read import RETRAIN, read
from hpogen.study.sizes import plan_sizes, sized

RUNGS: dict[str, Any] = {
    "task": {**TASK, "dataset": {**DIGITS, "subset": 0.2}, "epochs": 2},
    "search_space": {"lr": {"float": [0.01, 0.3], "log": True, "default": 0.1}},
    "searcher": {"name": "hyperband", "brackets": 3},
    "budgets": {"over": "data", "min": 0.1, "max": 0.4, "eta": 2},
    "stop": {"epochs": 100},
}


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study over data: nothing was retrained."""
    return finished(tmp_path_factory.mktemp("rungs"), **RUNGS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study on its subset alone, two of whose trials were trained on three fractions."""
    directory = finished(tmp_path_factory.mktemp("made"), stop={"trials": 3})
    called("retrain", str(directory), "--at", "0.2,0.3,0.4", "--seeds", "2", "--quiet")
    return directory


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def refused(*arguments: str) -> str:
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.strip()


def test_the_first_two_are_trained_on_parts_of_what_the_search_may_see(made: Path) -> None:
    study = read(made)
    assert len(study.at_sizes) == 6 and study.retrainings == {}
    answer, second = sized(study)[:2]
    assert answer.is_answer and not second.is_answer and answer.apart and second.apart
    for inner in study.at_sizes:
        dataset, trained = (s.spec.record()["task"]["dataset"] for s in (study, inner))
        assert dataset == trained  # the same validation and audit: the fraction is the trial's
        assert [r.trial.replicate for r in inner.history.told()] == [0, 1]
    assert list(answer.runs) == [0.2, 0.3, 0.4]
    assert all(len(answer.losses(x)) == 2 for x in answer.runs)


def test_what_is_predicted_is_of_these_trainings(made: Path) -> None:
    study = read(made)
    found = outlook(study, 0.9)
    assert found is not None and not found.lacking
    curves = [
        Curve(*zip(*[(x, y) for x in one.runs for y in one.losses(x)], strict=True))
        for one in sized(study)
        if one.apart
    ]
    expected = extrapolate(curves, 0.9)
    assert [one.prediction for one in found.seen] == [*expected.predictions]
    assert found.order == expected.order
    data = outlook_data(found)
    assert json.loads(json.dumps(data)) == data and data["order_holds"] == found.order
    assert "probability of" in " ".join(sentences(found))


def test_the_page_and_the_answer_say_it(study: Path) -> None:
    page = called("retrain", str(study), "--at", "0.2,0.3,0.4", "--seeds", "2", "--quiet")
    assert "the answer, trial" in page and "at 100 %" in page and "The order of the first" in page
    assert "outlook:" in called("best", str(study))
    assert "outlook:" not in called("best", str(study), "--selection", "val_accuracy")


def test_trained_once_it_is_not_trained_again(study: Path) -> None:
    before = {s.directory.name: ledger.read(s.directory) for s in read(study).at_sizes}
    called("retrain", str(study), "--at", "0.2,0.3", "--quiet", "--seeds", "2")
    assert {s.directory.name: ledger.read(s.directory) for s in read(study).at_sizes} == before
    called("retrain", str(study), "--at", "0.2,0.3", "--seeds", "3", "--quiet")
    counts = {len(s.history.told()) for s in read(study).at_sizes}
    assert counts == {2, 3}


def test_an_interruption_changes_nothing(study: Path) -> None:
    whole = {s.directory.name: essence(ledger.read(s.directory)) for s in read(study).at_sizes}
    shutil.rmtree(study / RETRAIN)
    for epochs in (1, 2, 100):
        opened = open_studies(plan_sizes(read(study), [0.2, 0.3, 0.4], 2))
        run_all(opened, InlineExecutor(), observers=[StopsAfter(epochs)] * len(opened))
        for each in opened:
            each.close()
    found = {s.directory.name: essence(ledger.read(s.directory)) for s in read(study).at_sizes}
    assert found == whole


def test_rungs_over_data_need_no_training(rungs: Path) -> None:
    study = read(rungs)
    answer, second = sized(study)[:2]
    assert list(answer.runs)[-1] == 0.4 and not answer.apart
    found = outlook(study)
    assert found is not None and [one.sized for one in found.seen] == [answer, second]
    assert found.curves > 2  # those that were not promoted tell how curves run
    assert f'"trial": {answer.trial},' in called("best", str(rungs))
    html = write_report([rungs], rungs.parent / "r.html").read_text()
    assert "How sure is the answer?" in html and "is predicted a validation" in html


def test_of_one_size_nothing_is_predicted(tmp_path: Path) -> None:
    directory = finished(tmp_path)
    assert outlook(read(directory)) is None and "outlook" not in called("best", str(directory))
    html = write_report([directory], tmp_path / "r.html").read_text()
    assert "How sure is the answer?" in html and "is predicted" not in html


def test_of_a_training_that_failed_nothing_is_predicted(tmp_path: Path) -> None:
    space = {"lr": {"float": [0.01, 1e30], "log": True, "default": 0.1}}
    enqueue = [{"lr": 0.1}, {"lr": 1e30}]
    directory = finished(tmp_path, search_space=space, enqueue=enqueue, stop={"trials": 2})
    failed = next(r for r in read(directory).history.records if r.failure)
    called("retrain", str(directory), "--at", "0.2,0.4", "--seeds", "1", "--quiet")
    call(
        "retrain", str(directory), "--at", "0.2,0.4", "--seeds", "1", "--quiet",
        "--trial", str(failed.trial.id),
    )  # fmt: skip
    found = outlook(read(directory))
    assert found is not None and found.order is None
    lacking = {one.sized.trial: one.lacking for one in found.seen}
    assert lacking[failed.trial.id] == "diverged on 20 % of the training set"
    assert "" in lacking.values()


BAD = [
    (["--at", "0.2"], "--at: got 0.2, expected two fractions of the training set or more"),
    (["--at", "0.3,0.2"], "--at: got 0.3,0.2, expected fractions between 0 and 1 that rise"),
    (["--at", "0.2,0.2"], "--at: got 0.2,0.2, expected fractions between 0 and 1 that rise"),
    (["--at", "0.2,1.5"], "expected fractions between 0 and 1 that rise"),
    (["--at", "0.2,x"], "--at: got '0.2,x', expected numbers with commas between"),
    (["--at", "0.2,0.4", "--predict", "0.3"], "--predict: got 0.3, expected a fraction above 0.4"),
    (["--at", "0.2,0.4", "--predict", "1.2"], "--predict: got 1.2, expected a fraction above 0.4"),
    (["--at", "0.2,0.9"], "--at 0.9: data 0.9 of the 1297 training images"),
    (["--at", "0.02,0.4"], "less than one batch of the"),
    (["--at", "0.001,0.4"], "--at 0.001:"),
    (["--at", "0.2,0.4", "--top", "0"], "--top: got 0, expected 1 configuration or more"),
    (["--at", "0.2,0.4", "--seeds", "0"], "--seeds: got 0, expected 1 or more"),
    (["--at", "0.2,0.4", "--subset"], "--at: says itself what is trained: drop --subset"),
    (["--predict", "0.9"], "--predict, --top: are for --at"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "text"), BAD)
def test_what_is_refused_is_one_line(made: Path, options: list[str], text: str) -> None:
    assert text in refused("retrain", str(made), *options)


def test_what_has_no_validation_or_no_data(tmp_path: Path) -> None:
    task = {**TASK, "dataset": {**DIGITS, "validation": 0}}
    none = finished(tmp_path, task=task, objective={"preset": "train"}, stop={"trials": 1})
    assert "validation images judge, and there are none" in refused(
        "retrain", str(none), "--at", "0.2,0.4"
    )
