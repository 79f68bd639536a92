"""Trials that train as one network: each comes to what it comes to alone, within 1e-5."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from training.runs import CONFIG, SMALL, task, trial

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.executors.base import Job
from hpogen.executors.inline import InlineExecutor
from hpogen.tasks.base import Epoch
from hpogen.tasks.keys import NUMBERS, part
from hpogen.training.checkpoint import newest_first, store_of
from hpogen.training.task import Supervised
from hpogen.trial import Config, Outcome

CLOSE = 1e-5
WANTED = frozenset({"val_loss", "agn", "train_loss"})
WEIGHTED = {"lr": 0.03, "batch_size": 32, "weight_decay": 0.01}
ADAM = {"lr": 0.003, "batch_size": 50, "weight_decay": 0.1}


def jobs(settings: Any, home: Path, configs: Sequence[Config], **keys: Any) -> list[Job]:
    numbered = enumerate(configs)
    trials = [trial(home / str(i), c, settings.epochs, id=i, seed=i, **keys) for i, c in numbered]
    return [Job(one, settings, WANTED, home / f"{one.id}.log") for one in trials]


def run(settings: Any, home: Path, configs: Sequence[Config]) -> dict[int, Outcome]:
    """What the trials come to in an executor that has as many places as the task asks for."""
    home.mkdir(exist_ok=True)
    executor, left = (
        InlineExecutor("cpu", together=settings.together),
        jobs(settings, home, configs),
    )
    found: dict[int, Outcome] = {}
    running = 0
    while left or running:
        while left and running < executor.slots:
            executor.submit(left.pop(0))
            running += 1
        for job, event in executor.wait(0.1):
            if isinstance(event, Outcome):
                found[job.trial.id] = event
                running -= 1
    return found


def numbers(outcome: Outcome) -> dict[str, float]:
    assert outcome.failure is None, outcome.failure
    return dict(outcome.metrics)


def assert_same(found: Mapping[int, Outcome], alone: Mapping[int, Outcome]) -> None:
    assert found.keys() == alone.keys()
    for number, outcome in alone.items():
        expected = numbers(outcome)
        assert numbers(found[number]) == pytest.approx(expected, rel=CLOSE, abs=CLOSE), number


def spread(config: Config, count: int = 5) -> list[Config]:
    """As many, each with a learning rate and a momentum of its own."""
    return [
        {**config, "lr": config["lr"] * (1 + i), "momentum": 0.9 - i / 10} for i in range(count)
    ]  # type: ignore[operator]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(WEIGHTED, id="sgd"),
        pytest.param({**WEIGHTED, "nesterov": True}, id="nesterov"),
        pytest.param({**WEIGHTED, "clip": 0.1, "label_smoothing": 0.2}, id="clip and smoothing"),
        pytest.param({**WEIGHTED, "augment": "standard", "rotate": 20.0}, id="augmented"),
        pytest.param({**ADAM, "optimizer": "adam"}, id="adam"),
        pytest.param({**ADAM, "optimizer": "adamw"}, id="adamw"),
    ],
)
def test_each_comes_to_what_it_comes_to_alone(config: Config, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"schedule": {"name": "cosine", "warmup": 1}}
    alone = run(task(**keys), tmp_path / "alone", spread(config))
    assert_same(run(task(**keys, together=3), tmp_path / "together", spread(config)), alone)


def test_without_momentum_and_in_batches_of_one_size(tmp_path: Path) -> None:
    configs = [
        {"lr": 0.1, "momentum": m, "batch_size": 300, "clip": c} for m, c in ((0, 0), (0.5, 1.0))
    ]
    alone = run(task(), tmp_path / "alone", configs)
    assert_same(run(task(together=2), tmp_path / "together", configs), alone)


def supervised(path: Path, together: int, **keys: Any) -> Supervised:
    dataset = {"path": str(path), "subset": 0.6, "validation": 40, **keys.pop("dataset")}
    given = {"dataset": dataset, "model": SMALL, "epochs": 3, "together": together}
    return Supervised.model_validate({"name": "supervised", **given, **keys})


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "huber", "bce"])
def test_a_table_with_categories_and_any_of_our_losses(loss: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = zip(random.normal(size=200), random.choice(["a", "b", "c"], 200), strict=True)
    target = {"cross_entropy": lambda x, c: c + "!", "bce": lambda x, c: int(x > 0)}
    of = target.get(loss, lambda x, c: x * (1 + (c == "a")))
    lines = [f"{x:.4f},{c},{random.choice(['u', 'v'])},{of(x, c)}" for x, c in rows]
    (tmp_path / "table.csv").write_text("\n".join(["x,city,site,y", *lines]))
    dataset = {"name": "csv", "target": "y", **({"kind": "binary"} if loss == "bce" else {})}
    runs = [
        run(
            supervised(tmp_path / "table.csv", n, dataset=dataset, loss=loss),
            tmp_path / str(n),
            spread({"lr": 0.01, "batch_size": 16}),
        )
        for n in (1, 4)
    ]
    assert_same(runs[1], runs[0])


def test_one_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    configs = [*spread(WEIGHTED, 3), {**WEIGHTED, "lr": 1e30}]
    alone = run(task(), tmp_path / "alone", configs)
    found = run(task(together=4), tmp_path / "together", configs)
    assert alone[3].failure is not None
    assert found.pop(3).failure == alone.pop(3).failure
    assert_same(found, alone)


def test_those_of_one_shape_and_batch_size_step_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = itertools.product((16, 32), (32, 64))
    configs = [{"lr": 0.05, "width": width, "batch_size": size} for width, size in shapes] * 2
    caplog.set_level(logging.INFO, "hpogen.training.together")
    found = run(task(together=8), tmp_path / "together", configs)
    groups = [f"together={i},{i + 4} batch_size={(32, 64)[i % 2]}" for i in range(4)]
    assert sorted(caplog.messages) == sorted(groups)
    assert_same(found, run(task(), tmp_path / "alone", configs))


def advanced(trainings: list[Any]) -> None:
    """Each until it has trained an epoch, in turns."""
    left = dict(enumerate(trainings))
    while left:
        for i, training in [*left.items()]:
            if isinstance(next(training), Epoch):
                del left[i]


def test_each_has_a_checkpoint_of_its_own_and_goes_on_in_any_company(tmp_path: Path) -> None:
    settings, configs = task(together=3), spread(WEIGHTED, 3)
    begun = [job.trial for job in jobs(settings, tmp_path, configs)]
    trainings = [settings.train(one, WANTED) for one in begun]
    advanced(trainings)
    next(trainings[0])  # it waits within the second epoch
    for training in trainings:
        training.close()
    sizes = {(one.home / newest_first(store_of(one))[0]).stat().st_size for one in begun}
    assert max(sizes) < 60_000  # that of one small network, not of three

    for one in begun:
        one.home.mkdir(exist_ok=True)
    alone = run(task(), tmp_path / "alone", configs)
    assert_same(run(settings, tmp_path, configs[:2]), {i: alone[i] for i in (0, 1)})
    (last,) = [e for e in settings.train(begun[2], WANTED) if e is not None and e.epoch == 3]
    assert dict(last.metrics) == pytest.approx(alone[2].metrics, rel=CLOSE, abs=CLOSE)


def test_what_they_take_is_shared_out(tmp_path: Path) -> None:
    begun = time.perf_counter()
    found = run(task(together=4, epochs=6), tmp_path, spread(WEIGHTED, 4))
    passed = time.perf_counter() - begun
    assert 0 < sum(outcome.seconds["total"] for outcome in found.values()) < passed
    for outcome in found.values():
        assert 0 < outcome.seconds["train"] < outcome.seconds["total"]


def test_one_slice_does_not_touch_another(tmp_path: Path) -> None:
    """Bit for bit: what stands beside a trial changes no number of it."""
    others = ({"lr": 0.5, "batch_size": 32}, {"lr": 1e30, "batch_size": 32})
    first = [run(task(together=2), tmp_path / str(i), [CONFIG, o])[0] for i, o in enumerate(others)]
    assert first[0].metrics == first[1].metrics


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"model": "resnet20"}, "together: 8 trains networks 'mlp' as one, got model 'resnet20'"),
        ({"model": "resnet20"}, "mix samples"),
        ({"optimizer": "sam"}, "together: 8 and optimizer: sam"),
        ({"average": "ema"}, "together: 8 and average: ema"),
        ({"compile": True}, "together: 8 and compile: True"),
        ({"class_weights": "balanced"}, "together: 8 and class_weights: balanced"),
        ({"precision": "bf16"}, "together: 8 and precision: bf16"),
        ({"measures": [{"name": "gn", "every": "iteration"}]}, "the measure 'gn' at every iter"),
        ({"measures": ["agn_online"]}, "'agn_online' watches the last layer"),
        ({"together": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_together_is_told_in_a_line(keys: dict[str, Any], text: str) -> None:
    with pytest.raises((ValidationError, Refusal)) as caught:
        task(**{"together": 8, **keys})
    assert text in str(caught.value)


def test_a_plugins_loss_is_refused(tmp_path: Path) -> None:
    plugins.loss("mixing")(lambda z, y: (z - z.mean(0)).square().mean(1))
    dataset = {"name": "numpy", "kind": "real"}
    with pytest.raises((ValidationError, Refusal), match="hpogen's own losses, got 'mixing'"):
        supervised(tmp_path / "a.npz", 2, dataset=dataset, loss="mixing")


def test_measures_that_watch_the_steps_and_searched_values_are_refused() -> None:
    with pytest.raises(Refusal, match="watches the last layer"):
        task(together=2).check(frozenset({"agn_lr"}))
    for name, value in (("optimizer", "sam"), ("average", "swa"), ("mixup", 0.2), ("cutmix", 1.0)):
        with pytest.raises(ValueError, match=f"{name} may come to be {value}"):
            task(together=2).check_value(name, value)
        task().check_value(name, value)
    task(together=2).check_value("average", "none")


def test_it_is_told_which_trials_train_apart() -> None:
    said = task(together=8).check_range("width", (16, 64))
    assert said and "only trials of one width" in said
    assert task(together=8).check_range("width", (16,)) is None
    assert task(together=8).check_range("lr", (0.1, 0.2)) is None
    said = task(together=8).check_range("batch_size", (16, 64))
    assert said and "only trials of one batch_size" in said
    assert task().check_range("batch_size", (16, 64)) is None


def test_it_is_part_of_the_task_and_only_written_where_it_is_asked_for() -> None:
    assert "together" not in task().record()
    assert part(task(together=2).record(), *NUMBERS)["together"] == 2
    assert part(task().record(), *NUMBERS)["together"] == 1
