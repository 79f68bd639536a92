"""What the search space may say of the data, and what is told when a study is loaded."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from training.runs import CONFIG, epochs, task, trial

from hpogen.errors import UserError
from hpogen.spec import load_study
from hpogen.study.open import open_study, warnings
from hpogen.study.replay import check_same_study

STUDY = """
task:
  dataset: {{name: digits{dataset}}}
  model: {{name: mlp, width: 4, depth: 1}}
  epochs: 1
search_space: {{lr: {{float: [0.01, 0.1]}}{space}}}
searcher: random
objective: val
stop: {{trials: 2}}
"""


def study(tmp_path: Path, dataset: str = "", space: str = "") -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(dataset=dataset, space=space))
    return path


def test_a_batch_that_is_always_too_large_is_refused(tmp_path: Path) -> None:
    path = study(tmp_path, space=", batch_size: {int: [300, 400]}")
    with pytest.raises(UserError, match=r"batch_size is at least 300, .* subset has 259 images"):
        load_study(path)


def test_a_batch_that_may_be_too_large_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = load_study(study(tmp_path, space=", batch_size: {int: [8, 400]}"))
    (warning,) = warnings(spec)
    assert "study.yaml:6" in warning
    assert "batch_size may come to be 400, but the subset has 259 images" in warning
    with caplog.at_level(logging.WARNING):
        open_study(spec, tmp_path / "run")
    assert warning in caplog.text
    assert [*warnings(load_study(study(tmp_path, space=", batch_size: {int: [8, 259]}")))] == []


def test_the_size_of_a_file_is_known_once_it_is_loaded(tmp_path: Path) -> None:
    images = np.zeros((60, 8, 8), np.uint8)
    labels = np.arange(60) % 3
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels)
    path = study(tmp_path, space=", batch_size: {int: [50, 60]}")
    path.write_text(path.read_text().replace("digits", "numpy, path: tiny.npz, audit: 0"))
    spec = load_study(path)
    with pytest.raises(UserError, match="batch_size is at least 50, and the subset has 12 images"):
        open_study(spec, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("dataset", "space", "said"),
    [
        (", augment: standard", ", augment: {choice: [none, standard]}", "augment is searched, "),
        (", corruption: 0.1", ", corruption: {float: [0, 1]}", "corruption is searched, "),
        (", rotate: 10", ", rotate: {float: [0, 20]}", "rotate is searched, "),
        ("", ", rotate: {float: [0, 200]}", "rotate may come to be 200"),
        ("", ", corruption: {float: [0, 2]}", "corruption may come to be 2"),
    ],
)
def test_what_is_set_is_not_searched(dataset: str, space: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load_study(study(tmp_path, dataset, space))


def test_searched_data_change_what_is_trained(tmp_path: Path) -> None:
    found = {}
    for name, value in (
        ("none", {}),
        ("corruption", {"corruption": 0.5}),
        ("rotate", {"rotate": 30.0}),
    ):
        config = {**CONFIG, **value}
        found[name] = epochs(task(), trial(tmp_path / name, config), "train_loss")[-1].metrics
    assert found["corruption"]["train_loss"] > found["none"]["train_loss"] + 0.3
    assert found["rotate"]["train_loss"] != found["none"]["train_loss"]
    fixed = task({"corruption": 0.5})
    again = epochs(fixed, trial(tmp_path / "fixed"), "train_loss")[-1].metrics
    assert again == found["corruption"]


def test_redrawn_validation_has_its_size_and_no_losses_to_compare(tmp_path: Path) -> None:
    redrawn = task({"validation": {"size": 100, "redraw": True}})
    losses = []
    for seed in (1, 2, 1):
        (*_, last) = epochs(redrawn, trial(tmp_path / f"{len(losses)}", seed=seed), "val_loss")
        losses.append(last.metrics["val_loss"])
        assert "val_losses.npy" not in last.files
        assert last.metrics["val_accuracy"] * 100 == pytest.approx(
            round(last.metrics["val_accuracy"] * 100)
        )
    assert losses[0] == losses[2] != losses[1]
    assert not redrawn.keeps_losses
    assert task().keeps_losses
    assert "val_losses.npy" in epochs(task(), trial(tmp_path / "kept"), "val_loss")[-1].files


def test_a_study_that_is_older_than_a_key_goes_on(tmp_path: Path) -> None:
    spec = load_study(study(tmp_path))
    record = spec.record()
    del record["task"]["precision"]
    del record["task"]["dataset"]["rotate"]
    header = {"spec": record, "plugins": {}, "versions": {}}
    assert check_same_study(spec, [{"kind": "header", **header}], tmp_path) is None
    record["task"]["epochs"] = 2
    with pytest.raises(UserError, match=r"task\.epochs"):
        check_same_study(spec, [{"kind": "header", **header}], tmp_path)


def test_the_place_of_the_images_makes_no_other_study(tmp_path: Path) -> None:
    spec = load_study(study(tmp_path))
    record = spec.record()
    record["task"]["dataset"] |= {"resident": False, "download": False, "root": "elsewhere"}
    header = {"spec": record, "plugins": {}, "versions": {}}
    assert check_same_study(spec, [{"kind": "header", **header}], tmp_path) is None
    record["task"]["compile"] = True  # last bits are a study's own
    with pytest.raises(UserError, match=r"task\.compile: False, but the study in"):
        check_same_study(spec, [{"kind": "header", **header}], tmp_path)
