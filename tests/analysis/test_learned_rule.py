"""A learned objective asked of a study's trials by `rescore`, and its file when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.learned import LABELS, planted, task, trials, without
from analysis.searches import search

from hpogen.analysis.learned import learn
from hpogen.analysis.rescoring import rescore
from hpogen.errors import UserError
from hpogen.report.rescore import rescore_data, rescore_page
from hpogen.spec.learned import LearnedObjective, read_learned, write_learned
from hpogen.study.read import Folder, read


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model by which the planted measure is chosen, in a file."""
    write_learned(learn(planted(tmp_path / "learned")), tmp_path / "gap.json")
    return tmp_path / "gap.json"


@pytest.fixture
def useless(tmp_path: Path) -> Path:
    """The same where validation loss is nearly the audit error."""
    studies = planted(tmp_path / "useless", (1, -1, 1), noise=0.01)
    write_learned(learn(studies), tmp_path / "bad.json")
    return tmp_path / "bad.json"


@pytest.fixture
def new(tmp_path: Path) -> Folder:
    """A study of another task."""
    return read(search(tmp_path / "new", trials([99]), task=task(20)))


def asked(path: Path, **keys: Any) -> str:
    return json.dumps({"preset": "learned", "model": str(path), **keys})


def test_its_choice_is_the_least_prediction(model: Path, new: Folder) -> None:
    found = rescore(new, asked(model))
    metrics = [record.outcome.metrics for record in new.finished if record.outcome]
    assert found.asked is not None and found.validation is not None
    assert found.asked.rule == "learned (gap.json)" and found.caution == ""
    assert found.asked.trial == np.argmin(read_learned(model).scores(metrics))
    assert found.asked.held_out is not None and found.validation.held_out is not None
    assert found.asked.held_out < found.validation.held_out
    assert "caution" not in rescore_data(found)


def test_it_is_refused_where_validation_loss_was_better(useless: Path, new: Folder) -> None:
    with pytest.raises(
        UserError, match=r"bad\.json: on 3 tasks left out the audit error of its"
    ) as e:
        rescore(new, asked(useless))
    assert str(e.value).endswith("write force: true to use it all the same")
    found = rescore(new, asked(useless, force=True))
    assert found.caution.startswith("Do not trust it here: ")
    assert found.caution in rescore_page(found, "runs/new", 10_000_000, "hpogen")[0]
    assert rescore_data(found)["caution"] == found.caution


def test_more_labels_than_were_measured_are_not_beaten(model: Path, tmp_path: Path) -> None:
    keys = task(20)
    keys["dataset"]["validation"] = LABELS + 1
    study = read(search(tmp_path / "more", trials([99]), task=keys))
    with pytest.raises(UserError, match="nothing was measured with 401 labels or more"):
        rescore(study, asked(model))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"alpha": 1.0}, "'alpha' is unknown"),
        ({"force": "yes"}, "got force 'yes', expected true"),
        ({"model": 3}, "got model 3, expected the file that hpogen learn has made"),
        ({"model": "no/such.json"}, "no/such.json: cannot be read"),
    ],
)
def test_its_keys_are_checked(keys: dict[str, Any], text: str, model: Path, new: Folder) -> None:
    with pytest.raises(UserError, match=text):
        rescore(new, asked(model, **keys))


def test_no_selection_goes_with_it(model: Path, new: Folder) -> None:
    with pytest.raises(UserError, match="--selection: got val_loss, but of a learned objective"):
        rescore(new, asked(model), "val_loss")


def test_trials_of_other_measures_are_named(model: Path, tmp_path: Path) -> None:
    study = read(search(tmp_path / "other", without(trials([99]), "kappa"), task=task(20)))
    with pytest.raises(UserError, match="other: 24 of 24 trials do not have the measure kappa"):
        rescore(study, asked(model))


def unlisted(data: dict[str, Any]) -> None:
    data["measures"].remove("agn")


def circle(data: dict[str, Any]) -> None:
    columns = {"measure": [0], "threshold": [0.5], "left": [0], "right": [7], "value": [0.0]}
    data["model"] = {"kind": "boosted", "signs": {}, "start": 0.0, "trees": [columns]}


def another_version(data: dict[str, Any]) -> None:
    data["version"] = 2


def another_format(data: dict[str, Any]) -> None:
    data["format"] = "optuna"


def no_model(data: dict[str, Any]) -> None:
    del data["model"]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (unlisted, "is damaged at "),
        (circle, r"is damaged at model.boosted.trees.0: .*node 0 has the children \(0, 7\)"),
        (another_version, "got version 2, expected 1: make it anew with hpogen learn"),
        (another_format, "got format 'optuna', expected a file that hpogen learn has made"),
        (no_model, "is damaged at model: "),
    ],
)
def test_a_wrong_file_is_one_line(
    damage: Callable[[dict[str, Any]], None], text: str, model: Path
) -> None:
    data = json.loads(model.read_text())
    damage(data)
    model.write_text(json.dumps(data))
    with pytest.raises(UserError, match=text) as told:
        read_learned(model)
    assert str(told.value).startswith(f"{model}: ") and "\n" not in str(told.value)


def test_a_torn_file_is_one_line(model: Path) -> None:
    whole = model.read_bytes()
    assert isinstance(read_learned(model), LearnedObjective)
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        model.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is no JSON") as told:
            read_learned(model)
        assert "\n" not in str(told.value)
    model.write_bytes(b"[1]")
    with pytest.raises(UserError, match=r"got \[1\], expected a file that hpogen learn"):
        read_learned(model)
