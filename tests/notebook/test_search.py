"""`hpogen.search`: the study of a plain function, and what comes of it."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import by_trial, typed

import hpogen
from hpogen.errors import UserError
from hpogen.record import ledger

SPACE = {"lr": hpogen.Float(1e-3, 1, log=True), "width": hpogen.Int(8, 512)}


def bowl(trial: Any) -> Iterator[Any]:
    for epoch in trial.epochs():
        yield {"val_loss": (trial.config["lr"] - 0.3) ** 2 + 1 / (epoch + 1)}


def judged(trial: Any) -> Any:
    loss = trial.config["lr"] ** 2
    return {"val_loss": loss}, {"error": loss / 2 + (trial.split == "retrain")}


def searched(tmp_path: Path, function: Any = bowl, **keys: Any) -> hpogen.Result:
    keys = {"trials": 6, "directory": tmp_path / "mine", "progress": False, **keys}
    return hpogen.search(function, SPACE, **keys)


FIVE_LINES = """
import hpogen

def train(trial):
    for epoch in trial.epochs():
        yield {"val_loss": (trial.config["lr"] - 0.3) ** 2 + 1 / (epoch + 1)}

result = hpogen.search(train, {"lr": hpogen.Float(1e-4, 1, log=True), "width": hpogen.Int(8, 512)},
                       searcher="cmaes", trials=10, workers=WORKERS, directory="runs/mine")
