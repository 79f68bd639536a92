"""`track`: who is shown a study while it runs; nothing of that is in its trials, or holds it up."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_event_files import check_whole
from toys import essence, study_file, typed

from hpogen.errors import UserError
from hpogen.export.following import Following, follow
from hpogen.export.tracking import tracked
from hpogen.record import folder, ledger
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.spec.tracking import PACKAGES, Track
from hpogen.study.read import read
from hpogen.study.study import Study
from hpogen.trial import Outcome

FILES = {"tensorboard": True}
SERVER = {"mlflow": "http://127.0.0.1:5000"}
MISTAKES = [
    ({"mlflow": "localhost:5000"}, r"track.mlflow: got 'localhost:5000', expected the URL of a"),
    ({"mlflow": "htp://host"}, r"track.mlflow: got 'htp://host', expected the URL of a server"),
    ({"mlflow": "http://"}, r"track.mlflow: got 'http://', expected the URL"),
    ({"mlflow": "http://me:secret@host"}, r"track.mlflow: got a URL with a password, which the"),
    ({"mlflow": 5000}, r"track.mlflow: got 5000, expected a string"),
    ({"wandb": "team/project"}, r"track.wandb: got 'team/project', expected the name of a project"),
    ({"mlfow": "http://host"}, r"track.mlfow: 'mlfow' is unknown; did you mean 'mlflow'\?"),
    ({"aim": True}, r"track.aim: 'aim' is unknown \(mlflow, tensorboard, wandb\)"),
    ({"tensorboard": False}, r"track: names no tracker: expected mlflow, wandb or tensorboard"),
    ("mlflow", r"track: got 'mlflow', expected a mapping such as \{mlflow: http"),
]


@pytest.mark.parametrize(("track", "text"), MISTAKES)
def test_mistakes_are_one_line(track: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"study.yaml:1:\d+: {text}") as raised:
        load_study(study_file(tmp_path, track=track))
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_missing_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a study that goes on from its folder, where nobody can take the key out, does so."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    given = {"mlflow": SERVER["mlflow"], "wandb": "project"}
    path = study_file(tmp_path, track={name: given[name]})
    with pytest.raises(UserError, match=rf"track.{name}: needs a package: pip .*hpogen\[{name}\]"):
        load_study(path)
    spec = load_study(study_file(tmp_path, track=FILES))
    assert spec.from_record({**spec.record(), "track": {name: given[name]}}).track is not None


def test_the_ledger_is_that_of_the_same_study_but_for_the_key(tmp_path: Path) -> None:
    """Which may come, change and go while the study goes on."""
    plain, shown = load_study(study_file(tmp_path)), load_study(study_file(tmp_path, track=FILES))
    for name, specs in {
        "plain": [plain] * 2,
        "shown": [shown, plain],
        "later": [plain, shown],
    }.items():
        for i, spec in enumerate(specs):
            with Study(spec, tmp_path / name) as study:
                for _ in range((5, 10)[i]):
                    if (trial := study.next()) is None:
                        break
                    study.record(outcome(trial.id))
    ledgers = {n: essence(ledger.read(tmp_path / n)) for n in ("plain", "shown", "later")}
    assert "track" not in ledgers["plain"][0]["spec"] and ledgers["later"] == ledgers["plain"]
    assert ledgers["shown"][0]["spec"].pop("track") == FILES
    assert ledgers["shown"] == ledgers["plain"]
    assert read(tmp_path / "later").spec.track is None


def outcome(trial: int) -> Outcome:
    return Outcome(trial, {"val_loss": 1.0 / (trial + 1), "agn": 1.0, "gap_loss": 0.0})


def test_a_run_is_shown_by_a_process_of_its_own(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path, task={"name": "bowl", "epochs": 3}, track=FILES))
    with Study(spec, tmp_path / "q") as study:
        with tracked([study]):
            run(study)
        check_whole(tmp_path / "q", study)
    assert (tmp_path / "q" / "tensorboard" / "answer").is_dir()


def test_what_cannot_be_used_is_told_once_and_stops_no_study(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = load_study(study_file(tmp_path, track=FILES))
    with Study(spec, tmp_path / "q") as study:
        (tmp_path / "q" / "tensorboard").write_text("a file")
        with tracked([study]):
            begin = time.monotonic()
            assert run(study).end == "finished"
            assert time.monotonic() - begin < 2
        first, last = [r.message for r in caplog.records if "track." in r.message]
        assert first.startswith(f"track.tensorboard: {tmp_path}/q/tensorboard cannot be used: ")
        assert first.endswith("; the study goes on, and what is missed is sent later")
        assert last.endswith("tensorboard lacks trials: hpogen resume sends them")
        (tmp_path / "q" / "tensorboard").unlink()
        with tracked([study]):
            pass
        check_whole(tmp_path / "q", study)
    assert [r.levelno for r in caplog.records if "track." in r.message] == [logging.WARNING] * 2


def test_it_is_tried_again_while_the_study_runs(tmp_path: Path) -> None:
    with Study(load_study(study_file(tmp_path)), tmp_path / "q") as study:
        run(study)
        blocked = tmp_path / "q" / "tensorboard"
        blocked.write_text("a file")
        over, told = threading.Event(), []

        def tell(news: dict[str, Any]) -> None:
            told.append(news)
            if news["error"]:
                blocked.unlink()
            over.set()

        follow([Following(tmp_path / "q", Track(tensorboard=True), "tensorboard")], over, tell)
        assert [news["left"] for news in told] == [12, 0]
        assert told[0]["error"] and not told[1]["error"]
        check_whole(tmp_path / "q", study)


@pytest.mark.slow
def test_the_option_of_the_command_line_is_the_key(tmp_path: Path) -> None:
    path = study_file(tmp_path, track=FILES, stop={"trials": 2})
    assert typed("run", path, "--dir", tmp_path / "key") == 0
    path = study_file(tmp_path, stop={"trials": 2})
    assert typed("run", path, "--dir", tmp_path / "option", "--tensorboard") == 0
    names = [{p.name for p in (tmp_path / n / "tensorboard").iterdir()} for n in ("key", "option")]
    assert names[0] == names[1] == {"00000", "00001", "answer"}


@pytest.mark.slow
def test_killed_at_random_moments_the_curves_are_whole(tmp_path: Path) -> None:
    task = {"name": "bowl", "epochs": 4, "pause": 0.02}
    path = study_file(tmp_path, task=task, stop={"trials": 60}, track=FILES)
    command = [sys.executable, "-m", "hpogen", "run", path, "--dir", tmp_path / "q"]
    random, killed = Random(0), 0
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        had = told(tmp_path / "q")
        while process.poll() is None and told(tmp_path / "q") == had:
            time.sleep(0.01)
        time.sleep(random.random())
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed >= 2
    subprocess.run(command, check=True, capture_output=True)
    with Study(load_study(path), tmp_path / "q") as study:
        curves = [folder.read_curve(tmp_path / "q", trial) for trial in range(60)]
        assert [[row["epoch"] for row in rows] for rows in curves] == [[1, 2, 3, 4]] * 60
        check_whole(tmp_path / "q", study)


def told(directory: Path) -> int:
    try:
        return (directory / "ledger.jsonl").read_bytes().count(b'"kind":"told"')
    except OSError:
        return 0


def test_orders_that_end_without_a_word_end_the_process(tmp_path: Path) -> None:
    """The driver was killed: whoever goes on with the study sends the rest."""
    with Study(load_study(study_file(tmp_path)), tmp_path / "q") as study:
        run(study)
    process = subprocess.Popen(
        [sys.executable, "-m", "hpogen.export.following", "tensorboard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    out, _ = process.communicate(json.dumps([[str(tmp_path / "q"), FILES]]).encode() + b"\n")
    assert process.returncode == 1 and out.count(b"\n") <= 1
