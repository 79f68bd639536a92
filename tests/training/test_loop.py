"""Whole trials on the digits: metrics, passes counted, resume, continuation, divergence."""

from __future__ import annotations

import dataclasses
import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training.runs import CONFIG, epochs, task, trial

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.measures import HeadStatistics, catalog
from hpogen.plugins import Measured
from hpogen.report.listing import measure_rows
from hpogen.tasks.base import Diverged
from hpogen.training import random_state
from hpogen.training.task import ImageClassification

SUBSET, VALIDATION, AUDIT = 259, 519, 519  # of the digits, by default
HEAD = tuple(metric for row in catalog.HEAD for metric in row.metrics)
FORWARDS: list[tuple[bool, int]] = []  # training mode and images of each forward pass
SEEN: list[Tensor] = []  # the images of each forward pass
STEPS = ("agn_online", "agn_lr", "tse", "tse_ema", "tse_last")
ALL = ("agn", "agn_mean", *STEPS, "val_loss", "train_loss")


@plugins.model("counted")
def counted(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Counted(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))


class Counted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        FORWARDS.append((self.training, len(x)))
        SEEN.append(x.clone())
        logits: Tensor = self.inner(x)
        return logits


@plugins.model("shaken")
def shaken(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Has all that a resumed trial may lose: dropout's draws and BatchNorm's averages."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(256, 10),
    )


def images(training: bool) -> int:
    return sum(count for mode, count in FORWARDS if mode is training)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (("val_loss",), VALIDATION),
        (("agn",), SUBSET),
        (("agn", "train_loss"), SUBSET),
        (("agn", "val_loss"), SUBSET + VALIDATION),
        (("agn_online",), 0),
        (("agn_online", "val_loss"), VALIDATION),
        (STEPS, 0),
        (HEAD, SUBSET),
    ],
)
def test_an_epoch_runs_only_the_passes_it_needs(
    tmp_path: Path, wanted: tuple[str, ...], passes: int
) -> None:
    FORWARDS.clear()
    done = epochs(task(model="counted", epochs=4), trial(tmp_path, budget=4), *wanted)
    assert images(training=True) == 4 * SUBSET
    last = SUBSET + VALIDATION + AUDIT  # the budget's last epoch has them all
    assert images(training=False) == 3 * passes + last
    assert all(set(wanted) <= epoch.metrics.keys() for epoch in done)


def test_metrics_of_the_last_epoch(tmp_path: Path) -> None:
    done = epochs(task(), trial(tmp_path), *ALL, "agn_last")
    metrics = done[-1].metrics
    passes = {"gap_loss", "gap_accuracy", "train_accuracy", "val_accuracy", "train_loss_online"}
    assert set(metrics) == {*ALL, "agn_last"} | passes
    assert metrics["gap_loss"] == metrics["val_loss"] - metrics["train_loss"]
    assert metrics["gap_accuracy"] == metrics["train_accuracy"] - metrics["val_accuracy"]
    assert metrics["agn"] == sum(epoch.metrics["agn_last"] for epoch in done)
    assert metrics["agn_mean"] == metrics["agn"] / 3
    assert metrics["agn_online"] > done[0].metrics["agn_online"] > 0
    losses = [epoch.metrics["train_loss_online"] for epoch in done]
    assert metrics["tse"] == sum(losses)
    assert metrics["tse_ema"] == pytest.approx(0.998001 * losses[0] + 0.999 * losses[1] + losses[2])
    assert metrics["tse_last"] == losses[2]
    assert [epoch.epoch for epoch in done] == [1, 2, 3]
    assert set(done[-1].audit) == {"loss", "accuracy"}
    losses = np.load(io.BytesIO(done[-1].files["val_losses.npy"]))
    assert losses.dtype == np.float32
    assert losses.shape == (VALIDATION,)
    assert losses.mean() == pytest.approx(metrics["val_loss"], rel=1e-6)
    assert done[-1].seconds["total"] > sum(epoch.seconds["total"] for epoch in done[:-1])
    assert not done[0].audit
    assert not done[0].files


def test_a_wider_net_learns_the_digits(tmp_path: Path) -> None:
    settings = task({"subset": 0.5}, model={"name": "mlp", "width": 128}, epochs=6)
    assert epochs(settings, trial(tmp_path, budget=6))[-1].metrics["val_accuracy"] > 0.9


def test_no_validation_no_validation_metrics(tmp_path: Path) -> None:
    done = epochs(task({"validation": 0, "audit": 0}), trial(tmp_path), "train_loss")
    assert set(done[-1].metrics) == {"train_loss", "train_accuracy", "train_loss_online"}
    assert not done[-1].files
    assert not done[-1].audit


