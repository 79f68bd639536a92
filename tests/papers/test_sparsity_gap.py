"""The sparsity paper's Figures 3, 5, 6: its recipes, the splits, and the script at tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hpogen.record import history
from hpogen.spec import load_study

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import sparsity_gap
from common import STUDIES, Run
from gap_model import assess
from scipy import stats
from sparsity_gap import Family
from sparsity_parts import ablation

RECIPES = {  # the paper's appendix D
    "momentum": {0.0, 0.5, 0.9},
    "weight_decay": {0.0, 1e-4},
    "batch_size": {128, 256, 512},
    "augment": {"none", "standard"},
    "corruption": {0.0, 0.2, 0.4, 0.6, 0.8, 1.0},
}


@pytest.mark.parametrize("model", sorted(sparsity_gap.WIDTHS))
def test_the_studies_draw_80_networks_of_the_papers_recipes(model: str) -> None:
    spec = load_study(STUDIES / f"sparsity-{model}.yaml")
    searcher = spec.make_searcher()
    configs = [searcher.ask().config for _ in range(spec.stop.trials)]
    assert len(configs) == 80
    assert all(("rotate" in config) == (config["augment"] == "standard") for config in configs)
    vgg = {"dropout": {0.0, 0.3, 0.5}, "batch_norm": {True, False}} if model == "vgg16" else {}
    recipes = {**RECIPES, **vgg}
    for name, values in recipes.items():
        assert {config[name] for config in configs} == values
    assert {*configs[0]} - {"rotate"} == {"lr", *recipes}


@pytest.mark.parametrize("model", sorted(sparsity_gap.WIDTHS))
def test_small_draws_recipes_that_fit_soon(model: str, tmp_path: Path) -> None:
    run = Run("sparsity_gap", "small", tmp_path, "cpu")
    spec = load_study(STUDIES / f"sparsity-{model}.yaml", sparsity_gap.overrides(run, model))
    searcher = spec.make_searcher()
    configs = [searcher.ask().config for _ in range(spec.stop.trials)]
    assert len(configs) == {"vgg16": 80, "mobilenet": 80, "resnet34": 56}[model]
    assert {config["augment"] for config in configs} == {"none"}
    assert {config["batch_size"] for config in configs} == {16, 32, 64}
    for name in ("momentum", "weight_decay", "corruption"):
        assert {config[name] for config in configs} == RECIPES[name]
    assert {config.get("batch_norm", True) for config in configs} == {True}
    assert spec.task.dataset.subset_size() == 300


def some_family(count: int = 30) -> Family:
    generator = np.random.default_rng(1)
    zeta, kappa = generator.random((2, count))
    gaps = 0.4 * zeta - 0.3 * kappa + 0.5 + generator.normal(0, 0.02, count)
    return Family(gaps, {"zeta": zeta, "kappa": kappa})


def test_guessing_the_mean_gap_and_the_error_per_network() -> None:
    gaps = np.array([0.1, 0.4, 0.7, 0.2])
    found = sparsity_gap.constant_residuals(gaps, 1)
    alone = {(x - (gaps.sum() - x) / 3) ** 2 for x in gaps}  # one held out: four possible values
    assert len(found) == 100
    assert all(min(abs(value - one) for one in alone) < 1e-12 for value in found)
    assert len({round(value, 9) for value in found}) == 4
    assert sparsity_gap.per_network([0.02, 0.06], 4) == pytest.approx(0.1)


def test_figures_are_those_of_the_gap_model() -> None:
    family = some_family()
    figures = {x.what: x for x in sparsity_gap.of_sparsity("resnet34", family, "30")}
    test = assess(family.metrics, family.gaps)
    assert figures["30: Pearson of estimate and gap"].ours == pytest.approx(test.pearson)
    expected = stats.pearsonr(family.metrics["zeta"], family.gaps)
    zeta = figures["30: Pearson of ζ and the gap"]
    assert (zeta.ours, zeta.note) == (pytest.approx(expected[0]), f"p {expected[1]:.2g}")
    columns = np.column_stack([*family.metrics.values(), np.ones(30)])
    _, ssr, _, _ = np.linalg.lstsq(columns, family.gaps, rcond=None)
    assert figures["30: SSR of all, fitted to them"].ours == pytest.approx(ssr[0])
    mean = figures["30: the same, guessing the mean gap"]
    assert mean.ours == pytest.approx(30 * family.gaps.var())
    median = figures["30: SSR, median of 100 splits"]
    assert median.ours == pytest.approx(np.median(test.residuals))
    error = figures["30: error per network held out"]
    assert error.ours == pytest.approx(np.sqrt(np.sum(test.residuals) / 300))  # 100 splits of 3
    guess = figures["30: the same held out, guessing the mean gap"].ours
    assert guess is not None and guess > 3 * (error.ours or 0)


def test_the_papers_figures() -> None:
    """0.979, 0.023 (one split) and 0.035 (100 splits) of Figure 3; in-sample in Figures 5 and 6."""
    theirs = {
        model: [
            figure.theirs
            for figure in sparsity_gap.of_sparsity(model, some_family(), "30")
            if figure.theirs is not None
        ]
        for model in sparsity_gap.WIDTHS
    }
    assert theirs == {
        "vgg16": [0.979, 0.023, 0.035, pytest.approx((0.023 / 8) ** 0.5)],
        "mobilenet": [0.074],
        "resnet34": [0.122],
    }
    for model, expected in (("mobilenet", 0.074), ("resnet34", 0.122)):
        figures = sparsity_gap.of_sparsity(model, some_family(), "30")
        (fitted,) = (figure for figure in figures if figure.theirs is not None)
        assert (fitted.what, fitted.theirs) == ("30: SSR of all, fitted to them", expected)


def test_tiny(tmp_path: Path) -> None:
    arguments = ["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)]
    sparsity_gap.main(["--model", "vgg16", *arguments])
    name = "sparsity_gap_vgg16"
    study = f"{name}-tiny/sparsity-vgg16"
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    told = json.loads((tmp_path / f"{name}.json").read_text())
    with open(tmp_path / f"{name}.csv") as file:
        rows = list(csv.DictReader(file))
    left_out = sum(told["sizes"]["left out"].values())
    assert len(rows) + left_out == 12 and told["sizes"]["networks"] == len(rows)
    ours = {figure["what"]: figure["ours"] for figure in told["figures"]}
    gaps = [float(row["gap"]) for row in rows]
    assert (ours["smallest gap"], ours["largest gap"]) == pytest.approx((min(gaps), max(gaps)))
    records = {record.trial.id: record for record in history.read(tmp_path / study).told()}
    for row in rows:
        outcome = records[int(row["trial"])].outcome
        accuracy = outcome.metrics["train_accuracy"]
        assert float(row["train_accuracy"]) == pytest.approx(accuracy)
        assert float(row["gap"]) == pytest.approx(accuracy - outcome.audit["accuracy"])
        assert (row["rotate"] == "") == (row["augment"] == "none")
        found = ablation(tmp_path / study, int(row["trial"]))
        assert float(row["zeta"]) == pytest.approx(float(found.zetas.mean()))
        assert float(row["kappa"]) == pytest.approx(float(found.kappas.mean()), abs=1e-5)
    columns = np.array([[float(row["zeta"]), float(row["kappa"]), 1.0] for row in rows])
    estimates = columns @ np.linalg.lstsq(columns, np.array(gaps), rcond=None)[0]
    what = f"{len(rows)} that fit: Pearson of estimate and gap"
    assert ours[what] == pytest.approx(np.corrcoef(estimates, gaps)[0, 1], abs=1e-6)
