"""The `task:` mapping of image classification: defaults, and every mistake told before training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from torch import Tensor, nn
from training.runs import task

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.training.data import ImageData
from hpogen.training.task import ImageClassification


def mistake(mapping: dict[str, Any]) -> tuple[tuple[int | str, ...], str]:
    """Where and what the first mistake in a mapping is."""
    complete = {"dataset": "digits", "model": "mlp", "epochs": 2} | mapping
    with pytest.raises(ValidationError) as error:
        ImageClassification.model_validate(complete)
    first = error.value.errors(include_url=False)[0]
    return first["loc"], first["msg"]


def test_names_alone_are_enough() -> None:
    settings = ImageClassification.model_validate(
        {"dataset": "digits", "model": "resnet20", "epochs": 2, "measures": ["agn"]}
    )
    assert settings.dataset.subset == 0.2
    assert settings.model.name == "resnet20"
    assert settings.schedule.name == "constant"
    assert settings.required() == {"lr"}
    assert settings.parameters() == {
        *("batch_size", "lr", "momentum", "weight_decay"),
        *("optimizer", "nesterov", "label_smoothing"),
        *("clip", "rho", "average", "ema_decay", "swa_start"),
        *("augment", "rotate", "mixup", "cutmix", "corruption"),
        "width",  # the model's
    }
    assert settings.sums() >= {"agn", "agn_online"}
    assert settings.resumable


def test_the_record_gives_the_same_task() -> None:
    settings = task(
        {"subset": 0.5, "audit": "test"},
        schedule={"name": "step", "milestones": [1, 2]},
        measures=["agn_online"],
    )
    assert ImageClassification.model_validate(settings.record()) == settings
    assert settings.record()["model"] == {"name": "mlp", "width": 16, "depth": 1}


@pytest.mark.parametrize(
    ("mapping", "where", "text"),
    [
        ({"model": "resnet20s"}, ("model", "name"), "did you mean 'resnet20'?"),
        ({"dataset": "digit"}, ("dataset", "name"), "did you mean 'digits'?"),
        (
            {"dataset": {"name": "digits", "subst": 0.5}},
            ("dataset", "subst"),
            "did you mean 'subset'?",
        ),
        ({"model": {"name": "mlp", "widht": 3}}, ("model", "widht"), "did you mean 'width'?"),
        ({"model": {"name": "mlp", "width": "3"}}, ("model", "width"), "valid integer"),
        ({"model": {"name": "lenet5"}}, (), "at least 12×12, data set 'digits' has 8×8"),
        ({"epochs": 0}, ("epochs",), "greater than or equal to 1"),
        ({"epochs": True}, ("epochs",), "valid integer"),
        ({"dataset": {"name": "digits", "subset": 0.0}}, ("dataset", "subset"), "greater than 0"),
        ({"dataset": {"name": "digits", "subset": 1e-4}}, ("dataset",), "is empty"),
        (
            {"dataset": {"name": "digits", "validation": 700, "audit": 400}},
            ("dataset",),
            "has 1297 training images: a subset of 259, 700 for validation and 400 for audit",
        ),
        ({"dataset": {"name": "digits", "validation": 1039}}, ("dataset",), "are too many"),
        ({"measures": ["agm"]}, ("measures", 0, "name"), "did you mean 'agn'?"),
        ({"measures": ["agn", "agn"]}, ("measures",), "listed twice"),
        ({"measures": [{"name": "agn", "every": 2}]}, ("measures", 0), "every must be 1"),
        ({"measures": [{"name": "agn_mean", "every": 2}]}, ("measures", 0), "every must be 1"),
        ({"measures": [{"name": "tse_last", "every": 2}]}, ("measures", 0), "every must be 1"),
        ({"measures": [{"name": "agn", "every": "iteration"}]}, ("measures", 0), "not a sum to"),
        ({"measures": [{"name": "agn", "samples": 9}]}, ("measures", 0), "takes no samples"),
        ({"schedule": "cosin"}, ("schedule", "name"), "'cosine'"),
        (
            {"schedule": {"name": "step", "milestones": [3, 2]}},
            ("schedule", "milestones"),
            "[3, 2]",
        ),
        ({"schedule": {"name": "cosine", "milestones": [3]}}, ("schedule",), "'step'"),
        ({"label_smoothing": 1.0}, ("label_smoothing",), "less than 1"),
        ({"learning_rate": 1.0}, ("learning_rate",), "not permitted"),
    ],
)
def test_mistakes(mapping: dict[str, Any], where: tuple[Any, ...], text: str) -> None:
    place, message = mistake(mapping)
    assert place == where
    assert text in message


def test_the_whole_training_set_has_no_validation() -> None:
    whole = task({"subset": 1.0})
    assert whole.dataset.counts(1297) == (1297, 0, 0)
    assert "val_loss" not in whole.metrics()
    assert "val_loss" not in task({"validation": 0}).metrics()
    assert {"val_loss", "gap_accuracy"} <= task().metrics()
    assert task().dataset.counts(1297) == (259, 519, 519)


def test_neither_making_nor_checking_a_task_imports_torch() -> None:
    code = (
        "import sys; from hpogen.training.task import ImageClassification as Task;"
        "task = Task.model_validate({'dataset': 'cifar10', 'model': 'resnet56', 'epochs': 160,"
        "'measures': ['agn'], 'schedule': 'step'});"
        "task.metrics(), task.record(), task.check(frozenset({'agn'}));"
        "assert not {'torch', 'torchvision', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


class Softmaxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)).log_softmax(1)


@pytest.fixture
def my_parts() -> Iterator[None]:
    @plugins.model("softmaxed")
    def softmaxed(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Softmaxed()

    @plugins.model("straight")
    def straight(in_shape: tuple[int, int, int], classes: int, *, width: int = 8) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))

    @plugins.dataset("noise")
    def noise(root: Path, *, count: int = 50, bad: bool = False) -> ImageData:
        images = np.zeros((count, 1, 8, 8), dtype=np.float32 if bad else np.uint8)
        labels = np.arange(count, dtype=np.int64) % 10
        return ImageData(images, labels, images, labels, 10, "noise")

    yield
    del plugins.models._added["softmaxed"], plugins.models._added["straight"]
    del plugins.datasets._added["noise"]


@pytest.mark.usefixtures("my_parts")
def test_a_model_without_a_last_linear_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match="the model 'softmaxed': the output of Softmaxed is not"):
        task(model="softmaxed", measures=["agn_online"])
    settings = task(model="softmaxed")
    settings.check(frozenset({"val_loss", "train_loss_online"}))
    with pytest.raises(Refusal, match="the metric 'agn' is not defined for the model 'softmaxed'"):
        settings.check(frozenset({"agn", "val_loss"}))
    task(model="straight", measures=["agn"]).check(frozenset({"agn"}))


@pytest.mark.usefixtures("my_parts")
def test_options_of_plug_ins() -> None:
    settings = task({"name": "noise", "count": 80}, model="straight")
    assert settings.model.options() == {"width": 8}  # a plug-in's defaults are filled in
    assert settings.dataset.options() == {"count": 80, "bad": False}
    large = ("batch_size", [16, 100])
    assert settings.check_range(*large) is None
    samples = settings.prepare()
    assert samples == 16 and settings.check_range(*large) is None  # what was loaded changes nothing
    assert "but the subset has 16 images" in (settings.check_range(*large, samples) or "")
    place, text = mistake({"dataset": {"name": "noise", "cuont": 3}})
    assert place == ("dataset", "cuont")
    assert "did you mean 'count'?" in text


@pytest.mark.usefixtures("my_parts")
def test_what_a_plug_in_data_set_may_get_wrong() -> None:
    with pytest.raises(UserError, match="train_images are float32"):
        task({"name": "noise", "bad": True}).prepare()
    with pytest.raises(UserError, match="has 50 training images: a subset of 10, 30 for"):
        task({"name": "noise", "validation": 30, "audit": 30}).prepare()


@pytest.mark.parametrize(
    ("metric", "whose"),
    [
        ("val_loss", "which is built in"),
        ("margin_q50", "which is built in"),
        ("mine", "which is given by the measure 'first'"),
    ],
)
def test_a_metric_has_one_measure(metric: str, whose: str) -> None:
    def nothing(head: Any) -> float:
        return 0.0

    plugins.measure("first", of="head", metrics=["mine"])(nothing)
    plugins.measure("second", of="head", metrics=[metric])(nothing)
    try:
        assert f"'second' gives {metric!r}, {whose}" in mistake({})[1]
    finally:
        plugins.measures._added.clear()


@pytest.mark.usefixtures("my_parts")
def test_a_measure_says_what_it_needs_of_a_model() -> None:
    with pytest.raises(Refusal, match=r"the model 'softmaxed'"):
        task(model="softmaxed", measures=["zeta"])
    with pytest.raises(Refusal, match=r"the metric 'agn_lr' is not defined for the model"):
        task(model="softmaxed").check(frozenset({"agn_lr"}))
    task(model="softmaxed", measures=["tse", "tse_ema"])  # of the loss alone


def test_a_metric_is_listed_by_its_measure() -> None:
    with pytest.raises(ValidationError, match="'kappa' is a metric of the measure 'zeta'"):
        task(measures=["kappa"])
