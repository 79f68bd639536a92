"""The gradient-norm paper's Figure 3 at tiny scale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hpogen.record import history
from hpogen.spec import load_studies

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_figure3 as figure3
from common import STUDIES

NAME = "gradient_norm_figure3"


def test_a_tiny_figure(tmp_path: Path) -> None:
    figure3.main(["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)])
    rows = pd.read_csv(tmp_path / f"{NAME}.csv", keep_default_na=False)
    told = json.loads((tmp_path / f"{NAME}.json").read_text())["figures"]
    ours = {figure["what"]: figure["ours"] for figure in told}
    for (net, arm), own in rows.groupby(["net", "arm"]):
        _check_trials(own, tmp_path / f"{NAME}-tiny" / f"figure3__{net}__{arm}")
        _check_figures(own, ours, f"{net}, {arm}")
    table = pd.read_csv(tmp_path / f"{NAME}_correlations.csv")
    for arm in figure3.ARMS:
        assert (tmp_path / f"{NAME}_{arm}.png").stat().st_size > 10_000
        gaps = table[(table["target"] == "audit_gap_loss") & (table["arm"] == arm)]
        positive = int((gaps[gaps["part"] == "top"]["r"] > 0).sum())
        assert ours[f"{arm}: nets whose top half correlates positively"] == positive
        negative = int((gaps[gaps["part"] == "bottom"]["r"] < 0).sum())
        assert ours[f"{arm}: nets whose bottom half correlates negatively"] == negative


def test_the_arms_differ_in_the_scale_of_the_learning_rate_alone() -> None:
    scales, others = {}, {}
    for spec in load_studies(STUDIES / "figure3.yaml").specs:
        net, arm = spec.name.split("__")
        record = {**spec.record(), "name": net}
        lr = record["search_space"].pop("lr")
        assert lr["float"] == [1e-7, 0.5]
        scales[arm] = lr["log"]
        assert others.setdefault(net, record) == record
    assert scales == {"lr-log": True, "lr-linear": False} and len(others) == 4


def _check_figures(own: pd.DataFrame, ours: dict[str, float], name: str) -> None:
    """What is told of one net in one arm, from the table."""
    top, bottom = (own[own["half"] == half] for half in ("top", "bottom"))
    assert len(top) == len(bottom) == len(own) // 2
    assert top["train_accuracy"].min() >= bottom["train_accuracy"].max()
    least = ours[f"{name}, top half: least training accuracy"]
    assert least == pytest.approx(top["train_accuracy"].min())
    for part, chosen in (("all", own), ("top half", top), ("bottom half", bottom)):
        found = stats.pearsonr(chosen["agn"], chosen["gap"])
        assert ours[f"{name}, {part}: r(AGN, gap)"] == pytest.approx(found.statistic)
        assert ours[f"{name}, {part}: p"] == pytest.approx(found.pvalue)
    found = stats.pearsonr(own["agn"], 1 - own["test_accuracy"])
    assert ours[f"{name}, all: r(AGN, test error)"] == pytest.approx(found.statistic)
    assert ours[f"{name}, all: p of that"] == pytest.approx(found.pvalue)


def test_nets_of_the_papers_training_accuracy_are_judged_alone() -> None:
    accuracy = np.array([0.5, 0.9, 0.88, 0.1, 1.0])
    agn, gap = np.array([9.0, 1.0, 2.0, 9.0, 4.0]), np.array([9.0, 3.0, 2.0, 0.0, 1.0])
    assert figure3.well_fitted(accuracy, agn, gap) == (
        3,
        pytest.approx(np.corrcoef([1, 2, 4], [3, 2, 1])[0, 1]),
        pytest.approx(stats.pearsonr([1, 2, 4], [3, 2, 1]).pvalue),
    )
    assert figure3.well_fitted(accuracy[:3], agn[:3], gap[:3]) == (2, None, None)


def _check_trials(own: pd.DataFrame, path: Path) -> None:
    """The table has what the study's ledger has."""
    outcomes = [record.outcome for record in history.read(path).told()]
    assert len(own) == 6
    for outcome, row in zip(outcomes, own.itertuples(), strict=True):
        assert outcome is not None
        assert row.gap == pytest.approx(outcome.audit["loss"] - outcome.metrics["train_loss"])
        assert row.agn == pytest.approx(outcome.metrics["agn"])
        assert row.test_accuracy == pytest.approx(outcome.audit["accuracy"])
