"""The sparsity paper's Figure 2: its recipe, the moment when a network fits, the tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpogen.record.folder import read_curve
from hpogen.spec import load_studies, load_study

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import sparsity_evolution
import sparsity_measure
import sparsity_networks
from common import STUDIES, Run
from sparsity_networks import Network
from sparsity_parts import ablation

from hpogen.measures import Ablation

PATH = STUDIES / "sparsity-evolution.yaml"
SHARES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_the_study_is_the_released_recipe_on_six_shares_of_random_labels() -> None:
    spec = load_study(PATH)
    searcher = spec.make_searcher()
    configs = [dict(searcher.ask().config) for _ in range(6)]
    assert searcher.ask() is None
    assert sorted(config.pop("corruption") for config in configs) == SHARES
    released = {  # model/model_param.json; Keras' l2(1e-4) is a weight decay of 2e-4
        "lr": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 2e-4,
        "batch_size": 128,
        "augment": "standard",
        "rotate": 15.0,
    }
    assert configs == [released] * 6
    assert spec.task.epochs == 300
    assert spec.task.model.options() == {"width": 64, "batch_norm": False, "dropout": 0.0}


def test_small_trains_both_networks_on_the_same_images_from_two_seeds(tmp_path: Path) -> None:
    run = Run("sparsity_evolution", "small", tmp_path, "cpu")
    specs = load_studies(PATH, sparsity_evolution.overrides(run)).specs
    cells = [(spec.task.model.name, spec.seed) for spec in specs]
    assert cells == [(model, seed) for model in ("vgg16", "nin") for seed in range(2)]
    assert {spec.task.dataset.subset_size() for spec in specs} == {600}
    for spec in specs:
        searcher = spec.make_searcher()
        configs = [dict(searcher.ask().config) for _ in range(6)]
        assert searcher.ask() is None
        assert sorted(config.pop("corruption") for config in configs) == SHARES
        assert {config["augment"] for config in configs} == {"none"}


def row(epoch: int, accuracy: float, zeta: float, reaching: int) -> dict[str, Any]:
    values = (zeta, 1 - zeta, zeta / 2, zeta / 4, reaching)
    metrics = dict(zip(sparsity_measure.METRICS, values, strict=True))
    return {"epoch": epoch, "metrics": {"train_accuracy": accuracy, **metrics}}


def test_a_network_fits_at_the_first_epoch_of_at_least_the_accuracy() -> None:
    accuracies = (0.5, 0.9699, 0.97, 0.9, 1.0)
    curve = [row(i + 1, accuracy, i / 8, 2) for i, accuracy in enumerate(accuracies)]
    means = {"zeta": 0.25, "kappa": 0.75}
    reaching = {"zeta_reaching": 0.125, "kappa_reaching": 0.0625}
    assert sparsity_networks.when_it_fits(curve) == {"epoch": 3, **means, **reaching}
    assert sparsity_networks.when_it_fits(curve[:2]) is None
    unmeasured = {"epoch": 3, "metrics": {"train_accuracy": 0.99}}
    assert sparsity_networks.when_it_fits([unmeasured, row(4, 0.99, 0.5, 1)])["epoch"] == 4
    nothing = dict.fromkeys(reaching)
    assert sparsity_networks.when_it_fits([row(1, 1, 0.25, 0)]) == {"epoch": 1, **means, **nothing}


def test_the_measure_of_every_epoch_tells_classes_that_reach_chance_apart() -> None:
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 4))
    model.ablation_layer = "1"
    with torch.no_grad():
        model[2].weight.copy_(torch.eye(4))
        model[2].bias.copy_(torch.tensor([-0.1, 0.0, 0.1, 0.2]))
    batches = [(torch.eye(4)[:, None], torch.arange(4))]
    found = sparsity_measure.zeta_each_epoch(model, batches)
    # each class has a unit of its own; class 3 is predicted without any, and so never falls
    assert [*found.values()] == [3 * (2 / 8) / 4, 3 * (3 / 4) / 4, 2 / 8, 3 / 4, 3]


def some_network() -> Network:
    """Two classes and four units; the second class is predicted without any unit."""
    falling = torch.tensor([[1.0, 0.5, 0.0, 0.0, 0.0], [1.0, 1.0, 0.8, 0.9, 1.0]])
    rising = torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    grid = (0, 1, 2, 3, 4)
    found = Ablation("h", (0, 1), (3, 5), 0.25, grid, falling, rising, True)
    fit = dict.fromkeys(sparsity_networks.AT_FIT, 0.3) | {"epoch": 7, "kappa": 0.6}
    return Network("nin", 0, 0.2, 0.98, 0.6, fit, 1.5, found)


def test_classes_that_stay_above_chance_count_in_one_mean_and_not_in_the_other() -> None:
    (row,) = sparsity_networks.summary([some_network()])
    assert (row["classes_above_chance"], row["epoch_when_fit"]) == (1, 7)
    assert (row["zeta_when_fit"], row["kappa_when_fit"]) == (0.3, 0.6)
    assert row["gap"] == pytest.approx(0.38)
    assert row["zeta_reaching"] == (2 + 4 - 2) / 8
    assert row["zeta"] == ((2 + 4 - 2) / 8 + (2 + 4 - 4) / 8) / 2
    assert row["kappa_reaching"] == (0.5 + 1 + 0.5) / 4
    assert (row["n0_reaching"], row["n0r_reaching"]) == (0.5, 0.5)


def test_rank_correlations_are_medians_over_seeds_and_leave_out_what_is_not_known() -> None:
    orders = {0: [1.0, 2.0, 3.0, 4.0], 1: [4.0, 3.0, 2.0, 1.0], 2: [1.0, 3.0, 2.0, None]}
    rows: list[dict[str, Any]] = [
        {"seed": seed, "corruption": share, "zeta": value}
        for seed, values in orders.items()
        for share, value in zip((0.0, 0.2, 0.4, 0.6), values, strict=True)
    ]
    each = [
        sparsity_evolution.spearman([row for row in rows if row["seed"] == seed], "zeta")
        for seed in orders
    ]
    assert each == pytest.approx([1, -1, 0.5])
    figure = sparsity_evolution.ranks(rows, "ζ", "zeta", "rises")
    assert figure.ours == pytest.approx(0.5)
    assert figure.note == "-1.00 to +1.00, 3 seeds; the paper: rises"
    two = [{**row, "zeta": row["zeta"] if row["corruption"] < 0.3 else None} for row in rows]
    assert sparsity_evolution.ranks(two, "ζ", "zeta", "rises").ours is None


def test_tiny(tmp_path: Path) -> None:
    arguments = ["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)]
    sparsity_evolution.main(arguments)
    name = "sparsity_evolution"
    for suffix in ("", "_vgg16", "_nin"):
        assert (tmp_path / f"{name}{suffix}.png").stat().st_size > 5_000
    told = json.loads((tmp_path / f"{name}.json").read_text())
    rows, networks = (read(tmp_path / f"{name}{suffix}.csv") for suffix in ("", "_networks"))
    assert len(networks) == 12 and len(rows) == 12 * 4
    assert told["sizes"]["epochs"] == 4
    for i, network in enumerate(networks):  # a grid asks in the order of the shares
        study = tmp_path / f"{name}-tiny" / f"sparsity-evolution__{network['model']}__seed-0"
        own = rows[4 * i : 4 * i + 4]
        found = ablation(study, i % 6)
        last = read_curve(study, i % 6)[-1]["metrics"]
        assert network["train_accuracy"] == last["train_accuracy"]
        for measure in ("zeta", "kappa"):
            assert network[measure] == pytest.approx(last[measure], abs=1e-5)
            assert last[measure] == pytest.approx(last[f"{measure}_now"])
        assert len(read_curve(study, i % 6)) == 4
        assert all("zeta_now" in each["metrics"] for each in read_curve(study, i % 6))
        for place, row in enumerate(own):
            assert (row["model"], row["corruption"]) == (network["model"], network["corruption"])
            apart = (found.rising[place] - found.falling[place]).abs()
            area = np.trapezoid(apart, found.grid) / found.units  # eq. 5
            assert row["kappa"] == pytest.approx(area, abs=1e-5)
            assert row["zeta"] == pytest.approx((row["n0"] + 1 - row["n0r"]) / 2)  # eq. 4
        for measure in ("zeta", "kappa", "n0", "n0r"):
            assert network[measure] == pytest.approx(np.mean([row[measure] for row in own]))
    ours = {figure["what"]: figure["ours"] for figure in told["figures"]}
    assert ours["vgg16, 0% random: zeta at the end"] == pytest.approx(networks[0]["zeta"])
    assert ours["nin, 100% random: gap"] == pytest.approx(networks[11]["gap"])


def read(path: Path) -> list[dict[str, Any]]:
    """Numbers as such, models by name, and None for what is empty."""
    with open(path) as file:
        return [
            {k: v if k == "model" else float(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(file)
        ]
