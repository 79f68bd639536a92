"""The sparsity paper's Figure 2: turning points by a plain search, and the script at tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hpogen.spec import load_study

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import sparsity_evolution
from sparsity_parts import STUDIES, Curves, ablation, curves


def test_the_study_trains_one_recipe_on_six_shares_of_random_labels() -> None:
    spec = load_study(STUDIES / "sparsity-evolution.yaml")
    searcher = spec.make_searcher()
    configs = [searcher.ask().config for _ in range(6)]
    assert searcher.ask() is None
    assert sorted(config.pop("corruption") for config in configs) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert all(config == configs[0] for config in configs)


def test_turning_points_of_curves_that_reach_chance_and_of_some_that_do_not() -> None:
    removed = [0, 2, 4, 6]
    reaches = Curves(removed, [0.9, 0.25, 0.1, 0.0], [0.9, 1.0, 1.0, 0.0], chance=0.25)
    assert reaches.turning_points == (2, 4)  # chance itself is enough; of equals the last
    stays = Curves(removed, [0.9, 0.5, 0.4, 0.9], [0.9, 0.95, 0.8, 0.9], chance=0.25)
    assert stays.turning_points == (4, 2)  # the lowest E
    assert not stays.reaches_chance and reaches.reaches_chance


def test_tiny(tmp_path: Path) -> None:
    arguments = ["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)]
    sparsity_evolution.main(arguments)
    name = "sparsity_evolution"
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    told = json.loads((tmp_path / f"{name}.json").read_text())
    rows = read(tmp_path / f"{name}.csv")
    networks = read(tmp_path / f"{name}_networks.csv")
    assert len(networks) == 6 and len(rows) == 6 * 4
    assert {row["images"] for row in rows if row["corruption"] == 0} == {10}

    study = tmp_path / f"{name}-tiny"
    for trial, network in enumerate(networks):  # a grid asks in the order of the shares
        record = ablation(study, trial)
        own = [row for row in rows if row["corruption"] == network["corruption"]]
        for place, row in enumerate(own):
            found = curves(record, place)
            apart = np.abs(np.subtract(found.rising, found.falling))
            area = np.trapezoid(apart, found.removed) / record["units"]  # eq. 5
            assert row["kappa"] == pytest.approx(area, abs=1e-5)
            turning = (row["n0"] + 1 - row["n0r"]) / 2  # eq. 4
            assert row["zeta"] == pytest.approx(turning, abs=1e-5)
        for measure in ("zeta", "kappa", "n0", "n0r"):
            assert network[measure] == pytest.approx(np.mean([row[measure] for row in own]))
    ours = {figure["what"]: figure["ours"] for figure in told["figures"]}
    assert ours["zeta, 0% random labels"] == pytest.approx(networks[0]["zeta"])
    assert ours["kappa, 100% random labels"] == pytest.approx(networks[5]["kappa"])
    lowest = min(network["train_accuracy"] for network in networks)
    assert ours["lowest training accuracy"] == pytest.approx(lowest)


def read(path: Path) -> list[dict[str, float]]:
    with open(path) as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
