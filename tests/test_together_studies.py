"""Studies whose trials train together: driven, ended early, killed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_kill import Drivers, curves
from toys import study_file, typed

from hpogen.errors import UserError
from hpogen.executors.choice import Where, executor_for
from hpogen.record import ledger
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

TRIALS = 6
STUDY: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.3, "validation": 200},
        "model": {"name": "mlp", "width": 32},
        "epochs": 4,
        "schedule": "cosine",
    },
    "search_space": {"lr": {"float": [0.001, 0.1], "log": True}, "batch_size": 32},
    "objective": {"preset": "agn+val", "alpha": 0.05, "scale": "log"},
    "stop": {"trials": TRIALS},
    "plugins": [],
}


def given(folder: Path, together: int | None, **keys: Any) -> Path:
    task = {**STUDY["task"], **keys.pop("task", {})}
    task |= {"together": together} if together else {}
    return study_file(folder, **{**STUDY, "task": task, **keys})


def ended(path: Path) -> Path:
    directory = path.parent / "run"
    with Study(load_study(path), directory) as study:
        assert run(study).end == "finished"
    return directory


@pytest.fixture
def drivers() -> Iterator[Drivers]:
    with closing(Drivers()) as drivers:
        drivers.call(["--version"])
        yield drivers


def assert_same(found: list[list[dict[str, Any]]], alone: list[list[dict[str, Any]]]) -> None:
    assert len(found) == len(alone) == TRIALS
    for rows, expected in zip(found, alone, strict=True):
        assert len(rows) == len(expected)
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other, rel=1e-5, abs=1e-5)


def test_killed_and_resumed_each_trial_is_what_it_is_alone(
    tmp_path: Path, drivers: Drivers
) -> None:
    alone = curves(ended(given(tmp_path / "alone", None)), TRIALS)
    path, directory = given(tmp_path / "together", 4), tmp_path / "killed"
    random, killed = Random(1), 0
    command = ["run", str(path), "--dir", str(directory)]
    while not drivers.call(command, random.uniform(0.3, 0.8) if killed < 3 else None):
        killed += 1
    assert killed
    assert_same(curves(directory, TRIALS), alone)
    events = [*ledger.read(directory)]
    assert [event["spec"]["task"]["together"] for event in events if "spec" in event] == [4]


def test_a_pruned_one_leaves_its_place_to_another(tmp_path: Path) -> None:
    prune = {"rule": "median", "after": 1, "n_startup_trials": 2}
    keys = {"prune": prune, "stop": {"trials": 10}, "task": {"epochs": 8}}
    directory = ended(given(tmp_path, 3, **keys))
    told = [event for event in ledger.read(directory) if event["kind"] == "told"]
    assert len(told) == 10
    assert any((event.get("failure") or {}).get("kind") == "pruned" for event in told)


def test_workers_are_refused_and_one_process_has_so_many_places(tmp_path: Path) -> None:
    together, other = (load_study(given(tmp_path / str(n), n)).task for n in (4, None))
    assert executor_for([together], Where(device="cpu")).slots == 4
    assert executor_for([together, other], Where(device="cpu")).slots == 1
    for where in (Where(workers=2), Where(ray="local")):
        with pytest.raises(UserError, match=r"task\.together: 4 trains so many trials in one proc"):
            executor_for([together], where)


def test_another_number_is_another_study(tmp_path: Path) -> None:
    directory = ended(given(tmp_path, None))
    with pytest.raises(UserError, match=r"task\.together"):
        Study(load_study(given(tmp_path, 2)), directory)


def test_check_says_what_is_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {**STUDY["search_space"], "batch_size": {"int": [16, 64]}}
    assert typed("check", given(tmp_path, 4, search_space=space)) == 0
    told = capsys.readouterr()
    assert "together:   on a CPU 4 trials in one process" in told.out
    assert "task.together: 4 trains as one network only trials of one batch_size" in told.err
    assert typed("check", given(tmp_path, None)) == 0
    assert "together" not in "".join(capsys.readouterr())


def test_the_yaml_says_where_it_cannot_be(tmp_path: Path) -> None:
    path = given(tmp_path, 4, task={"model": "resnet20"})
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert "together: 4 trains networks 'mlp' as one, got model 'resnet20'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert json.loads(path.read_text())["task"]["together"] == 4
