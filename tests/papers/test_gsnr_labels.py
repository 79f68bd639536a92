"""Figure 4's studies, the values before training, and the script at its tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gsnr_labels
from common import STUDIES, Run

from hpogen.running.runner import run
from hpogen.spec import load_studies
from hpogen.study.open import open_study


def tiny(tmp_path: Path) -> Run:
    return Run("gsnr_labels", "tiny", tmp_path, "cpu")


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_studies_train_the_same_nets_on_real_and_on_random_labels(
    tmp_path: Path, scale: Any
) -> None:
    nets = []
    for file, changes in gsnr_labels.overrides(Run("x", scale, tmp_path, "cpu")).items():
        for spec in load_studies(STUDIES / f"{file}.yaml", changes).specs:
            searcher = spec.make_searcher()
            configs = [dict(searcher.ask().config) for _ in range(2)]
            assert sorted(config.pop("corruption") for config in configs) == [0.0, 1.0]
            assert configs[0] == configs[1]
            assert spec.stop.trials == 2
            nets.append(spec.name.split("__")[0])
    seeds = 2 if scale == "small" else 1
    assert nets == [net for net in gsnr_labels.ARMS for _ in range(seeds)]


def test_the_row_before_training_is_of_the_weights_that_training_begins_with(
    tmp_path: Path,
) -> None:
    """At a vanishing learning rate the first epoch leaves them."""
    changes = gsnr_labels.overrides(tiny(tmp_path))["gsnr-labels-simple"]
    changes += ["task.epochs=2", "search_space.lr={choice: [1.0e-12], default: 1.0e-12}"]
    path = STUDIES / "gsnr-labels-simple.yaml"
    with open_study(load_studies(path, changes).specs[0], tmp_path / "study") as study:
        run(study)
    for record in study.history.told():
        before, after, _ = gsnr_labels.curve(study, record.trial, "cpu")
        assert (before["epoch"], after["epoch"]) == (0, 1)
        assert before["gsnr"] == pytest.approx(after["gsnr"], rel=1e-4)
        assert before["same_sign"] == pytest.approx(after["same_sign"], rel=1e-3)


def test_what_is_told_of_curves() -> None:
    figures = {
        figure.what: (figure.ours, figure.note)
        for figure in gsnr_labels.of_gsnr(
            "x", np.array([[1.0, 0.5, 3.0, 2.0], [3.0, 0.5, 2.0, 1.0]])
        )
    }
    assert figures == {
        "x: GSNR before training": (2.0, ""),
        "x: GSNR after an epoch": (0.5, ""),
        "x: highest GSNR after that": (2.5, "epoch 2"),
        "x: GSNR at the end": (1.5, ""),
        "x: seeds that rise above the start": (1, "of 2"),
    }


def test_tiny(tmp_path: Path) -> None:
    arguments = ["--scale", "tiny", "--out", str(tmp_path), "--device", "cpu"]
    gsnr_labels.main(arguments)
    with open(tmp_path / "gsnr_labels.csv") as file:
        rows = list(csv.DictReader(file))
    places = [(row["net"], row["seed"], row["labels"], row["epoch"]) for row in rows]
    arms, labels = gsnr_labels.ARMS, gsnr_labels.LABELS
    assert places == [(n, s, r, e) for n in arms for s in "01" for r in labels for e in "0123"]
    assert all(float(row["gsnr"]) > 0 for row in rows)
    _, epochs = gsnr_labels.curves(rows, "simple", "random", "epoch")
    assert epochs.tolist() == [[*"0123"]] * 2  # a line per seed
    record = json.loads((tmp_path / "gsnr_labels.json").read_text())
    assert record["sizes"]["simple images"] == 130
    theirs = [figure["theirs"] for figure in record["figures"] if figure["theirs"] is not None]
    assert theirs == [0.5, 0.56] * 2
    assert (tmp_path / "gsnr_labels.png").stat().st_size > 1000
    before = (tmp_path / "gsnr_labels.csv").read_bytes()
    gsnr_labels.main(arguments)  # goes on with studies that are finished: the same rows
    assert (tmp_path / "gsnr_labels.csv").read_bytes() == before
