"""The commands, in this process where that is enough and as real processes where it is not."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toys import by_trial, essence, study_file

from hpogen import plugins
from hpogen.cli import main
from hpogen.record import ledger
from hpogen.report.listing import measures_page, models_page
from hpogen.running import runner
from hpogen.spec.positions import read as read_yaml

ROOT = Path(__file__).parents[1]

SLOW = """
import time
from hpogen.plugins import task

@task("slow", metrics=("val_loss",))
def slow(trial, *, wait: float = 0.02):
    for epoch in range(trial.budget):
        time.sleep(wait)
        yield {"val_loss": trial.config["x"] + 1 / (epoch + 1)}
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def hpogen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Call]:
    """Call the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/hpogen", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    yield call


def slow_study(directory: Path, **keys: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "slow.py").write_text(SLOW)
    task = {"name": "slow", "epochs": 5, **keys.pop("task", {})}
    return study_file(directory, task=task, plugins=["slow.py"], **keys)


def start(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "hpogen", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        text=True,
        cwd=cwd,
        env=environment,
    )


def finish(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


def wait_for_trials(directory: Path, count: int) -> None:
    """Until so many trials have been told."""
    deadline = time.monotonic() + 120
    path = directory / "ledger.jsonl"
    while not path.exists() or path.read_text().count('"kind":"told"') < count:
        assert time.monotonic() < deadline, "the study does not get on"
        time.sleep(0.01)


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_run_trains_all_trials_and_says_what_was_chosen(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path)
    done = hpogen("run", "study.yaml")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("trial ")] == [
        *map(str, range(12))
    ]
    best = json.loads(hpogen("best", "runs/study", "--json").out)
    assert f" best     trial {best['trial']}: score" in done.out
    assert " folder   runs/study\n next     /usr/bin/hpogen best runs/study" in done.out
    assert "ask study=study trial=0 budget=2" in (tmp_path / "runs/study/hpogen.log").read_text()


def test_the_lines_mark_each_best_so_far(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path)
    lines = hpogen("run", "study.yaml").out.splitlines()
    told = [line for line in lines if line.startswith("trial ")]
    scores = [float(line.split()[3].rstrip(",")) for line in told]
    marked = [i for i, line in enumerate(told) if line.endswith("best so far")]
    assert marked == [i for i, x in enumerate(scores) if x < min(scores[:i], default=10.0)]


def test_a_finished_study_is_left_as_it_is(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path)
    hpogen("run", "study.yaml", "--dir", "q")
    before = contents(tmp_path / "q")
    again, resumed = hpogen("run", "study.yaml", "--dir", "q"), hpogen("resume", "q")
    assert contents(tmp_path / "q") == before
    for done in (again, resumed):
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("\n study had finished, nothing changed: 12 trials")


def test_resume_needs_no_yaml_and_keeps_a_raised_stop(tmp_path: Path, hpogen: Call) -> None:
    path = study_file(tmp_path)
    hpogen("run", "study.yaml", "--dir", "q")
    hpogen("run", "study.yaml", "--dir", "q", "--set", "stop.trials=15", "--for", "0s")
    path.unlink()
    (tmp_path / "bowl.py").unlink()
    done = hpogen("resume", "q")
    assert (done.code, done.err) == (0, "")
    assert len(by_trial(ledger.read(tmp_path / "q"), "told")) == 15


def test_a_plug_in_that_was_changed_is_taken_from_the_folder(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path)
    hpogen("run", "study.yaml", "--dir", "q")
    (tmp_path / "bowl.py").write_text("raise RuntimeError('changed')")
    assert hpogen("resume", "q").code == 0
    refused = hpogen("run", "study.yaml", "--dir", "q")
    assert refused.code == 2 and "changed" in refused.err


@pytest.mark.parametrize(
    ("keys", "arguments", "beginning"),
    [
        ({"searcher": "bohbb"}, [], "study.yaml:1:"),
        ({}, ["--set", "stop.trials=no"], "study.yaml: --set stop.trials: "),
        ({}, ["--device", "tpu"], "--device: got 'tpu', expected auto, cpu or cuda:K"),
        ({}, ["--for", "soon"], "--for: got 'soon', expected "),
        ({}, ["--workers", "0"], "--workers: got 0, expected 1 or more"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, hpogen: Call, keys: dict[str, Any], arguments: list[str], beginning: str
) -> None:
    study_file(tmp_path, **keys)
    done = hpogen("run", "study.yaml", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(beginning)
    assert done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_data_that_cannot_be_had_are_one_line(tmp_path: Path, hpogen: Call) -> None:
    dataset = {"name": "mnist", "root": "nowhere", "download": False}
    (tmp_path / "nowhere").mkdir()
    space = {
        "lr": {"float": [0.1, 1.0], "default": 0.1},
        "batch_size": {"int": [8, 16], "default": 8},
    }
    task = {"name": "image-classification", "dataset": dataset, "model": "mlp", "epochs": 1}
    study_file(tmp_path, task=task, search_space=space, plugins=[])
    done = hpogen("run", "study.yaml")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert re.match(
        rf"study\.yaml:1:\d+: data set 'mnist' is not in '{tmp_path}/nowhere'", done.err
    )
    checked = hpogen("check", "study.yaml", "--json")
    assert checked.code == 0
    assert checked.err.startswith("warning: study.yaml:1:")
    assert json.loads(checked.out)["evaluations"] == 12
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["nowhere"]


@pytest.mark.parametrize("command", ["resume", "status", "best"])
def test_a_folder_without_a_study_is_one_line(tmp_path: Path, hpogen: Call, command: str) -> None:
    done = hpogen(command, "runs/none")
    assert (done.code, done.out) == (2, "")
    assert done.err == "runs/none: there is no study here (no ledger.jsonl)\n"
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "words",
    ["resume", "status", "best", "watch", "rescore", "show FILE 0", "export FILE --to a.csv"],
)
def test_a_file_is_no_studys_folder(tmp_path: Path, hpogen: Call, words: str) -> None:
    study_file(tmp_path)
    done = hpogen(
        *(words if "FILE" in words else f"{words} FILE").replace("FILE", "study.yaml").split()
    )
    assert (done.code, done.out) == (2, "")
    assert done.err == ("study.yaml is a file, expected the study's folder, such as runs/study\n")


def test_run_of_a_folder_leads_to_resume(tmp_path: Path, hpogen: Call) -> None:
    (tmp_path / "runs" / "long" / "seed-0").mkdir(parents=True)
    assert hpogen("run", "runs/long").err == "runs/long: is not a file\n"
    said = "{0}: is a study's folder: go on with: hpogen resume {0}\n"
    (tmp_path / "runs" / "long" / "seed-0" / "ledger.jsonl").touch()
    for home in ("runs/long/seed-0", "runs/long"):  # a study's, a matrix's
        done = hpogen("run", home)
        assert (done.code, done.out, done.err) == (2, "", said.format(home))


def test_a_wrong_command_line_exits_with_two(hpogen: Call) -> None:
    done = hpogen("run")
    assert done.code == 2 and "STUDY.yaml" in done.err


def test_a_study_of_errors_stops_itself(tmp_path: Path, hpogen: Call) -> None:
    task = {"name": "bowl", "epochs": 2, "mood": "always raises"}
    study_file(tmp_path, task=task, limits={"max_consecutive_errors": 3})
    done = hpogen("run", "study.yaml")
    assert done.code == 1
    text = " ".join(done.out.split())
    assert "stopped itself after 3 errors in a row, trial 2: RuntimeError: never in the" in text
    assert "next /usr/bin/hpogen show runs/study 2 /usr/bin/hpogen resume runs/study" in text
    shown = hpogen("show", "runs/study", "2")
    assert shown.out.startswith("trial 2: error: RuntimeError: never in the mood\n")
    assert "Traceback (most recent call last)" in shown.out
    none = hpogen("best", "runs/study")
    assert none.code == 2 and none.err == (
        "runs/study: there is no answer yet: 3 of 3 failures: error: RuntimeError: never in the "
        "mood (trial 2); see: hpogen show runs/study 2\n"
    )


def test_a_study_that_ends_without_an_answer_names_no_best(tmp_path: Path, hpogen: Call) -> None:
    task = {"name": "bowl", "epochs": 2, "mood": "always raises"}
    study_file(tmp_path, task=task, stop={"trials": 4})
    done = hpogen("run", "study.yaml")
    assert done.code == hpogen("run", "study.yaml").code == 1  # a script would go on otherwise
    status = hpogen("status", "runs/study")
    for out in (" ".join(done.out.split()), " ".join(status.out.split())):
        assert "4 of 4 failures: error: RuntimeError: never in the mood (trial 3)" in out
        assert "hpogen show runs/study 3" in out and "hpogen best" not in out


def test_for_ends_in_time_and_says_how_to_go_on(
    tmp_path: Path, hpogen: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_study(tmp_path, stop={"trials": 100}, task={"wait": 0.0})
    path = tmp_path / "runs" / "study" / "ledger.jsonl"

    def clock() -> float:
        """An hour later once the fourth trial has been asked."""
        return 3600.0 * (path.read_text().count('"kind":"asked"') >= 4)

    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=clock))
    done = hpogen("run", "study.yaml", "--for", "1h")
    assert [*by_trial(ledger.read(path.parent), "asked")] == [0, 1, 2, 3]
    assert done.code == 0
    assert " study stopped in time: " in done.out
    assert " next     /usr/bin/hpogen resume runs/study\n" in done.out
    assert "\ntrial 2 " in done.out


def test_show_tells_everything_of_a_trial(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path)
    hpogen("run", "study.yaml", "--dir", "q")
    told = by_trial(ledger.read(tmp_path / "q"), "told")[3]
    asked = by_trial(ledger.read(tmp_path / "q"), "asked")[3]
    found = json.loads(hpogen("show", "q", "3", "--json").out)
    assert found["config"] == asked["config"]
    assert (found["score"], found["metrics"]) == (told["score"], told["metrics"])
    assert [row["epoch"] for row in found["curve"]] == [1, 2]
    text = hpogen("show", "q", "3").out
    assert f"  x: {asked['config']['x']!r}\n" in text
    assert text.splitlines()[-3].split() == ["epoch", "val_loss", "agn", "gap_loss"]
    missing = hpogen("show", "q", "12")
    assert missing.err == "q: there is no trial 12: its trials are 0 to 11\n"
    assert missing.code == 2


def test_best_is_yaml_that_reads_as_the_json(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path, search_space={"x": {"float": [1.0e-9, 2.0e-9]}, "y": 7})
    hpogen("run", "study.yaml", "--dir", "q")
    found = json.loads(hpogen("best", "q", "--json").out)
    assert [*found] == ["trial", "config", "budget", "score", "metrics", "figure"]
    (tmp_path / "best.yaml").write_text(hpogen("best", "q").out)
    assert read_yaml(tmp_path / "best.yaml").data == found
    scores = [event["score"] for event in by_trial(ledger.read(tmp_path / "q"), "told").values()]
    assert found["score"] == min(scores)


def test_check_plans_without_a_trace(tmp_path: Path, hpogen: Call) -> None:
    study_file(tmp_path, searcher={"name": "grid", "points": 3}, stop={"epochs": 15})
    before = contents(tmp_path)
    plan = json.loads(hpogen("check", "study.yaml", "--json").out)
    assert plan["configurations"] == plan["evaluations"] == 7
    assert plan["epochs_charged"] == plan["epochs_trained"] == 14
    assert plan["brackets"] is None and plan["estimated_seconds"] is None
    assert plan["study"]["search_space"]["x"]["log"] is False
    larger = hpogen("check", "study.yaml", "--set", "stop.epochs=1000")
    assert "plan:       9 configurations, 9 trials, 18 epochs charged, 18 trained" in larger.out
    assert {k: v for k, v in contents(tmp_path).items() if "__pycache__" not in k} == before


def test_list_schema_and_version(hpogen: Call) -> None:
    for kind, name in [
        ("searchers", "cmaes"),
        ("datasets", "digits"),
        ("datasets", "torchvision/NAME"),
        ("tasks", "command"),
    ]:
        assert name in hpogen("list", kind).out.splitlines()
        assert name in json.loads(hpogen("list", kind, "--json").out)
    lines = hpogen("list", "searchers").out.splitlines()
    assert lines[lines.index("optuna") + 1] == "    TPE by default; any sampler of optuna.samplers."
    assert lines[lines.index("random") + 1].startswith("    Random search: ")
    listed = json.loads(hpogen("list", "measures", "--json").out)
    measures = {
        row["name"]: row for row in listed if not plugins.measures.is_plugin(row["name"])
    }  # another test's left out; so of models
    assert measures["margin"]["metrics"] == ["margin_q10", "margin_q50", "margin_q90"]
    page = hpogen("list", "measures").out
    assert max(map(len, measures_page([*measures.values()], 80))) <= 80
    for name, row in measures.items():
        assert name in page.splitlines()
        for key in ("definition", "cost", "source"):
            assert row[key] and any(row[key] in line for line in page.splitlines())  # not wrapped
    models = json.loads(hpogen("list", "models", "--json").out)
    models = [row for row in models if not plugins.models.is_plugin(row["name"])]
    check_listed_models(models, hpogen("list", "models"))
    wrong = hpogen("list", "model")
    assert wrong.code == 2 and "did you mean 'models'" in wrong.err
    assert "searcher" in json.loads(hpogen("schema").out)["properties"]
    assert hpogen("--version").out.startswith("hpogen ")


def check_listed_models(rows: list[dict[str, Any]], shown: Done) -> None:
    """The rows are the catalog's and torchvision's, and the page has each of their texts."""
    assert max(map(len, models_page(rows, 80))) <= 80
    models = {row.pop("name"): row for row in rows}
    lenet = {"smallest": 12, "options": {}, "parameters": {"28×28×1": 61_706}}
    assert models["lenet5"].items() >= lenet.items()
    assert models["vgg16"]["options"] == {"width": 64, "batch_norm": False, "dropout": 0.5}
    assert {"densenet100-bc", "torchvision/NAME"} <= models.keys()
    lines = shown.out.splitlines()
    assert models.keys() <= {*lines}
    assert all(any(row["definition"] in line for line in lines) for row in models.values())
    squeezed = " ".join(shown.out.split())
    assert "lenet5 two convolutions, three dense layers" in squeezed
    assert "parameters: 61,706 (28×28×1) images: from 12×12 source: LeCun et al. 1998" in squeezed
    assert "options: width: 64, batch_norm: false, dropout: 0.5 source:" in squeezed


def test_status_while_another_process_runs(tmp_path: Path, hpogen: Call) -> None:
    slow_study(tmp_path, stop={"trials": 1000})
    process = start("run", "study.yaml", "--dir", "q", cwd=tmp_path)
    try:
        wait_for_trials(tmp_path / "q", 3)
        found = json.loads(hpogen("status", "q", "--json").out)
        text = hpogen("status", "q", "--watch").out  # no terminal: once
        refused = hpogen("run", "study.yaml", "--dir", "q")
    finally:
        process.send_signal(signal.SIGTERM)
        done = finish(process)
    assert done.code == 130
    assert found["state"] == "running" and str(process.pid) in found["process"]
    assert found["told"] >= 3 and found["best"]["score"] is not None
    assert [trial["budget"] for trial in found["running"]] == [5]
    assert f" running: process {process.pid}" in text
    assert refused.code == 2 and f"q: in use by process {process.pid}" in refused.err
    stopped = hpogen("status", "q")
    assert " stopped; go on with: /usr/bin/hpogen resume q\n" in stopped.out
    assert json.loads(hpogen("status", "q", "--json").out)["state"] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_and_the_same_command_goes_on(
    tmp_path: Path, hpogen: Call, number: int
) -> None:
    slow_study(tmp_path, searcher="random")
    process = start("run", "study.yaml", "--dir", "q", cwd=tmp_path)
    wait_for_trials(tmp_path / "q", 2)
    process.send_signal(number)
    done = finish(process)
    assert (done.code, done.err) == (130, "")
    assert " best     trial " in done.out and " folder   q\n" in done.out
    assert re.search(r" next     \S*python\S* -m hpogen resume q\n", done.out)
    again = hpogen("run", "study.yaml", "--dir", "q")
    assert (again.code, again.err) == (0, "")
    hpogen("run", "study.yaml", "--dir", "whole")
    for kind in ("asked", "told"):
        interrupted = by_trial(ledger.read(tmp_path / "q"), kind)
        assert interrupted == by_trial(ledger.read(tmp_path / "whole"), kind)
    assert essence(ledger.read(tmp_path / "q"))[1:] == essence(ledger.read(tmp_path / "whole"))[1:]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_the_live_table(tmp_path: Path, columns: int) -> None:
    slow_study(tmp_path, task={"wait": 0.05})
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    process = start("run", "study.yaml", cwd=tmp_path, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    screen = read_all(ours)
    assert process.wait(60) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    before, *pictures = plain.split(" study · random · val")
    assert before.startswith("study: loading libraries and data")  # at once: they take seconds
    assert len(pictures) >= 3
    assert re.search(r"running +trial +epoch +val +x +y +on", pictures[1])
    assert re.search(r"\n +\d+ +\d/5 +", pictures[1])
    assert re.search(r"trials +\d+ / 12 ▕[^▏]*▏", plain)
    assert all(len(line) <= columns for line in plain.replace("\r", "\n").splitlines())
    assert " study finished: 12 trials" in pictures[-1]
    assert "trial 0  score" not in plain


def read_all(fd: int) -> str:
    data = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # Linux says so when the other side is closed
            chunk = b""
        if not chunk:
            os.close(fd)
            return data.decode()
        data += chunk