def test_audit_on_the_test_set(tmp_path: Path) -> None:
    FORWARDS.clear()
    epochs(task({"audit": "test"}, model="counted", epochs=1), trial(tmp_path, budget=1))
    assert images(training=False) == SUBSET + VALIDATION + 500


def test_same_seed_same_numbers_another_seed_others(tmp_path: Path) -> None:
    first = epochs(task(), trial(tmp_path / "a"), *ALL)
    torch.manual_seed(99)  # the world's random state is none of its business
    again = epochs(task(), trial(tmp_path / "b"), *ALL)
    other = epochs(task(), trial(tmp_path / "c", seed=8), *ALL)
    assert [epoch.metrics for epoch in again] == [epoch.metrics for epoch in first]
    assert other[-1].metrics != first[-1].metrics


def test_the_worlds_random_state_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    epochs(task(model="shaken"), trial(tmp_path), *ALL)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augment", ["none", "standard"])
def test_each_epoch_has_all_images_in_an_order_of_its_own(tmp_path: Path, augment: str) -> None:
    SEEN.clear()
    dataset = {"subset": 0.15, "validation": 0, "audit": 0, "augment": augment}
    settings = task(dataset, model="counted", epochs=2)
    epochs(settings, trial(tmp_path, {"lr": 0.1, "batch_size": 1000}, budget=2), "train_loss")
    first, plain, second, _ = SEEN
    assert not torch.equal(first, second)
    sums = [sorted(x.flatten(1).sum(1).tolist()) for x in (first, second, plain)]
    assert (sums[0] == sums[1] == sums[2]) is (augment == "none")