print(result.best.config, len(result.frame()), result.report("r.html"))
"""


def run_program(tmp_path: Path, workers: int) -> str:
    (tmp_path / "five.py").write_text(FIVE_LINES.replace("WORKERS", str(workers)))
    command = [sys.executable, "five.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_five_lines_are_a_study(tmp_path: Path) -> None:
    said = run_program(tmp_path, 1)
    assert said.endswith(" 10 r.html") and (tmp_path / "r.html").exists()
    assert run_program(tmp_path, 1) == said, "the same call goes on, and nothing is left to do"
    assert typed("status", tmp_path / "runs" / "mine") == 0


@pytest.mark.slow
def test_five_lines_on_workers_are_the_same_study(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    assert run_program(tmp_path, 2) == run_program(tmp_path / "one", 1)


def test_a_search_is_the_study_of_a_plugin(tmp_path: Path) -> None:
    """The same trials, scores and ledger as by YAML, but for the text of the function."""
    ours = searched(tmp_path, epochs=3, searcher="cmaes", seed=5).directory
    (tmp_path / "plug.py").write_text(
        "from hpogen.plugins import task\n\n@task('bowl', metrics=['val_loss'])\ndef bowl(trial):\n"
        "    for epoch in trial.epochs():\n"
        "        yield {'val_loss': (trial.config['lr'] - 0.3) ** 2 + 1 / (epoch + 1)}\n"
    )
    (tmp_path / "a.yaml").write_text(
        "plugins: [plug.py]\ntask: {name: bowl, epochs: 3}\nsearcher: cmaes\nseed: 5\n"
        "search_space: {lr: {float: [1.0e-3, 1], log: true}, width: {int: [8, 512]}}\n"
        "stop: {trials: 6}\n"
    )
    with hpogen.open_study(tmp_path / "a.yaml", tmp_path / "y") as study:
        hpogen.run(study)
    keys = ("config", "seed", "metrics", "score", "failure")
    for kind in ("asked", "told"):
        pairs = zip(ledger.read(ours), ledger.read(tmp_path / "y"), strict=True)
        for a, b in pairs:
            if a["kind"] == kind:
                assert {k: a.get(k) for k in keys} == {k: b.get(k) for k in keys}


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    first = by_trial(ledger.read(searched(tmp_path, trials=4).directory), "told")
    more = by_trial(ledger.read(searched(tmp_path, trials=8).directory), "told")
    assert len(first) == 4 and len(more) == 8
    assert {k: v["score"] for k, v in first.items()} == {k: more[k]["score"] for k in first}


def test_another_function_is_another_study(tmp_path: Path) -> None:
    def train(trial: Any) -> float:
        return float(trial.config["lr"])

    searched(tmp_path, train)

    def train(trial: Any) -> float:  # type: ignore[no-redef]
        return float(trial.config["lr"]) + 1

    with pytest.raises(UserError, match=r"plugins\.train\.py: .* was begun with"):
        searched(tmp_path, train)


@pytest.mark.slow
def test_one_that_was_killed_ends_as_the_undisturbed(tmp_path: Path) -> None:
    program = FIVE_LINES.replace("trials=10, workers=WORKERS", "trials=60, epochs=5")
    program = program.replace(
        "for epoch in trial.epochs():",
        "import time\n    for epoch in trial.epochs():\n        time.sleep(0.01)",
    )
    (tmp_path / "five.py").write_text(program)
    (tmp_path / "once").mkdir()
    command = [sys.executable, str(tmp_path / "five.py")]
    subprocess.run(command, cwd=tmp_path / "once", check=True, capture_output=True)
    home = tmp_path / "runs" / "mine"
    for least in (5, 30):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while told(home) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert told(home) < 60
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    pair = [ledger.read(folder) for folder in (home, tmp_path / "once" / "runs" / "mine")]
    ours, theirs = (by_trial(events, "told") for events in pair)
    assert {k: (v["score"], v["metrics"]) for k, v in ours.items()} == {
        k: (v["score"], v["metrics"]) for k, v in theirs.items()
    }


def told(home: Path) -> int:
    path = home / ledger.LEDGER
    return path.is_file() and path.read_bytes().count(b'"kind":"told"')


def test_what_comes_of_it(tmp_path: Path) -> None:
    result = searched(tmp_path, judged, audit=("error",), epochs=1)
    frame, best = result.frame(), result.best
    assert len(frame) == 6 and frame["metrics.val_loss"].min() == best.metrics["val_loss"]
    assert best.audit == {"error": best.metrics["val_loss"] / 2}
    assert result.trial(0).config == {"lr": pytest.approx(0.0316, rel=0.01), "width": 260}
    assert result.plot()._repr_png_().startswith(b"\x89PNG")
    page, card = result._repr_html_(), best._repr_html_()
    assert "mine" in page and f"<td>{best.trial}</td>" in page and "audit error" in card
    assert result.report(tmp_path / "r.html").stat().st_size > 10_000
    assert hpogen.Result(result.directory).best == best


@pytest.mark.slow
def test_it_is_tracked_where_its_key_says(tmp_path: Path) -> None:
    result = searched(tmp_path, track={"tensorboard": True})
    assert len([*result.directory.glob("tensorboard/0*/events.out.*")]) == 6


def test_names_are_escaped(tmp_path: Path) -> None:
    space = {"<b>": hpogen.Choice(["<i>", "&"])}
    keys: dict[str, Any] = {"trials": 2, "progress": False, "directory": tmp_path / "mine"}
    result = hpogen.search(lambda trial: 1.0, space, **keys)
    for page in (result._repr_html_(), result.best._repr_html_()):
        assert "<i>" not in page and "&lt;i&gt;" in page


def test_studies_side_by_side(tmp_path: Path) -> None:
    one, two = (
        searched(tmp_path, judged, audit=("error",), searcher=s, directory=tmp_path / s)
        for s in ("random", "cmaes")
    )
    found = hpogen.compare(one, two.directory)
    assert found.found.judged_by == "audit error"
    assert found.verdict in str(found).replace("\n", " ") or found.verdict[:40] in str(found)
    assert "audit error" in found._repr_html_() and "random" in found._repr_html_()


def test_the_answer_is_retrained(tmp_path: Path) -> None:
    result = searched(tmp_path, judged, audit=("error",), split=True)
    found = result.retrain(seeds=2)
    assert [one.n for one in found] == [2] * len(found)
    assert all(run.error >= 1 for one in found for run in one.runs)
    with pytest.raises(UserError, match="is a function of a Python program"):
        hpogen.Result(result.directory).retrain()


@pytest.mark.parametrize("command", ["resume", "retrain"])
def test_the_shell_says_where_it_goes_on(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = searched(tmp_path, judged, audit=("error",), split=True)
    assert typed(command, result.directory) != 0
    assert "is a function of a Python program" in capsys.readouterr().err


def test_a_number_an_objective_and_a_closure(tmp_path: Path) -> None:
    centre = 0.25

    def distance(trial: Any) -> float:
        return abs(float(trial.config["lr"]) - centre)

    result = searched(tmp_path, distance, objective="distance")
    assert set(result.best.metrics) == {"distance"}
    partial = functools.partial(lambda trial, shift: trial.config["lr"] + shift, shift=1.0)
    assert searched(tmp_path, partial, directory=tmp_path / "p").best.score >= 1  # type: ignore[operator]


def test_the_keys_of_a_yaml_are_taken(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"enqueue": [{"lr": 0.3}], "selection": "last", "epochs": 2}
    with pytest.raises(UserError, match="selection"):
        searched(tmp_path, **keys)
    keys["selection"] = "score"
    result = searched(tmp_path, prune={"rule": "median", "after": 1}, **keys)
    assert result.trial(0).config["lr"] == 0.3


@pytest.mark.parametrize(
    ("function", "keys", "said"),
    [
        (7, {}, "search: got 7, expected a function of a trial"),
        (lambda: 1.0, {}, "search: <lambda> takes 0 arguments, expected 1"),
        (bowl, {"trials": 0}, "mine: stop.trials: got 0"),
        (bowl, {"searchr": "tpe"}, "mine: searchr is unknown|'searchr' is unknown"),
        (bowl, {"objective": 3}, "search: objective: got 3"),
        (bowl, {"metrics": "val_loss"}, "search: got metrics='val_loss', expected several names"),
        (bowl, {"searcher": "cmaesx"}, "mine: searcher"),
    ],
)
def test_what_it_refuses(function: Any, keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as refused:
        searched(tmp_path, function, **keys)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "mine").exists()


def test_a_function_with_a_mistake_stops_the_study(tmp_path: Path) -> None:
    def broken(trial: Any) -> float:
        return float(trial.config["rate"])

    with pytest.raises(UserError, match=r"stopped itself after 10 errors in a row, .*KeyError"):
        searched(tmp_path, broken, trials=20)


def test_what_cannot_travel_is_named_before_anything_is_written(tmp_path: Path) -> None:
    lock, file = threading.Lock(), (tmp_path / "f").open("w")

    def inner() -> bool:
        return lock.locked()

    def held(trial: Any) -> float:
        return float(inner())

    def written(trial: Any) -> float:
        return float(file.tell())

    with file:
        for function, culprit in (
            (held, r"'lock' \(lock\)"),
            (written, r"'file' \(TextIOWrapper\)"),
        ):
            with pytest.raises(UserError, match=f"its {culprit} cannot travel to workers"):
                searched(tmp_path, function, workers=2)
    assert not (tmp_path / "mine").exists()


def test_the_programs_threads_are_its_own_again(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        searched(tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_several_scores_name_their_metrics(tmp_path: Path) -> None:
    result = hpogen.search(
        lambda trial: {"a": trial.config["x"] ** 2, "b": (trial.config["x"] - 1) ** 2},
        {"x": hpogen.Float(-2.0, 2.0)},
        objective={"pareto": ["a", {"metric": "b"}]},
        searcher="optuna",
        trials=12,
        directory=tmp_path / "front",
        progress=False,
    )
    assert 0 <= result.best.config["x"] <= 1  # what is outside is dominated
