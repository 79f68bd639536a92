"""Figure 4's studies, the values before training, and the script at its tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gsnr_labels

from hpogen.opening import open_study
from hpogen.runner import run
from hpogen.spec import load_study


@pytest.mark.parametrize("arm", gsnr_labels.ARMS)
def test_the_studies_train_the_same_net_on_real_and_on_random_labels(arm: str) -> None:
    spec = load_study(gsnr_labels.STUDIES / f"gsnr-labels-{arm}.yaml")
    searcher = spec.make_searcher()
    configs = [searcher.ask().config for _ in range(2)]
    assert sorted(config.pop("corruption") for config in configs) == [0.0, 1.0]
    assert configs[0] == configs[1]
    assert spec.stop.trials == 2


def test_the_row_before_training_is_of_the_weights_that_training_begins_with(
    tmp_path: Path,
) -> None:
    """At a vanishing learning rate the first epoch leaves them."""
    changes = gsnr_labels.overrides(gsnr_labels.Run("x", "tiny", tmp_path, "cpu"), "simple")
    changes += ["task.epochs=2", "search_space.lr={choice: [1.0e-12], default: 1.0e-12}"]
    path = gsnr_labels.STUDIES / "gsnr-labels-simple.yaml"
    with open_study(path, tmp_path / "study", changes) as study:
        run(study)
    for record in study.history.told():
        before, after, _ = gsnr_labels.curve(study, record.trial, "cpu")
        assert (before["epoch"], after["epoch"]) == (0, 1)
        assert before["gsnr"] == pytest.approx(after["gsnr"], rel=1e-4)
        assert before["same_sign"] == pytest.approx(after["same_sign"], rel=1e-3)


def test_tiny(tmp_path: Path) -> None:
    arguments = ["--scale", "tiny", "--out", str(tmp_path), "--device", "cpu"]
    gsnr_labels.main(arguments)
    with open(tmp_path / "gsnr_labels.csv") as file:
        rows = list(csv.DictReader(file))
    places = [(row["net"], row["labels"], int(row["epoch"])) for row in rows]
    expected = {(n, r, e) for n in gsnr_labels.ARMS for r in ("real", "random") for e in range(4)}
    assert set(places) == expected and len(places) == len(expected)
    assert all(float(row["gsnr"]) > 0 for row in rows)
    simple = [float(row["same_sign"]) for row in rows if row["net"] == "simple"]
    assert all(0.5 <= value <= 1 for value in simple)
    record = json.loads((tmp_path / "gsnr_labels.json").read_text())
    assert record["sizes"]["simple images"] == 130
    theirs = [figure["theirs"] for figure in record["figures"] if figure["theirs"] is not None]
    assert theirs == [0.5, 0.56]
    assert (tmp_path / "gsnr_labels.png").stat().st_size > 1000
    before = (tmp_path / "gsnr_labels.csv").read_bytes()
    gsnr_labels.main(arguments)  # goes on with studies that are finished: the same rows
    assert (tmp_path / "gsnr_labels.csv").read_bytes() == before
