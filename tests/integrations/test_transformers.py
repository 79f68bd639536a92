"""The callback in a real Trainer of Hugging Face: it reports, measures, resumes, stops, refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from integrations.loops import module, trial
from transformers import Trainer, TrainingArguments

from hpogen.errors import UserError
from hpogen.integrations.transformers import Report
from hpogen.measures import head_statistics

example = module("my_transformers")
TEST = [{"input_ids": example.ids[400:], "labels": example.labels[400:]}]
MEASURES = ["agn", "agn_online", "gsnr_head"]


def train(home: Path, start: int = 0, **keys: Any) -> Iterator[Any]:
    report = Report(trial(home, start), **{"measures": MEASURES, "audit": TEST, **keys})
    yield from report.train(trainer())


def trainer(**keys: Any) -> Trainer:
    arguments = TrainingArguments(disable_tqdm=True, **{**example.OPTIONS, **keys})
    rows = example.rows
    model = example.make_model()
    return Trainer(model, arguments, train_dataset=rows[:60], eval_dataset=rows[200:240])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return list(train(tmp_path_factory.mktemp("whole") / "trial"))


def test_metrics_measures_and_the_audit_of_the_last_epoch(whole: list[Any]) -> None:
    assert [isinstance(given, dict) for given in whole] == [True, True, False]
    metrics, audit = whole[-1]
    assert {"val_loss", "agn", "agn_online", "gsnr_head"} < metrics.keys()
    assert 0 < audit["error"] < 1
    assert 0 < whole[0]["agn"] < whole[1]["agn"] < metrics["agn"]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_closed_trial_goes_on_bit_for_bit(whole: list[Any], taken: int, tmp_path: Path) -> None:
    with closing(train(tmp_path)) as running:
        first = list(islice(running, taken))
    start = min(taken, 2)  # one that has not been told that it ended gives its last epoch again
    assert first[:start] + list(train(tmp_path, taken)) == whole


def test_one_checkpoint_stays(tmp_path: Path) -> None:
    list(train(tmp_path, measures=[], audit=None))
    assert {path.name for path in (tmp_path / "trainer").iterdir()} == {
        "checkpoint-9",
        "epoch-3.json",
    }


def test_measures_are_those_of_a_pass_of_ones_own(tmp_path: Path) -> None:
    data = [{"input_ids": example.ids[:60], "labels": example.labels[:60]}]
    report, used = Report(trial(tmp_path), measures=["agn", "gsnr_head"], data=data), trainer()
    terms = []
    for given in report.train(used):
        head = head_statistics(used.model, data)
        terms.append(head.agn)
        assert given["agn"] == pytest.approx(sum(terms), rel=1e-6)
        assert given["gsnr_head"] == pytest.approx(head.moments.gsnr, rel=1e-6)
    assert len(terms) == 3


def test_agn_online_is_that_of_the_training_forwards(tmp_path: Path) -> None:
    """Without dropout and with weights that do not change, it is that of a pass."""
    report, used = Report(trial(tmp_path), measures=["agn_online", "agn"]), trainer(learning_rate=0)
    used.model.config.hidden_dropout_prob = 0
    for layer in used.model.modules():
        if hasattr(layer, "p"):
            layer.p = 0.0
        if hasattr(layer, "dropout_prob"):
            layer.dropout_prob = 0.0
    metrics = list(report.train(used))[-1]
    assert metrics["agn_online"] == pytest.approx(metrics["agn"], rel=1e-5)


def test_what_the_trainer_last_logged_is_a_metric(tmp_path: Path) -> None:
    report = Report(trial(tmp_path, budget=1), metrics=["loss", "val_loss"])
    ((given),) = report.train(trainer())
    assert given.keys() == {"loss", "val_loss"}


def test_a_report_without_a_trial_is_refused() -> None:
    with pytest.raises(UserError, match=r"^transformers.Report: got None as its trial, expected"):
        Report()


def test_a_trainer_that_is_started_by_itself_is_refused(tmp_path: Path) -> None:
    used = trainer(output_dir=tmp_path)
    used.add_callback(Report(trial(tmp_path)))
    with pytest.raises(UserError, match=r"expected `yield from report.train\(trainer\)`"):
        used.train()


def test_labels_that_the_model_is_not_given_are_said(tmp_path: Path) -> None:
    report = Report(trial(tmp_path), measures=["agn_online"])
    with pytest.raises(UserError, match="agn_online needs the labels among the model's inputs"):
        list(report.train(trainer(label_smoothing_factor=0.1)))


def test_a_metric_that_is_not_logged_is_refused(tmp_path: Path) -> None:
    report = Report(trial(tmp_path), metrics=["accuracy"])
    with pytest.raises(UserError, match=r"logged no 'accuracy' in epoch 1, but .*val_loss"):
        list(report.train(trainer()))
