"""What a study writes is read by no other, whatever becomes of its ledger; and what is older."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import StopsAfter, by_trial, study_file

from hpogen.errors import UserError
from hpogen.record import folder, history, ledger
from hpogen.record.history import History
from hpogen.running.fork import fork
from hpogen.running.measure import add_measures
from hpogen.running.runner import run
from hpogen.selection.evidence import read_losses
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.open import loaded, open_study
from hpogen.study.read import read
from hpogen.study.study import Study

BEFORE = Path(__file__).parent / "before"  # studies of an hpogen that had no ids, interrupted
TALLY: dict[str, Any] = {
    "plugins": [str(BEFORE / "tally" / "plugins" / "tally.py")],
    "task": {"name": "tally", "epochs": 4},
    "search_space": {"x": {"float": [0.0, 1.0], "default": 0.5}},
    "stop": {"trials": 3},
}
IMAGES: dict[str, Any] = {
    "plugins": [],
    "task": {
        "dataset": {"name": "digits", "subset": 0.05, "validation": 40, "audit": 40},
        "model": {"name": "mlp", "width": 4, "depth": 1},
        "epochs": 3,
        "measures": ["zeta"],
    },
    "search_space": {"lr": {"float": [0.01, 0.5], "log": True, "default": 0.1}},
    "selection": "shrunk",
    "checkpoints": {"keep": "final"},
    "stop": {"trials": 3},
}


def ran(path: Path, directory: Path, observer: Any = None) -> str:
    with Study(load_study(path), directory) as study:
        return run(study, observer=observer).end


def told(directory: Path) -> dict[int, dict[str, Any]]:
    """What was told of each trial, by whatever code it was trained."""
    return {
        trial: {key: value for key, value in event.items() if key != "code"}
        for trial, event in by_trial(ledger.read(directory), "told").items()
    }


LOST: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut in its first line": lambda path: path.write_bytes(path.read_bytes()[:90]),
}


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("stopped", [False, True])
def test_a_study_whose_ledger_is_lost_leaves_nothing_to_the_next(
    tmp_path: Path, how: str, stopped: bool
) -> None:
    """The task reads what it kept after the epochs that were received."""
    first, second = (study_file(tmp_path / str(s), **TALLY, seed=s) for s in (0, 1))
    ran(first, tmp_path / "q", StopsAfter(6) if stopped else None)
    (tmp_path / "q" / "trials" / "00000.log").write_text("of the first")
    LOST[how](tmp_path / "q" / ledger.LEDGER)
    assert ran(second, tmp_path / "q") == ran(second, tmp_path / "right") == "finished"
    assert told(tmp_path / "q") == told(tmp_path / "right")
    assert status.trial(read(tmp_path / "q"), 0)["log"] is None
    assert (tmp_path / "q" / "earlier-1" / "trials" / "00000.jsonl").exists()  # nothing is lost


def test_everything_that_an_earlier_study_left_is_moved_aside(tmp_path: Path) -> None:
    path = study_file(tmp_path, **TALLY)
    ran(path, tmp_path / "q")
    for name in ("retrain/trial-0/ledger.jsonl", "tensorboard/00000/events", "hpogen.log"):
        (tmp_path / "q" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "q" / name).write_text("old")
    (tmp_path / "q" / ledger.LEDGER).unlink()
    ran(path, tmp_path / "q")
    assert {p.name for p in (tmp_path / "q").iterdir()} == {
        *("earlier-1", "ledger.jsonl", "lock", "plugins", "trials")
    }
    assert (tmp_path / "q/earlier-1/retrain/trial-0/ledger.jsonl").read_text() == "old"


def test_the_same_study_begun_again_is_another_one(tmp_path: Path) -> None:
    """Its task may have changed where hpogen cannot see it."""
    path = study_file(tmp_path, **TALLY)
    ran(path, tmp_path / "q")
    first = ledger.study_id(tmp_path / "q")
    (tmp_path / "q" / ledger.LEDGER).unlink()
    ran(path, tmp_path / "q")
    assert len(first) == 16 and ledger.study_id(tmp_path / "q") not in ("", first)
    (tmp_path / "q" / ledger.LEDGER).unlink()
    ran(path, tmp_path / "q")
    assert sorted(p.name for p in (tmp_path / "q").glob("earlier-*")) == ["earlier-1", "earlier-2"]


@pytest.mark.parametrize("part", ["00001.jsonl", "00001.kept.json", "00001.val_losses.npy"])
def test_a_file_of_another_study_is_not_read(tmp_path: Path, part: str) -> None:
    """One by one, put where a study would look for its own."""
    mine, other = (study_file(tmp_path / str(s), **IMAGES, seed=s) for s in (0, 1))
    ran(mine, tmp_path / "a")
    ran(other, tmp_path / "b")
    rows = folder.read_curve(tmp_path / "a", 1)
    assert len(rows) == 3 and read_losses(tmp_path / "a", [1])[0].shape == (40,)
    shutil.copy(tmp_path / "b" / "trials" / part, tmp_path / "a" / "trials" / part)
    if part.endswith("jsonl"):
        assert folder.read_curve(tmp_path / "a", 1) == []
    else:
        with pytest.raises(UserError, match=r"00001\.val_losses\.npy: is another study's: "):
            read_losses(tmp_path / "a", [0, 1])


def test_a_ledger_of_another_study_finds_nothing_of_this_one(tmp_path: Path) -> None:
    first, second = (study_file(tmp_path / str(s), **TALLY, seed=s) for s in (0, 1))
    ran(first, tmp_path / "a", StopsAfter(6))
    ran(second, tmp_path / "b", StopsAfter(6))
    shutil.copy(tmp_path / "b" / ledger.LEDGER, tmp_path / "a" / ledger.LEDGER)
    assert folder.read_curve(tmp_path / "a", 0) == []
    assert ran(second, tmp_path / "a") == ran(second, tmp_path / "right") == "finished"
    scores = [{i: e["score"] for i, e in told(tmp_path / d).items()} for d in ("a", "right")]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("place", ["inside", "{}/kept", "file://{}/kept"])
def test_a_checkpoint_of_another_study_is_neither_read_nor_deleted(
    tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The one left there goes further, and its weights are not of these data."""
    where = {} if place == "inside" else {"path": place.format(tmp_path)}
    keys = {**IMAGES, "checkpoints": {"keep": "final", **where}, "stop": {"trials": 1}}
    task = {**IMAGES["task"], "dataset": {**IMAGES["task"]["dataset"], "seed": 1}}
    first, second = (
        study_file(tmp_path / "1", **keys),
        study_file(tmp_path / "2", **keys | {"task": task}),
    )
    ran(first, tmp_path / "q")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("checkpoint-*")}
    assert len(kept) == 1
    (tmp_path / "q" / ledger.LEDGER).unlink()
    ran(second, tmp_path / "q")
    ran(second, tmp_path / "right")
    assert told(tmp_path / "q")[0]["metrics"] == told(tmp_path / "right")[0]["metrics"]
    left = [path.read_bytes() for path in tmp_path.rglob("checkpoint-*")]
    assert all(content in left for content in kept.values())
    measured = list(add_measures(load_study(second), tmp_path / "q", ["param_norm"], "cpu"))
    right = list(add_measures(load_study(second), tmp_path / "right", ["param_norm"], "cpu"))
    assert measured[0][1].metrics == right[0][1].metrics  # type: ignore[union-attr]


