"""The gradient-norm paper's Figure 4 at tiny scale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpogen.study.retrained import results

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_figure4 as figure4


def test_a_tiny_figure(tmp_path: Path) -> None:
    figure4.main(["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)])
    assert (tmp_path / "gradient_norm_figure4.png").stat().st_size > 5_000
    rows = pd.read_csv(tmp_path / "gradient_norm_figure4.csv")
    assert dict(rows["panel"].value_counts()) == dict.fromkeys(figure4.PANELS, 4)
    chosen = pd.read_csv(tmp_path / "gradient_norm_figure4_chosen.csv").set_index("panel")
    assert chosen.loc["default", "lr"] == 0.1

    told = json.loads((tmp_path / "gradient_norm_figure4.json").read_text())["figures"]
    ours = {figure["what"]: figure["ours"] for figure in told}
    last = rows[rows["epoch"] == 4].set_index("panel")
    gaps = last["test_loss"] - last["train_loss"]
    assert ours["Default: final gap (nats)"] == pytest.approx(gaps["default"])
    by_agn = gaps["cmaes__agn+train-0.1"]
    assert ours["CMA-ES (AGN+Train): final gap (nats)"] == pytest.approx(by_agn)
    assert ours["RS (Val): final test loss"] == pytest.approx(last["test_loss"]["random__val"])

    (answer,) = (x for x in results(tmp_path / "figure4" / "random__val") if x.choice.is_answer)
    assert last["test_loss"]["random__val"] == pytest.approx(answer.runs[0].loss)


def test_gap_peak_and_step_by_hand() -> None:
    train = np.array([[2.0, 1.0, 0.5], [2.0, 1.5, 0.5]])
    test = np.array([[2.5, 1.5, 2.0], [2.0, 3.0, 1.0]])
    found = figure4.Curves(train, test)
    assert (found.gap, found.peak, found.peak_epoch) == (1.0, 3.0, 2)
    assert found.step == pytest.approx((1.0 + 0.5 + 1.0 + 2.0) / 4)
