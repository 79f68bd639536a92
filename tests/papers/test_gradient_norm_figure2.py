"""The gradient-norm paper's Figure 2 at tiny scale, and the sums behind its bars."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_figure2 as figure2

NAME = "gradient_norm_figure2"
MEASURED = {"validation": "val_accuracy", "AGN": "agn", "GN": "gn", "control": "val_accuracy"}
DIGITS = figure2.Case("MLP", "mlp", "digits", 256, 64, (1, 8, 8), 10)


def test_a_tiny_figure(tmp_path: Path) -> None:
    figure2.main(["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)])
    assert (tmp_path / f"{NAME}.png").stat().st_size > 10_000
    rows = pd.read_csv(tmp_path / f"{NAME}.csv")
    assert [*rows["images"]] == [60_000, 12_000, 73_257, 14_651, 50_000, 10_000]
    assert [*rows["iterations"]] == [469, 94, 573, 115, 391, 79]
    one_round = rows["AGN_seconds"] / rows["validation_seconds"]
    assert [*rows["AGN over validation"]] == pytest.approx([*one_round])
    assert (rows["GN over AGN"] > 10).all()  # 79 passes over the images and more, beside one
    told = json.loads((tmp_path / f"{NAME}.json").read_text())["figures"]
    beside = {figure["what"]: (figure["ours"], figure["theirs"]) for figure in told}
    assert beside["GN over AGN, most"] == (pytest.approx(rows["GN over AGN"].max()), 20_489)
    assert beside["AGN over validation, least"] == (pytest.approx(one_round.min()), 1.95)


def test_an_epoch_is_training_and_the_arms_own_part() -> None:
    train = {"validation": 3.0, "AGN": 3.0, "GN": 3.0, "control": 3.0}
    part = {"validation": 1.0, "AGN": 2.0, "GN": 5.0, "control": 1.0}
    seconds = figure2.Seconds(train, part)
    assert seconds.epoch("validation", 300, 50) == 300 * 3 + 50
    assert seconds.epoch("control", 300, 50) == 300 * 3 + 50
    assert seconds.epoch("AGN", 300, 50) == 300 * 3 + 300 * 2
    assert seconds.epoch("GN", 300, 50) == 300 * 3 + 3 * (300 * 5)  # 300 images are 3 batches


@pytest.mark.parametrize("arm", MEASURED)
def test_an_arm_measures_what_it_is_called_by_and_nothing_else(arm: str, tmp_path: Path) -> None:
    running = figure2.epochs(DIGITS, arm, 256, 64, tmp_path, "cpu")
    epoch = next(running)
    running.close()
    assert MEASURED[arm] in epoch.metrics
    unwanted = {*MEASURED.values()} - {MEASURED[arm]}
    assert not unwanted & epoch.metrics.keys()
    assert epoch.seconds[figure2.PART[arm]] > 0
    parts = epoch.seconds["train"] + epoch.seconds["measures"] + epoch.seconds["validation"]
    assert parts <= epoch.seconds["total"]


def test_rounds_are_per_image(tmp_path: Path) -> None:
    (one,) = figure2.timed(DIGITS, 256, 64, 1, "cpu")
    assert one.train.keys() == one.part.keys() == figure2.ARMS.keys()
    assert all(0 < value < 0.1 for value in [*one.train.values(), *one.part.values()])