def test_what_a_fork_takes_over_is_its_own_then(tmp_path: Path) -> None:
    ran(study_file(tmp_path / "old", **IMAGES), tmp_path / "q")
    new = study_file(tmp_path / "new", **IMAGES | {"objective": {"preset": "train"}})
    assert fork(tmp_path / "q", new, tmp_path / "n").reused == 3
    shutil.rmtree(tmp_path / "q")
    own = ledger.study_id(tmp_path / "n")
    for line in folder.curve_path(tmp_path / "n", 2).read_bytes().splitlines():
        assert json.loads(line)["study"] == own
    assert np.stack(read_losses(tmp_path / "n", [0, 1, 2])).shape == (3, 40)
    with open_study(new, tmp_path / "n") as study:
        assert run(study).trials == 0
    found = list(add_measures(loaded(read(tmp_path / "n")), tmp_path / "n", ["param_norm"], "cpu"))
    assert len(found) == 3


def old(tmp_path: Path, name: str) -> Path:
    """A copy of a study that was begun by the hpogen before there were ids."""
    shutil.copytree(BEFORE / name, tmp_path / name)
    return tmp_path / name


def resumed(directory: Path) -> History:
    with open_study(loaded(read(directory)), directory) as study:
        assert run(study).end == "finished"
    return history.read(directory)


def test_a_study_of_before_goes_on_from_its_curves_and_files(tmp_path: Path) -> None:
    directory = old(tmp_path, "tally")
    curve = folder.curve_path(directory, 2).read_bytes()
    assert len(folder.received_curve(directory, 2)) == 2
    resumed(directory)
    ran(study_file(tmp_path / "again", **TALLY), tmp_path / "whole")
    assert told(directory) == told(tmp_path / "whole")
    after = folder.curve_path(directory, 2).read_bytes()
    assert after.startswith(curve) and after.count(b"\n") == 4  # it began where it had stopped
    assert not [*tmp_path.rglob("earlier-*")]


def test_images_of_before_are_resumed_measured_and_chosen_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = old(tmp_path, "images")
    past = resumed(directory)
    assert "ignored" not in caplog.text  # the checkpoint was taken
    assert len(folder.curve_path(directory, 2).read_bytes().splitlines()) == 3
    assert [record.outcome.epochs for record in past.told() if record.outcome] == [3, 3, 3]
    assert np.stack(read_losses(directory, [0, 1, 2])).shape == (3, 40)
    assert status.best(read(directory))["trial"] in (0, 1, 2)
    found = dict((r.trial.id, m) for r, m in add_measures_until_missing(directory))
    assert not isinstance(found[0], str) and not isinstance(found[2], str)


def add_measures_until_missing(directory: Path) -> list[Any]:
    found: list[Any] = []
    with pytest.raises(UserError, match="final weights were not kept"):  # of trial 1, left out here
        found.extend(add_measures(loaded(read(directory)), directory, ["param_norm"], "cpu"))
    return found


def test_a_study_of_before_is_forked_and_lost_like_any_other(tmp_path: Path) -> None:
    directory = old(tmp_path, "tally")
    assert fork(directory, study_file(tmp_path / "f", **TALLY), tmp_path / "n").reused == 2
    assert folder.read_curve(tmp_path / "n", 1) == folder.read_curve(directory, 1) != []
    (directory / ledger.LEDGER).unlink()
    path = study_file(tmp_path / "2", **TALLY, seed=1)
    ran(path, directory)
    ran(path, tmp_path / "right")
    assert told(directory) == told(tmp_path / "right")
