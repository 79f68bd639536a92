"""Tables and Optuna studies of a study's trials: the same values read back, and bad targets."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from toys import study_file

from hpogen.errors import UserError
from hpogen.export.exporting import export
from hpogen.export.optuna_studies import dashboard
from hpogen.record import folder, ledger
from hpogen.record.history import read
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import Outcome, canonical

SPACE: dict[str, Any] = {
    "x": {"float": [1e-3, 1.0], "log": True, "default": 0.5},
    "y": {"int": [1, 1000], "log": True, "default": 30},
    "kind": {"choice": ['a, "b"', 2, 0.5, True]},
    "deep": {"choice": [False, True]},
    "depth": {"int": [1, 4], "when": {"deep": [True]}},
    "fixed": "constant",
}


def searched(directory: Path, **keys: Any) -> Path:
    """Twelve trials, four of them failed; one more runs, and one is a duplicate."""
    given = {"task": {"name": "bowl", "epochs": 3, "mood": "raises"}, "search_space": SPACE, **keys}
    path = study_file(directory, **given)
    with Study(load_study(path), directory / "q") as study:
        assert run(study).end == "finished"
    twice = load_study(path, ["stop.trials=14"])
    with Study(twice, directory / "q") as study:
        trial = study.next()
        assert trial is not None
    return directory / "q"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("done"))


def told(directory: Path) -> dict[int, dict[str, Any]]:
    events = [json.loads(x) for x in (directory / ledger.LEDGER).read_text().splitlines()]
    return {event["trial"]: event for event in events if event["kind"] == "told"}


def asked(directory: Path) -> list[dict[str, Any]]:
    events = [json.loads(x) for x in (directory / ledger.LEDGER).read_text().splitlines()]
    return [event for event in events if event["kind"] == "asked"]


def by_hand(path: Path) -> pd.DataFrame:
    """A CSV as Python reads it, not pandas."""

    def value(text: str) -> int | float | bool | str | None:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        return {"": None, "True": True, "False": False}.get(text, text)

    with open(path, newline="") as file:
        rows = [{name: value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    return pd.DataFrame(rows, dtype=object)


def cells(frame: pd.DataFrame, group: str, i: int) -> dict[str, Any]:
    """The values of a group that are not missing."""
    names = [name for name in frame.columns if name.startswith(f"{group}.")]
    return {n.partition(".")[2]: frame[n][i] for n in names if not pd.isna(frame[n][i])}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_every_value_of_the_ledger(done: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trials{suffix}"
    path.write_text("what stood there before")
    assert export(done, str(path)) == 13
    frame = by_hand(path) if suffix == ".csv" else pd.read_parquet(path)
    assert [*tmp_path.iterdir()] == [path]
    results = told(done)
    assert list(frame["trial"]) == [event["trial"] for event in asked(done)]
    for i, event in enumerate(asked(done)):
        result = results.get(i, {"score": None, "metrics": {}, "failure": None, "seconds": {}})
        config = cells(frame, "config", i)
        if isinstance(config["kind"], str):
            config["kind"] = json.loads(config["kind"])  # of several types
        assert config == event["config"]
        assert cells(frame, "metrics", i) == result["metrics"]
        assert cells(frame, "seconds", i) == result["seconds"]
        assert (None if pd.isna(frame["score"][i]) else frame["score"][i]) == result["score"]
        assert frame["seed"][i] == event["seed"]
        failure = None if pd.isna(frame["failure.text"][i]) else frame["failure.text"][i]
        assert failure == (result["failure"] or {}).get("text")
        assert frame["state"][i] == ("told" if i in results else "running")
    assert frame["score"].notna().sum() == 8
    columns = [name for name in frame.columns if name.startswith("config.")]
    assert columns == [f"config.{name}" for name in SPACE]
    measured = [name for name in frame.columns if name.startswith("metrics.")]
    assert measured[0] == "metrics.val_loss" and measured[1:] == sorted(measured[1:])


def test_a_table_of_what_only_some_trials_have(tmp_path: Path) -> None:
    """Audit figures, a duplicate, cohorts: the columns are there, and missing where they are."""
    path = study_file(tmp_path, stop={"trials": 3}, enqueue=[{"x": 0.1}, {"x": 0.1}, {"x": 0.2}])
    with Study(load_study(path), tmp_path / "q") as study:
        for audit in ({}, {"loss": 0.25, "accuracy": 1 / 3}):
            trial = study.next()
            assert trial is not None
            study.record(Outcome(trial.id, {"val_loss": 0.1}, audit))
    export(tmp_path / "q", str(tmp_path / "t.parquet"))
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert [*frame["audit.accuracy"]] == [pd.NA, pd.NA, 1 / 3]
    assert [*frame["duplicate_of"]] == [pd.NA, 0, pd.NA]
    assert [*frame["epochs"]] == [2, 0, 2]
    assert frame["cohort"].isna().all() and frame["failure.kind"].isna().all()


def same(trial: optuna.trial.FrozenTrial, directory: Path) -> None:
    i = trial.number
    event, result = asked(directory)[i], told(directory).get(i)
    assert canonical(trial.params) == canonical(event["config"])
    assert trial.user_attrs["seed"] == event["seed"]
    assert trial.user_attrs["budget"] == event["budget"]
    metrics = {k[8:]: v for k, v in trial.user_attrs.items() if k.startswith("metrics.")}
    audit = {k[6:]: v for k, v in trial.user_attrs.items() if k.startswith("audit.")}
    rows = (
        [json.loads(x) for x in folder.curve_path(directory, i).read_text().splitlines()]
        if folder.curve_path(directory, i).exists()
        else []
    )
    assert trial.intermediate_values == {r["epoch"]: r["metrics"]["val_loss"] for r in rows}
    if result is None:
        assert trial.state == optuna.trial.TrialState.RUNNING and trial.value is None
        return
    assert (metrics, audit) == (result["metrics"], result["audit"])
    if result["failure"]:
        assert trial.state == optuna.trial.TrialState.FAIL and trial.value is None
        assert trial.user_attrs["failure.text"] == result["failure"]["text"]
        return
    assert trial.state == optuna.trial.TrialState.COMPLETE and trial.value == result["score"]
    assert trial.duration is not None
    assert math.isclose(trial.duration.total_seconds(), result["seconds"]["total"], abs_tol=2e-6)


def test_an_optuna_study_reads_back_with_the_same_values(done: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    assert export(done, url) == 13
    study = optuna.load_study(study_name="study", storage=url)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    trials = study.get_trials()
    assert [trial.number for trial in trials] == [*range(13)]
    for trial in trials:
        same(trial, done)
    states = [trial.state.name for trial in trials]
    assert {name: states.count(name) for name in states} == {"COMPLETE": 8, "FAIL": 4, "RUNNING": 1}
    best = min((r["score"], i) for i, r in told(done).items() if r["score"] is not None)
    assert (study.best_value, study.best_trial.number) == best
    kinds = trials[0].distributions
    assert kinds["x"] == optuna.distributions.FloatDistribution(1e-3, 1.0, log=True)
    assert kinds["y"] == optuna.distributions.IntDistribution(1, 1000, log=True)
    assert kinds["fixed"] == optuna.distributions.CategoricalDistribution(["constant"])
    assert read(done).records[0].trial.config.keys() == trials[0].params.keys()


def test_a_duplicate_has_its_twins_curve_and_numbers_are_of_one_type(tmp_path: Path) -> None:
    space = {"x": {"choice": [1, 0.5]}, "y": 10}
    enqueue = [{"x": 1}, {"x": 1}, {"x": 0.5}]
    path = study_file(tmp_path, stop={"trials": 3}, enqueue=enqueue, search_space=space)
    with Study(load_study(path), tmp_path / "q") as study:
        run(study)
    export(tmp_path / "q", str(tmp_path / "t.parquet"))
    assert [*pd.read_parquet(tmp_path / "t.parquet")["config.x"]] == [1.0, 1.0, 0.5]
    url = f"sqlite:///{tmp_path}/study.db"
    export(tmp_path / "q", url)
    first, twin, other = optuna.load_study(study_name="study", storage=url).trials
    assert len(first.intermediate_values) == 2
    assert first.intermediate_values == twin.intermediate_values != other.intermediate_values
    assert (twin.user_attrs["duplicate_of"], twin.user_attrs["epochs"]) == (0, 0)


def test_a_study_that_the_database_has_is_not_touched(done: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    export(done, url)
    before = [
        trial.user_attrs for trial in optuna.load_study(study_name="study", storage=url).trials
    ]
    with pytest.raises(UserError, match=r"study\.db has a study 'study' already: delete"):
        export(done, url)
    study = optuna.load_study(study_name="study", storage=url)
    assert [trial.user_attrs for trial in study.trials] == before


def test_all_studies_of_a_matrix_or_none(done: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        path = study_file(tmp_path / "y", stop={"trials": 2}, seed=ord(name), name=name)
        with Study(load_study(path), tmp_path / "m" / name) as study:
            run(study)
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url, study_name="b")
    with pytest.raises(UserError, match="has a study 'b' already"):
        export(tmp_path / "m", url)
    assert optuna.get_all_study_names(url) == ["b"]
    optuna.delete_study(study_name="b", storage=url)
    assert export(tmp_path / "m", url) == 4
    assert optuna.get_all_study_names(url) == ["a", "b"]
    export(tmp_path / "m", str(tmp_path / "t.csv"))
    frame = pd.read_csv(tmp_path / "t.csv")
    assert [*zip(frame["study"], frame["trial"], strict=True)] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("b", 1),
    ]


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("trials.xlsx", r"--to: got 'trials.xlsx', expected a file that ends in .csv or .parquet"),
        ("trials", "--to: got 'trials', expected"),
        ("nowhere/trials.csv", "nowhere/trials.csv: cannot be written: No such file"),
        ("sqlite:///nowhere/study.db", "--to: sqlite:///nowhere/study.db cannot be used: .*unable"),
        ("sqlight:///study.db", "--to: sqlight:///study.db cannot be used: .*sqlight"),
        (
            "postgresql://me:secret@127.0.0.1:9/q",
            r"--to: postgresql://me:\*\*\*@127.0.0.1:9/q cannot",
        ),
        ("://", "cannot be used: "),
    ],
)
def test_targets_that_cannot_be_written(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as raised:
        export(done, to)
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_cannot_be_written(done: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(UserError, match=r"t\.csv: cannot be written: Is a directory"):
        export(done, str(tmp_path / "t.csv"))


def test_no_study_and_no_trial(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no study here"):
        export(tmp_path, "t.csv")
    Study(load_study(study_file(tmp_path)), tmp_path / "q").close()
    assert export(tmp_path / "q", str(tmp_path / "t.csv")) == 0
    assert export(tmp_path / "q", str(tmp_path / "t.parquet")) == 0
    assert export(tmp_path / "q", f"sqlite:///{tmp_path}/s.db") == 0
    assert len(pd.read_csv(tmp_path / "t.csv")) == 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.slow
def test_the_dashboard_shows_the_study(done: Path) -> None:
    port = free_port()
    code = (
        "from pathlib import Path; from hpogen.export.optuna_studies import dashboard; "
        f"dashboard(Path({str(done)!r}), {port})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                    studies = json.load(answer)["study_summaries"]
                break
            except OSError:
                time.sleep(0.1)
        assert [study["study_name"] for study in studies] == ["study"]
        number = studies[0]["study_id"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/{number}") as answer:
            trials = json.load(answer)["trials"]
        assert [t["state"] for t in trials].count("Complete") == 8
        assert end(process) is not None
    finally:
        process.kill()
        process.wait()
    assert not [*done.glob("*.db")]


def end(process: subprocess.Popen[bytes]) -> int | None:
    """Press Ctrl-C; once more where a request swallowed it."""
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(5)
    return None


@pytest.mark.slow
def test_a_port_that_is_taken(done: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port: {port} cannot be used: .*already in use"):
            dashboard(done, port)
