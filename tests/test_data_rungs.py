"""Rungs on fractions of the training set: promotion, charges, resuming, reuse, what is refused."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, StopsAfter, by_trial, essence, study_file

from hpogen.analysis.rescoring import rescore
from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.export.rows import table
from hpogen.objective import Objective, Term
from hpogen.record import events as lines
from hpogen.record import ledger
from hpogen.report.html.page import write_report
from hpogen.report.planned import check_page
from hpogen.report.rescore import rescore_page
from hpogen.report.text import WARM as SAID
from hpogen.running import runner
from hpogen.spec import load_study
from hpogen.spec.form import BudgetsForm
from hpogen.study import places, status
from hpogen.study.read import read
from hpogen.study.rehearsal import plan
from hpogen.study.retrained import plan_again
from hpogen.study.study import Study
from hpogen.trial import Rung, Trial

FUNNEL = '''
"""A loss that falls with the data; `honest` says whether the task heeds trial.data."""
from hpogen.plugins import task

@task("funnel", metrics=("val_loss", "agn"), sums=("agn",), data=True)
def funnel(trial):
    x, data = trial.config["x"], 1.0 if trial.data is None else trial.data
    for epoch in range(trial.budget):
        yield {"val_loss": (x - 0.3) ** 2 + 0.1 / data / (epoch + 1), "agn": (epoch + 1) * x}

@task("deaf", metrics=("val_loss",))
def deaf(trial):
    for _ in range(trial.budget):
        yield {"val_loss": trial.config["x"]}
'''
OVER = {"over": "data", "min": 0.1, "max": 0.8, "eta": 2}
BOTH = {**OVER, "over": ["epochs", "data"]}
KEYS: dict[str, Any] = {
    "task": {"name": "funnel", "epochs": 8},
    "search_space": {"x": {"float": [0.0, 1.0]}},
    "searcher": {"name": "hyperband", "brackets": 4},
    "budgets": OVER,
    "stop": {"epochs": 1000},
    "plugins": ["funnel.py"],
}
STANDARD: dict[str, Any] = {
    "terms": [{"metric": "val_loss"}, {"metric": "agn", "scale": "standard"}],
    "standard_after": 3,
}
SEARCHERS: dict[str, dict[str, Any]] = {
    "hyperband": {"searcher": {"name": "hyperband", "brackets": 4}},
    "bohb": {"searcher": {"name": "bohb", "brackets": 4}, "budgets": BOTH},
    "asha": {"searcher": "asha", "stop": {"epochs": 60}, "objective": STANDARD},
}
IMAGES: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": 100, "audit": 100},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [0.001, 1.0], "log": True, "default": 0.1}},
    "searcher": {"name": "hyperband", "brackets": 1},
    "budgets": {"over": "data", "min": 0.05, "max": 0.4, "eta": 2},
    "stop": {"epochs": 1000},
    "plugins": [],
}


def study_of(directory: Path, **keys: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "funnel.py").write_text(FUNNEL)
    return study_file(directory, **{**KEYS, **keys})


def images(directory: Path, **keys: Any) -> Path:
    return study_file(directory, **{**IMAGES, **keys})


def finished(path: Path, directory: Path, executor: Any = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert runner.run(study, executor).end == "finished"
    return ledger.read(directory)


def interrupted(path: Path, directory: Path, seed: int) -> list[dict[str, Any]]:
    """The study, stopped after a few epochs again and again."""
    chance = random.Random(seed)
    for _ in range(100):
        with Study(load_study(path), directory) as study:
            stop = StopsAfter(chance.randrange(1, 40))
            if runner.run(study, InlineExecutor(), observer=stop).end == "finished":
                return ledger.read(directory)
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("of", SEARCHERS)
def test_an_interrupted_study_has_the_same_ledger(of: str, tmp_path: Path) -> None:
    path = study_of(tmp_path, **SEARCHERS[of])
    undisturbed = finished(path, tmp_path / "q")
    assert essence(interrupted(path, tmp_path / "p", 1)) == essence(undisturbed)
    asked = by_trial(undisturbed, "asked").values()
    assert {event["data"] for event in asked} == {0.1, 0.2, 0.4, 0.8}


def test_a_promoted_configuration_is_the_best_of_its_rung(tmp_path: Path) -> None:
    events = finished(study_of(tmp_path), tmp_path / "q", ShuffledExecutor(1))
    asked, told = by_trial(events, "asked"), by_trial(events, "told")
    below = {0.2: 0.1, 0.4: 0.2, 0.8: 0.4}
    promoted = [event for event in asked.values() if event["parent"] is not None]
    assert len(promoted) > 5
    for event in promoted:
        parent = asked[event["parent"]]
        assert (parent["config"], parent["data"]) == (event["config"], below[event["data"]])
        rivals = [t for t, e in asked.items() if e["cohort"] == parent["cohort"]]
        better = sum(told[t]["score"] < told[event["parent"]]["score"] for t in rivals)
        assert better < len(rivals) / 2


@pytest.mark.parametrize("of", ["hyperband", "bohb"])
def test_the_plan_is_what_is_charged(of: str, tmp_path: Path) -> None:
    spec = load_study(study_of(tmp_path, **SEARCHERS[of]))
    planned = plan(spec)
    finished(study_of(tmp_path, **SEARCHERS[of]), tmp_path / "q")
    history = read(tmp_path / "q").history
    assert planned["evaluations"] == len(history.records)
    assert planned["epochs_charged"] == history.charged
    assert planned["epochs_trained"] == history.trained
    by_hand = sum(r.trial.budget * Fraction(str(r.trial.data)) for r in history.records)
    assert history.spent == by_hand


@pytest.mark.parametrize("epochs", [6, 7])
def test_what_fits_in_stop_does_not_depend_on_rounding(epochs: int, tmp_path: Path) -> None:
    one = {"over": "data", "min": 0.1, "max": 0.1, "eta": 2}
    task = {"name": "funnel", "epochs": 3}
    path = study_of(tmp_path, searcher="random", budgets=one, task=task, stop={"epochs": epochs})
    assert sum([0.3] * 20) != 6
    events = finished(path, tmp_path / "q")
    assert len(by_trial(events, "asked")) == {6: 20, 7: 23}[epochs]
    assert plan(load_study(path))["evaluations"] == {6: 20, 7: 23}[epochs]
    found = status.status(read(tmp_path / "q"))
    assert found["epochs_charged"] == pytest.approx({6: 6, 7: 6.9}[epochs])


def test_epochs_and_data_go_up_together(tmp_path: Path) -> None:
    spec = load_study(study_of(tmp_path, budgets=BOTH))
    assert spec.ladder == (Rung(1, 0.1), Rung(2, 0.2), Rung(4, 0.4), Rung(8, 0.8))
    assert spec.budgets == (1, 2, 4, 8)
    assert spec.record()["budgets"] == {**OVER, "over": ["data", "epochs"], "warm": False}
    assert type(spec).from_record(spec.record(), [tmp_path / "funnel.py"]).ladder == spec.ladder
    with pytest.raises(UserError, match="epochs 12 does not go down by 2 to the lowest of 4 rungs"):
        load_study(study_of(tmp_path, budgets=BOTH, task={"name": "funnel", "epochs": 12}))


def test_fractions_are_the_decimal_numbers_that_they_are_written_as() -> None:
    form = BudgetsForm.model_validate({"over": "data", "min": 0.01, "max": 0.81, "eta": 3})
    assert [rung.data for rung in form.ladder(5, 0.09)] == [0.01, 0.03, None, 0.27, 0.81]
    assert form.rungs() == (1, 3, 9, 27, 81)


def test_a_scale_is_frozen_for_each_rung(tmp_path: Path) -> None:
    events = finished(study_of(tmp_path, objective=STANDARD), tmp_path / "q")
    scales = [event for event in events if event["kind"] == "scale"]
    assert [e["data"] for e in scales] == [0.1, 0.2, 0.4, 0.8]
    assert {e["budget"] for e in scales} == {8}
    history = read(tmp_path / "q").history
    assert {*history.locations} == {Rung(8, data) for data in (0.1, 0.2, 0.4, 0.8)}


def test_sums_over_steps_are_divided_by_as_many_steps() -> None:
    terms = (Term("steps", 1.0, "per_epoch"), Term("epochs", 1.0, "per_epoch"))
    sums = frozenset({"steps", "epochs"})
    objective = Objective(terms, "x", sums, step_sums=frozenset({"steps"}), subset=0.2)
    metrics = {"steps": 30.0, "epochs": 40.0}
    assert objective.score(metrics, 10) == objective.score(metrics, 10, data=0.2) == 3 + 4
    assert objective.score(metrics, 10, data=0.1) == 6 + 4


def test_a_matrix_trains_a_trial_once_and_mixes_no_fractions(tmp_path: Path) -> None:
    studies = []
    for name, fraction in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        one = {"over": "data", "min": fraction, "max": fraction, "eta": 2}
        path = study_of(tmp_path / name, searcher="random", budgets=one, stop={"trials": 4})
        studies.append(Study(load_study(path), tmp_path / f"q{name}"))
    runner.run_all(studies)
    reused = [study.history.reused for study in studies]
    assert reused[0] + reused[1] == 4 and reused[2] == 0
    losses = [[r.outcome.metrics for r in study.history.records if r.outcome] for study in studies]
    assert losses[0] == losses[1] and losses[0][0] != losses[2][0]
    for study in studies:
        study.close()


def test_images_are_trained_on_more_and_more(tmp_path: Path) -> None:
    path = images(tmp_path)
    events = finished(path, tmp_path / "q")
    asked = [(e["budget"], e.get("data")) for e in events if e["kind"] == "asked"]
    assert asked == 8 * [(2, 0.05)] + 4 * [(2, 0.1)] + 2 * [(2, None)] + [(2, 0.4)]
    folder = read(tmp_path / "q")
    assert folder.history.charged == plan(load_study(path))["epochs_charged"] == 4 + 4 + 4 + 4
    assert [record.trial.id for record in folder.finished] == [14]
    assert status.best(folder)["data"] == 0.4 and status.trial(folder, 0)["data"] == 0.05
    assert table([folder])["data"].tolist()[:1] == [0.05]
    for number in (0, 14):  # by the same images, seed and epochs: the same numbers
        (again,) = plan_again(folder, number).items()
        finished_again = tmp_path / f"again{number}"
        with Study(again[1], finished_again) as study:
            runner.run(study)
        first = read(finished_again).history.records[0]
        before = folder.history.records[number]
        assert first.outcome and before.outcome
        assert first.outcome.metrics == before.outcome.metrics


EPOCHS = {"min": 1, "max": 2, "eta": 2}
WARM = {"budgets": {**IMAGES["budgets"], "warm": True}, "rungs": "continue"}


def test_a_warm_trial_begins_with_the_weights_of_its_parent(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"search_space": {"lr": {"float": [0.05, 0.1], "default": 0.07}}}
    keys["task"] = {**IMAGES["task"], "epochs": 12}
    warm = {"budgets": {**IMAGES["budgets"], "min": 0.2, "warm": True}, "rungs": "continue"}
    cold = {"budgets": {**IMAGES["budgets"], "min": 0.2}}
    folders = []
    for name, own in (("warm", warm), ("cold", cold)):
        finished(images(tmp_path / name, **keys, **own), tmp_path / name / "q")
        folders.append(read(tmp_path / name / "q"))
    promoted = [r.trial.id for r in folders[0].history.records if r.trial.parent is not None]
    assert promoted
    for trial in promoted:
        curves = [folder.curve(trial) for folder in folders]
        assert [len(curve) for curve in curves] == [12, 12]
        first, anew = (curve[0]["metrics"]["train_loss_online"] for curve in curves)
        assert first < 0.75 * anew
    assert folders[0].history.trained == folders[0].history.charged
    spec = folders[0].spec
    assert f"rungs:      {SAID}" in check_page(spec, plan(spec), "q.yaml")
    assert SAID in write_report([folders[0].directory], tmp_path / "r.html").read_text()


def test_a_searcher_that_asks_for_another_budget_is_told_which_there_are(tmp_path: Path) -> None:
    spec = load_study(images(tmp_path))
    with pytest.raises(UserError, match="asked for the budget 3, expected one of 1, 2"):
        spec.rung(3)


@pytest.mark.parametrize("warm", [True, False])
def test_the_weights_of_a_duplicate_are_those_of_the_first(warm: bool, tmp_path: Path) -> None:
    keys: dict[str, Any] = WARM if warm else {"rungs": "continue", "budgets": EPOCHS}
    with Study(load_study(images(tmp_path, **keys)), tmp_path / "q") as study:
        low, high = study.spec.ladder[:2]
        for number, (rung, parent) in enumerate([(low, None), (low, None), (high, 1)]):
            trial = Trial({"lr": 0.1}, rung.epochs, parent, data=rung.data, id=number, seed=1)
            study.history.apply(lines.asked(trial))
        assert study.history.records[1].twin == 0
        found = [places.parent(study, record.trial) for record in study.history.records]
    assert [each and each.id for each in found] == [None, None, 0 if warm else 1]


def test_a_warm_study_that_is_interrupted_has_the_same_ledger(tmp_path: Path) -> None:
    path = images(tmp_path, **WARM)
    undisturbed = finished(path, tmp_path / "q")
    assert essence(interrupted(path, tmp_path / "p", 2)) == essence(undisturbed)
    trials = (tmp_path / "q" / "trials").iterdir()
    assert not [file for file in trials if file.is_dir() and any(file.iterdir())]


def test_a_command_is_told_the_fraction(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import json, sys\nprint(json.dumps({'val_loss': float(sys.argv[1])}))\n")
    command = {
        "name": "command",
        "command": f"python {program} {{data}} {{x}}",
        "metrics": ["val_loss"],
        "epochs": 1,
    }
    one = {**OVER, "min": 0.4, "max": 0.8}
    path = study_of(tmp_path, task=command, budgets=one, stop={"trials": 3})
    events = finished(path, tmp_path / "q")
    asked = by_trial(events, "asked")
    for trial, event in by_trial(events, "told").items():
        assert event["metrics"]["val_loss"] == asked[trial]["data"]


def test_a_command_may_search_what_it_calls_data(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import json, sys\nprint(json.dumps({'val_loss': float(sys.argv[1])}))\n")
    path = study_file(
        tmp_path,
        task={
            "name": "command",
            "command": f"python {program} {{data}}",
            "metrics": ["val_loss"],
            "epochs": 1,
        },
        search_space={"data": {"float": [0.0, 1.0]}},
        stop={"trials": 2},
        plugins=[],
    )
    asked = by_trial(events := finished(path, tmp_path / "q"), "asked")
    for trial, event in by_trial(events, "told").items():
        assert event["metrics"]["val_loss"] == asked[trial]["config"]["data"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"budgets": {**OVER, "min": 0.9}}, "budgets: got min 0.9 > max 0.8"),
    ({"budgets": {**OVER, "max": 0.7}}, "budgets: max 0.7 is not 0.1 times a power of 2"),
    ({"budgets": {**OVER, "max": 1.6}}, "budgets: max 1.6 is no fraction of the data"),
    ({"budgets": {**OVER, "min": 0}}, "budgets.min: got 0, expected more than 0"),
    ({"budgets": {**OVER, "over": "images"}}, "budgets.over: got 'images', expected 'epochs' or"),
    ({"budgets": {**OVER, "over": ["data", "data"]}}, "budgets.over: got 'data' twice"),
    ({"budgets": {"min": 0.5, "max": 8, "eta": 2}}, "min 0.5 is no number of epochs"),
    ({"budgets": {"min": 1, "max": 8, "eta": 2, "warm": True}}, "budgets.warm: is for rungs over"),
    ({"searcher": "random"}, "budgets: searcher 'random' has one budget"),
    ({"task": {"name": "deaf", "epochs": 8}}, "budgets.over: task 'deaf' knows no fraction of"),
    ({"rungs": "continue"}, "rungs: 'continue' is refused over data"),
    ({"budgets": {**OVER, "warm": True}}, "budgets.warm: needs rungs: continue"),
    ({"budgets": {**OVER, "warm": True}, "rungs": "continue"}, "hpogen does not keep the weights"),
    (
        {"budgets": {**OVER, "warm": True}, "rungs": "continue", "selection": "noise_cut"},
        "selection 'noise_cut' trains trials again from the start",
    ),
    ({"search_space": {"data": {"float": [0, 1]}}}, "search_space.data: is searched, and rungs"),
    ({"stop": {"epochs": 1}, "task": {"name": "funnel", "epochs": 20}}, "one trial takes 2 epochs"),
]


@pytest.mark.parametrize(("keys", "text"), BAD)
def test_what_is_refused_is_one_line(keys: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_study(study_of(tmp_path, **keys))
    assert text in str(error.value) and "\n" not in str(error.value)


DIGITS = IMAGES["task"]["dataset"]
BAD_IMAGES: list[tuple[dict[str, Any], str]] = [
    ({"max": 0.8, "min": 0.1}, "budgets.max: data 0.8 of the 1297 training images"),
    ({"max": 0.08, "min": 0.005}, "budgets.min: data 0.005 of the 1297 training images"),
    ({"validation": {"size": 50, "redraw": True}}, "budgets.max: data 0.4 is more than the subset"),
    ({"rungs": "continue"}, "rungs: 'continue' is refused over data"),
    ({"batch_size": [100, 200]}, "budgets.min: batch_size is at least 100, and the subset has 65"),
    *(
        ({"metric": name}, f"{name!r} depends on the number of samples")
        for name in ("gsnr", "gsnr_head_ratio", "osgr_head", "same_sign", "opposite_sign_head")
    ),
]


@pytest.mark.parametrize(("given", "text"), BAD_IMAGES)
def test_images_that_there_are_not(given: dict[str, Any], text: str, tmp_path: Path) -> None:
    budgets = {**IMAGES["budgets"], **{k: v for k, v in given.items() if k in ("min", "max")}}
    dataset = {**DIGITS, "audit": 300, **{k: v for k, v in given.items() if k == "validation"}}
    keys: dict[str, Any] = {"budgets": budgets, "task": {**IMAGES["task"], "dataset": dataset}}
    if "batch_size" in given:
        sizes = {"batch_size": {"int": given["batch_size"]}}
        keys["search_space"] = {**IMAGES["search_space"], **sizes}
    if "metric" in given:
        keys["objective"] = {"terms": [{"metric": given["metric"], "scale": "log"}]}
    if "rungs" in given:
        keys["rungs"] = given["rungs"]
    with pytest.raises(UserError) as error:
        load_study(images(tmp_path, **keys))
    assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("scale", ["standard", "log"])
def test_measures_that_may_be_terms(scale: str, tmp_path: Path) -> None:
    name = {"standard": "gsnr_head", "log": "agn_lr"}[scale]
    spec = load_study(images(tmp_path, objective={"terms": [{"metric": name, "scale": scale}]}))
    assert spec.objective.step_sums == {"agn_lr"} and spec.objective.subset == 0.2


def test_a_users_measure_may_say_that_it_depends_on_the_number_of_samples(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from hpogen.plugins import measure\n"
        '@measure("own_sum", of="head", by_samples=("own_sum",))\n'
        'def own_sum(head):\n    """Grows with the samples."""\n    return float(head.count)\n'
    )
    keys: dict[str, Any] = {"plugins": ["own.py"]}
    keys["objective"] = {"terms": [{"metric": "own_sum", "scale": "log"}]}
    with pytest.raises(UserError, match="'own_sum' depends on the number of samples"):
        load_study(images(tmp_path, **keys))


def test_trials_of_other_rungs_are_not_compared(tmp_path: Path) -> None:
    finished(study_of(tmp_path), tmp_path / "q")
    folder = read(tmp_path / "q")
    assert {record.trial.data for record in folder.finished} == {0.8}
    costs = [folder.history.cost(rung) for rung in folder.spec.ladder]
    assert all(high == 2 * low for low, high in itertools.pairwise(costs))


def test_rescore_names_the_fraction(tmp_path: Path) -> None:
    finished(study_of(tmp_path), tmp_path / "q")
    found = rescore(read(tmp_path / "q"))
    assert (found.budget, found.data) == (8, 0.8)
    page = " ".join(rescore_page(found, "q", 200, "hpogen"))
    assert "of 8 epochs on 80 % of the data" in page
