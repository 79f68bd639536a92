"""The gradient-norm paper's Figure 1 at tiny scale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpogen.record import history
from hpogen.study.open import loaded
from hpogen.study.read import read
from hpogen.training.forms.schedule import Schedule, rate
from hpogen.training.recipe import begin
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_figure1 as figure1
from common import pearson

NAME = "gradient_norm_figure1"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    figure1.main(["--scale", "tiny", "--device", "cpu", "--out", str(out)])
    return out


def test_the_nets_are_those_of_the_studies_and_correlate_as_said(out: Path) -> None:
    rows = pd.read_csv(out / f"{NAME}_abcd.csv")
    assert set(rows.groupby(["net", "range"]).size()) == {3} and len(rows) == 12
    told = json.loads((out / f"{NAME}.json").read_text())["figures"]
    ours = {figure["what"]: figure["ours"] for figure in told}
    for (net, label), own in rows.groupby(["net", "range"]):
        records = history.read(out / f"{NAME}-tiny" / f"figure1-{net}__{label}").told()
        for record, row in zip(records, own.itertuples(), strict=True):
            assert record.outcome is not None
            metrics = record.outcome.metrics
            assert row.gap == pytest.approx(metrics["val_loss"] - metrics["train_loss"])
            assert (row.gn, row.agn) == pytest.approx((metrics["gn"], metrics["agn"]))
            assert row.gn > 0 and row.lr == pytest.approx(record.trial.config["lr"])
        name = f"{figure1.NAMES[net]}, {label}: r(GN, AGN)"
        assert ours[name] == pytest.approx(np.corrcoef(own["gn"], own["agn"])[0, 1])
        per_iteration = np.corrcoef(own["gn"] / own["iterations"], own["agn"])[0, 1]
        name = f"{figure1.NAMES[net]}, {label}: r(GN per iteration, AGN)"
        assert ours[name] == pytest.approx(per_iteration)
    slow, fast = (rows[rows["range"] == label] for label in figure1.RANGES)
    assert list(slow["momentum"]) == list(fast["momentum"])  # the ranges differ in lr alone
    assert (slow["lr"].to_numpy() < fast["lr"].to_numpy()).all()


def test_the_terms_add_up_and_change_phase_with_the_learning_rate(out: Path) -> None:
    rows = pd.read_csv(out / f"{NAME}_ef.csv")
    told = json.loads((out / f"{NAME}.json").read_text())["figures"]
    ours = {figure["what"]: figure["ours"] for figure in told}
    for net, own in rows.groupby("net"):
        study = read(out / f"{NAME}-tiny" / f"figure1-{net}")
        spec, past = loaded(study), study.history
        assert isinstance(spec.task, ImageClassification)
        schedule, epochs = spec.task.schedule, spec.task.epochs
        rates = [rate(schedule, 1.0, e - 1, 1e-3, epochs, epochs) for e in own["epoch"]]
        assert [0.1**phase for phase in own["phase"]] == pytest.approx(rates)
        for record, (training, part) in zip(past.told(), own.groupby("training"), strict=True):
            assert record.outcome is not None and record.trial.id == training
            assert part["gn"].sum() == pytest.approx(record.outcome.metrics["gn"])
            assert part["agn"].sum() == pytest.approx(record.outcome.metrics["agn"])
        for phase, part in own.groupby("phase"):
            name = f"{figure1.NAMES[net]}, learning rate {phase + 1}: r(GN, AGN)"
            rs = [np.corrcoef(one["gn"], one["agn"])[0, 1] for _, one in part.groupby("training")]
            assert len(set(rs)) == 2
            assert ours[name] == pytest.approx(np.median(rs))


def test_the_pictures_are_there(out: Path) -> None:
    for suffix in ("_abcd", "_ef"):
        assert (out / f"{NAME}{suffix}.png").stat().st_size > 10_000


@pytest.mark.parametrize("batch_size", [16, 31, 32, 33, 64, 65, 1000])
def test_iterations_are_those_of_a_trial(batch_size: int, tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.05, "validation": 100, "audit": 0}
    task = {"dataset": dataset, "model": "mlp", "epochs": 1, "schedule": Schedule().model_dump()}
    settings = ImageClassification.model_validate(task)
    config = {"lr": 0.1, "batch_size": batch_size}
    trial = RunningTrial(config, 1, id=0, seed=0, start_epoch=0, home=tmp_path)
    recipe, _ = begin(settings, trial, frozenset())
    assert len(recipe.data.subset) == 65
    assert figure1.iterations(65, batch_size) == recipe.steps


def test_a_correlation_that_is_not_defined() -> None:
    assert pearson([1, 2], [3, 4]) is None
    assert pearson([1, 2, 3], [4, 4, 4]) is None
    assert pearson([1, 2, 3], [-2, -4, -6]) == pytest.approx(-1)
