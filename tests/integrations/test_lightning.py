"""The Lightning callback in a real Trainer: it reports, measures, resumes, stops and refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from integrations.loops import module, trial
from torch import nn
from torch.utils.data import DataLoader

from hpogen.errors import UserError
from hpogen.integrations.lightning import Report
from hpogen.measures import head_statistics

example = module("my_lightning")
OPTIONS = {**example.OPTIONS, "enable_progress_bar": False, "enable_model_summary": False}
HELD_OUT = DataLoader(example.test_data, 100)


class Net(example.Net):  # type: ignore[misc, name-defined]
    """With dropout, running statistics, and a schedule that looks at the validation loss."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        layers = nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2)
        self.net = nn.Sequential(*layers)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=0, factor=0.5, threshold=0.3
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"},
        }


def train(home: Path, start: int = 0, budget: int = 4, **keys: Any) -> Iterator[Any]:
    options = {"measures": ["agn", "agn_online", "param_norm"], "audit": HELD_OUT, **keys}
    report = Report(trial(home, start, budget), **options)
    yield from fit(report, Net())


def fit(report: Report, net: Any, **options: Any) -> Iterator[Any]:
    trainer = lightning.Trainer(**OPTIONS, **options)
    train_loader = DataLoader(example.train_data, 20, shuffle=True)
    yield from report.fit(trainer, net, train_loader, DataLoader(example.val_data, 100))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return list(train(tmp_path_factory.mktemp("whole") / "trial"))


def test_the_last_epoch_alone_has_the_audit(whole: list[Any]) -> None:
    assert [isinstance(given, dict) for given in whole] == [True, True, True, False]
    metrics, audit = whole[-1]
    assert metrics.keys() == whole[0].keys() == {"val_loss", "agn", "agn_online", "param_norm"}
    assert audit.keys() == {"error"} and 0 < audit["error"] < 1


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_closed_trial_goes_on_bit_for_bit(whole: list[Any], taken: int, tmp_path: Path) -> None:
    threads = threading.active_count()
    with closing(train(tmp_path)) as running:
        first = list(islice(running, taken))
    assert threading.active_count() == threads
    assert first + list(train(tmp_path, taken)) == whole


def test_without_its_checkpoint_a_trial_trains_again_what_was_taken(
    whole: list[Any], tmp_path: Path
) -> None:
    assert list(train(tmp_path, 2)) == whole[2:]


def test_a_trial_whose_end_was_not_told_gives_its_last_epoch_again(
    whole: list[Any], tmp_path: Path
) -> None:
    assert list(train(tmp_path, 4)) == whole[3:]


def test_one_checkpoint_stays(tmp_path: Path) -> None:
    running = train(tmp_path, measures=[], audit=None)
    for _ in range(4):
        next(running)
    assert {path.name for path in tmp_path.iterdir()} == {f"epoch-{k}.ckpt" for k in (2, 3, 4)}
    assert list(running) == []
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-4.ckpt"]


def test_measures_are_those_of_a_pass_of_ones_own(tmp_path: Path) -> None:
    data, net, terms = DataLoader(example.train_data, 50), Net(), []
    report = Report(trial(tmp_path), measures=["agn", "gsnr_head"], data=data)
    for given in fit(report, net):
        head = head_statistics(net, data)
        terms.append(head.agn)
        assert given["agn"] == pytest.approx(sum(terms), rel=1e-6)
        assert given["gsnr_head"] == pytest.approx(head.moments.gsnr, rel=1e-6)
    assert len(terms) == 3


def test_agn_online_is_that_of_the_training_forwards(tmp_path: Path) -> None:
    """Of weights that do not change, it is the mean over mini-batches of a pass in their mode."""
    net = example.Net(0.0)
    data = DataLoader(example.train_data, 20)
    report = Report(trial(tmp_path, budget=2), measures=["agn_online", "agn"], data=data)
    metrics = list(fit(report, net))[-1]
    assert metrics["agn_online"] == pytest.approx(metrics["agn"], rel=1e-6)


def test_a_module_whose_parts_are_called_and_a_forward_of_ones_own(tmp_path: Path) -> None:
    class Parts(example.Net):  # type: ignore[misc, name-defined]
        forward = None

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    names = ["agn", "agn_online"]
    own = Report(
        trial(tmp_path / "a"), measures=names, audit=HELD_OUT, forward=lambda m, x: m.net(x)
    )
    plain = Report(trial(tmp_path / "b"), measures=names, audit=HELD_OUT)
    torch.manual_seed(0)
    parts, whole = Parts(0.01), example.Net(0.01)
    whole.load_state_dict(parts.state_dict())
    assert list(fit(own, parts)) == list(fit(plain, whole))


def test_an_audit_may_be_a_function(tmp_path: Path) -> None:
    report = Report(
        trial(tmp_path, budget=1), audit=lambda net: {"weight": net.net[0].weight[0, 0]}
    )
    net = Net()
    ((_, audit),) = fit(report, net)
    assert audit == {"weight": net.net[0].weight[0, 0].item()}


@pytest.mark.parametrize("given", [None, 3, {"lr": 0.1}])
def test_a_report_without_a_trial_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^lightning.Report: got .* as its trial, expected the"):
        Report(given)


def test_a_trainer_that_is_started_by_itself_is_refused(tmp_path: Path) -> None:
    options = {**OPTIONS, "enable_checkpointing": True}
    trainer = lightning.Trainer(max_epochs=1, callbacks=[Report(trial(tmp_path))], **options)
    with pytest.raises(UserError, match=r"expected `yield from report.fit\(trainer, model, …\)`"):
        trainer.fit(Net(), HELD_OUT, HELD_OUT)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"measures": ["agnn"]}, "measure 'agnn' is unknown; did you mean 'agn'"),
        ({"measures": ["tse"]}, "'tse' is made of the losses that you train with"),
        ({"metrics": ["loss"]}, "metrics: the trainer logged no 'loss' in epoch 1, but val_loss"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    keys: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^lightning.Report: {line}") as caught:
        list(train(tmp_path, **keys))
    assert "\n" not in str(caught.value)


def test_a_trainer_that_stops_by_itself_is_refused(tmp_path: Path) -> None:
    report = Report(trial(tmp_path))
    with pytest.raises(UserError, match="the trainer ended after 1 of 3 epochs: leave early"):
        list(fit(report, Net(), max_steps=10))


def test_a_trainer_of_two_devices_is_refused(tmp_path: Path) -> None:
    report = Report(trial(tmp_path))
    with pytest.raises(UserError, match="got a trainer of 2 devices, expected 1"):
        report._epochs._give = lambda _: True
        report._epochs.check("", 2)


def test_a_trainer_that_does_not_stop_when_told_is_ended(tmp_path: Path) -> None:
    running = fit(Report(trial(tmp_path, budget=9)), Net(), min_epochs=9)
    next(running)
    running.close()
    assert {path.name for path in tmp_path.iterdir()} == {"epoch-1.ckpt", "epoch-2.ckpt"}