HARD = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "label_smoothing": 0.1}
ADAM = {"optimizer": "adamw", "lr": 0.01}


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life after each step and each evaluated batch."""
    monkeypatch.setattr(random_state, "TICK", -1.0)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("config", [CONFIG | HARD, CONFIG | ADAM])
@pytest.mark.parametrize("seed", [0, 1])
def test_interrupted_anywhere_equals_uninterrupted(
    tmp_path: Path, config: dict[str, Any], seed: int
) -> None:
    settings = task(
        {"augment": "standard"}, model="shaken", schedule={"name": "cosine", "warmup": 1}
    )
    whole = epochs(settings, trial(tmp_path / "whole", config), *ALL)
    random = np.random.default_rng(seed)
    received: dict[int, Any] = {}
    attempt = 0
    while 3 not in received:
        assert attempt < 50, "no progress: what was done is lost at each interruption"
        start = max(received, default=0)
        again = trial(tmp_path / "cut", config, start_epoch=start, attempt=attempt)
        steps: Any = settings.train(again, frozenset(ALL))
        for _ in range(random.integers(1, 12)):
            torch.rand(1)  # others draw random numbers, too
            if (step := next(steps, None)) is not None:
                received[step.epoch] = step
        steps.close()
        attempt += 1
    assert attempt > 3
    assert [received[k].metrics for k in (1, 2, 3)] == [epoch.metrics for epoch in whole]
    assert received[3].audit == whole[-1].audit
    assert received[3].files == whole[-1].files


@pytest.mark.parametrize("start_epoch", [0, 2])
@pytest.mark.parametrize("schedule", ["constant", {"name": "step", "milestones": [1, 3]}])
def test_continued_equals_retrained(tmp_path: Path, start_epoch: int, schedule: Any) -> None:
    settings = task(model="shaken", epochs=4, schedule=schedule)
    retrained = epochs(settings, trial(tmp_path / "retrained", budget=4, id=1), *ALL)
    epochs(settings, trial(tmp_path / "parent", budget=2), *ALL)
    shutil.copytree(tmp_path / "parent", tmp_path / "child")
    child = trial(tmp_path / "child", budget=4, id=1, parent=0, start_epoch=start_epoch)
    FORWARDS.clear()
    continued = epochs(settings, child, *ALL)
    assert [epoch.epoch for epoch in continued] == list(range(start_epoch + 1, 5))
    assert continued[-1].metrics == retrained[-1].metrics
    assert continued[-1].audit == retrained[-1].audit


def test_continuing_trains_only_what_is_left(tmp_path: Path) -> None:
    settings = task(model="counted", epochs=4)
    epochs(settings, trial(tmp_path, budget=2))
    FORWARDS.clear()
    epochs(settings, trial(tmp_path, budget=4, id=1, parent=0, start_epoch=2))
    assert images(training=True) == 2 * SUBSET


def test_another_anchor_starts_anew(tmp_path: Path) -> None:
    settings = task(epochs=4, schedule={"name": "cosine", "anchor": "budget"})
    epochs(settings, trial(tmp_path, budget=2))
    continued = epochs(settings, trial(tmp_path, budget=4, id=1, parent=0))
    fresh = epochs(settings, trial(tmp_path / "fresh", budget=4, id=1))
    assert [epoch.metrics for epoch in continued] == [epoch.metrics for epoch in fresh]


def test_a_finished_trial_tells_its_last_epoch_again(tmp_path: Path) -> None:
    first = epochs(task(model="counted"), trial(tmp_path), *ALL)[-1]
    FORWARDS.clear()
    again = epochs(task(model="counted"), trial(tmp_path, start_epoch=3), *ALL)
    assert FORWARDS == []
    assert [dataclasses.replace(epoch, seconds={}) for epoch in again] == [
        dataclasses.replace(first, seconds={}, memory={})
    ]


def test_a_huge_learning_rate_diverges_at_once(tmp_path: Path) -> None:
    FORWARDS.clear()
    with pytest.raises(Diverged, match="epoch 1, step"):
        epochs(task(model="counted"), trial(tmp_path, CONFIG | {"lr": 1e18}))
    assert images(training=True) < SUBSET
    assert images(training=False) == 0


@pytest.mark.parametrize("config", [{"lr": 0.05, "batch_size": 10_000}, {"lr": 0.05}])
def test_a_batch_larger_than_the_subset_is_the_subset(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    FORWARDS.clear()
    epochs(task(model="counted", epochs=1), trial(tmp_path, config, budget=1))
    first = min(config.get("batch_size", 128), SUBSET)
    assert FORWARDS[0] == (True, first)


def test_a_last_batch_of_one_image_is_left_out(tmp_path: Path) -> None:
    FORWARDS.clear()
    epochs(task(model="counted", epochs=1), trial(tmp_path, {"lr": 0.1, "batch_size": 43}, 1))
    assert images(training=True) == SUBSET - 1  # 259 = 6 · 43 + 1


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"lr": -1.0}, "'lr'"),
        ({"lr": 0.1, "batch_size": 2.5}, "'batch_size'"),
        ({"lr": 0.1, "optimizer": "lion"}, "'optimizer'"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_line(
    tmp_path: Path, config: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text) as error:
        epochs(task(), trial(tmp_path, config))
    assert "\n" not in str(error.value)


def test_a_net_that_gives_a_measure_no_value_diverges(tmp_path: Path) -> None:
    @plugins.model("dead")
    def dead(in_shape: Any, classes: int) -> nn.Module:
        layers = [nn.Flatten(), nn.Linear(math.prod(in_shape), 4), nn.ReLU(), nn.Linear(4, classes)]
        for layer in layers[1::2]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(*layers)

    settings = task(model="dead", measures=["margin_layers"])
    with pytest.raises(Diverged, match="margin_layers in epoch 1: the network tells no two"):
        epochs(settings, trial(tmp_path, {**CONFIG, "lr": 1e-30}))


def test_a_mask_of_infinities_is_no_divergence(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self, inputs: int, classes: int) -> None:
            super().__init__()
            self.last = nn.Linear(inputs, classes)
            self.register_buffer("mask", torch.full((2, 2), -torch.inf))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x.flatten(1))

    plugins.model("masked")(lambda in_shape, classes: Masked(math.prod(in_shape), classes))
    assert epochs(task(model="masked", measures=["gsnr"]), trial(tmp_path, budget=1))


@pytest.mark.usefixtures("my_measures")
@pytest.mark.parametrize("of", ["features", "loudness"])
def test_a_measure_without_a_value_makes_a_trial_diverge(tmp_path: Path, of: str) -> None:
    def give_up(*_: Any) -> float:
        raise FloatingPointError("a gradient is not finite")

    plugins.measures.add(of, dataclasses.replace(plugins.measures.get(of), function=give_up))
    with pytest.raises(Diverged, match=f"{of} in epoch 1: a gradient is not finite"):
        epochs(task(measures=[of]), trial(tmp_path))


@pytest.fixture
def my_measures() -> Iterator[list[int]]:
    """Plug-in measures of every kind; gives the numbers of samples that `loudness` saw."""
    seen: list[int] = []
    counted: list[int] = []

    @plugins.measure("features", of="head", metrics=["features", "features_sum"])
    def features(head: HeadStatistics) -> dict[str, float]:
        return {"features": float(head.features.mean()), "features_sum": 1.0}

    @plugins.measure("loudness", of="network", sums=["loudness"])
    def loudness(model: nn.Module, batches: Any) -> float:
        seen.append(sum(len(y) for _, y in batches))
        assert not model.training
        for x, _ in batches:
            model(x).sum().backward()
        torch.rand(1)
        return 2.0

    @plugins.measure("at_the_end", of="network", final=True)
    def at_the_end(model: nn.Module, batches: Any) -> float:
        return 3.0

    @plugins.measure("distance_now", of="network", sums=["distance_now"])
    def distance_now(model: nn.Module, batches: Any) -> float:
        return float(sum(p.detach().square().sum() for p in model.parameters()))

    @plugins.measure("from_the_start", of="network", initial=True)
    def from_the_start(model: nn.Module, batches: Any, untrained: nn.Module) -> Measured:
        pairs = zip(model.parameters(), untrained.parameters(), strict=True)
        distance = sum(float((p - q).square().sum().detach()) for p, q in pairs)
        return Measured({"from_the_start": distance}, {"start.bin": bytes([0, 255, 3])})

    def shallow(model: nn.Module, images: Tensor) -> None:
        assert images.is_meta
        if len(list(model.modules())) > 6:
            raise Refusal("it is deep")

    @plugins.measure("ups", of="head", means=["ups"], needs=shallow, cost="none", source="me")
    def ups(head: HeadStatistics) -> float:
        """One, three, five …"""
        counted.append(0)
        return 2.0 * len(counted) - 1

    @plugins.measure("liar", of="head")
    def liar(head: HeadStatistics) -> dict[str, float]:
        return {"truth": 1.0}

    yield seen
    plugins.measures._added.clear()


def test_plug_in_measures(tmp_path: Path, my_measures: list[int]) -> None:
    listed: list[Any] = [{"name": "features", "every": 2}, {"name": "loudness", "samples": 50}]
    settings = task(measures=[*listed, "at_the_end"], epochs=5)
    done = epochs(settings, trial(tmp_path / "a", budget=5))
    plain = epochs(task(epochs=5), trial(tmp_path / "b", budget=5))
    assert [("features" in epoch.metrics) for epoch in done] == [False, True, False, True, True]
    assert [epoch.metrics["loudness"] for epoch in done] == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert [("at_the_end" in epoch.metrics) for epoch in done] == [False] * 4 + [True]
    assert my_measures == [50] * 5
    assert done[-1].metrics["val_loss"] == plain[-1].metrics["val_loss"]  # nothing disturbed


@pytest.mark.usefixtures("my_measures")
def test_a_plug_in_measure_declares_all_that_a_built_in_one_can(tmp_path: Path) -> None:
    done = epochs(task(measures=["ups"]), trial(tmp_path))
    assert [epoch.metrics["ups"] for epoch in done] == [1.0, 2.0, 3.0]
    row = next(row for row in measure_rows() if row["name"] == "ups")
    assert (row["definition"], row["cost"], row["source"]) == ("One, three, five …", "none", "me")
    deep = {"name": "mlp", "depth": 5}
    with pytest.raises(Refusal, match="'ups' is not defined for the model 'mlp': it is deep"):
        task(measures=["ups"], model=deep)
    with pytest.raises(Refusal, match="the metric 'ups' is not defined"):
        task(model=deep).check(frozenset({"ups"}))


def test_a_wanted_measure_need_not_be_listed(tmp_path: Path, my_measures: list[int]) -> None:
    done = epochs(task(epochs=1), trial(tmp_path, budget=1), "loudness")
    assert done[-1].metrics["loudness"] == 2.0
    assert my_measures == [SUBSET]


def test_a_sum_over_all_iterations(tmp_path: Path, my_measures: list[int]) -> None:
    listed = [{"name": "loudness", "every": "iteration", "samples": 20}]
    config = {"lr": 0.05, "batch_size": 100}
    settings = task(measures=listed)
    done = epochs(settings, trial(tmp_path / "a", config), "loudness", "train_loss")
    assert [epoch.metrics["loudness"] for epoch in done] == [6.0, 12.0, 18.0]  # 3 steps an epoch
    assert my_measures == [20] * 9
    plain = epochs(task(), trial(tmp_path / "b", config), "train_loss")
    assert done[-1].metrics["train_loss"] == plain[-1].metrics["train_loss"]


@pytest.mark.usefixtures("every_step", "my_measures")
def test_a_sum_over_all_iterations_goes_on(tmp_path: Path) -> None:
    settings = task(measures=[{"name": "distance_now", "every": "iteration"}])
    whole = epochs(settings, trial(tmp_path / "whole"), "distance_now")
    steps: Any = settings.train(trial(tmp_path / "cut"), frozenset({"distance_now"}))
    for _ in range(4):
        assert next(steps) is None
    steps.close()
    again = epochs(settings, trial(tmp_path / "cut", attempt=1), "distance_now")
    assert [epoch.metrics for epoch in again] == [epoch.metrics for epoch in whole]


@pytest.mark.usefixtures("my_measures")
def test_the_untrained_model_and_files_of_a_measure(tmp_path: Path) -> None:
    settings = task(model="shaken", measures=["from_the_start"])
    done = epochs(settings, trial(tmp_path))
    first, *_, last = (epoch.metrics["from_the_start"] for epoch in done)
    assert 0 < first < last
    assert [set(epoch.files) for epoch in done[:-1]] == [set()] * 2
    assert done[-1].files["start.bin"] == bytes([0, 255, 3])
    [again] = epochs(settings, trial(tmp_path, start_epoch=3))  # from the checkpoint
    assert again.files == done[-1].files
    frozen = epochs(settings, trial(tmp_path / "frozen", CONFIG | {"lr": 1e-30}, budget=1))
    assert frozen[-1].metrics["from_the_start"] == 0


@pytest.mark.parametrize("of", ["features", "loudness"])
@pytest.mark.usefixtures("my_measures")
def test_measures_are_not_asked_about_nan(tmp_path: Path, of: str) -> None:
    def explode(*_: Any) -> float:
        raise AssertionError("asked to measure NaN")

    measure = plugins.measures.get(of)
    plugins.measures.add(of, dataclasses.replace(measure, function=explode))
    last_step = {"lr": 1e45, "batch_size": 10_000}  # finite in the step, not after it
    with pytest.raises(Diverged, match="after"):
        epochs(task(measures=[of]), trial(tmp_path, last_step))


def test_agn_lr_weighs_by_the_learning_rate_and_momentum(tmp_path: Path) -> None:
    """With one batch per epoch and the rates 0.1 and 0.01, in epochs of their own."""
    schedule = {"name": "step", "milestones": [1], "gamma": 0.1}
    config = {"lr": 0.1, "batch_size": 10_000, "momentum": 0.5}
    done = epochs(task(schedule=schedule), trial(tmp_path / "sgd", config, budget=2), *STEPS)
    first, both = done[0].metrics, done[1].metrics
    online = both["agn_online"] - first["agn_online"]
    assert first["agn_lr"] == pytest.approx(0.1 / 0.5 * first["agn_online"])
    assert both["agn_lr"] - first["agn_lr"] == pytest.approx(0.01 / 0.5 * online)
    adam = config | {"optimizer": "adam"}
    [only] = epochs(task(), trial(tmp_path / "adam", adam, budget=1), *STEPS)
    assert only.metrics["agn_lr"] == pytest.approx(0.1 * only.metrics["agn_online"])


def test_a_measure_that_gives_what_it_does_not_declare(
    tmp_path: Path, my_measures: list[int]
) -> None:
    with pytest.raises(ValueError, match=r"'liar' gave \['truth'\], it declares \['liar'\]"):
        epochs(task(measures=["liar"]), trial(tmp_path))


def test_label_smoothing_of_the_task_and_of_the_space(tmp_path: Path) -> None:
    by_task = epochs(task(label_smoothing=0.2), trial(tmp_path / "a"), *ALL)
    by_space = epochs(task(), trial(tmp_path / "b", CONFIG | {"label_smoothing": 0.2}), *ALL)
    assert by_task[-1].metrics == by_space[-1].metrics
    assert by_task[-1].metrics != epochs(task(), trial(tmp_path / "c"), *ALL)[-1].metrics


def test_agn_online_of_one_step_is_agn_before_it(tmp_path: Path) -> None:
    """With one batch per epoch, the forward of epoch k + 1 is at the weights of epoch k's end."""
    settings: ImageClassification = task(model={"name": "mlp", "width": 8, "depth": 1})
    done = epochs(settings, trial(tmp_path, {"lr": 0.1, "batch_size": 10_000}), *ALL)
    online = done[1].metrics["agn_online"] - done[0].metrics["agn_online"]
    assert online == pytest.approx(done[0].metrics["agn"], rel=1e-6)
