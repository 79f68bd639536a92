"""The gradient-norm paper's Figure 3 at tiny scale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from hpogen import history

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_figure3 as figure3

NAME = "gradient_norm_figure3"


def test_a_tiny_figure(tmp_path: Path) -> None:
    figure3.main(["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)])
    assert (tmp_path / f"{NAME}.png").stat().st_size > 10_000
    rows = pd.read_csv(tmp_path / f"{NAME}.csv", keep_default_na=False)
    told = json.loads((tmp_path / f"{NAME}.json").read_text())["figures"]
    ours = {figure["what"]: figure["ours"] for figure in told}
    for net, own in rows.groupby("net"):
        _check_trials(own, tmp_path / f"{NAME}-tiny" / f"figure3__{net}")
        top, bottom = (own[own["half"] == half] for half in ("top", "bottom"))
        assert len(top) == len(bottom) == len(own) // 2
        assert top["train_accuracy"].min() >= bottom["train_accuracy"].max()
        least = ours[f"{net}, top half: least training accuracy"]
        assert least == pytest.approx(top["train_accuracy"].min())
        for part, chosen in (("all", own), ("top half", top), ("bottom half", bottom)):
            r = stats.pearsonr(chosen["agn"], chosen["gap"]).statistic
            assert ours[f"{net}, {part}: r(AGN, gap)"] == pytest.approx(r)
        p = stats.pearsonr(top["agn"], top["gap"]).pvalue
        assert ours[f"{net}, top half: p"] == pytest.approx(p)
        r = stats.pearsonr(own["agn"], 1 - own["test_accuracy"]).statistic
        assert ours[f"{net}, all: r(AGN, test error)"] == pytest.approx(r)
    table = pd.read_csv(tmp_path / f"{NAME}_correlations.csv")
    gaps = table[table["target"] == "audit_gap_loss"]
    positive = int((gaps[gaps["part"] == "top"]["r"] > 0).sum())
    assert ours["nets whose top half correlates positively"] == positive
    negative = int((gaps[gaps["part"] == "bottom"]["r"] < 0).sum())
    assert ours["nets whose bottom half correlates negatively"] == negative


def _check_trials(own: pd.DataFrame, path: Path) -> None:
    """The table has what the study's ledger has."""
    outcomes = [record.outcome for record in history.read(path).told()]
    assert len(own) == 6
    for outcome, row in zip(outcomes, own.itertuples(), strict=True):
        assert outcome is not None
        assert row.gap == pytest.approx(outcome.audit["loss"] - outcome.metrics["train_loss"])
        assert row.agn == pytest.approx(outcome.metrics["agn"])
        assert row.test_accuracy == pytest.approx(outcome.audit["accuracy"])
