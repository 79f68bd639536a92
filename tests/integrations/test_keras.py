"""The Keras callback in a real `fit`: it reports, resumes, stops and refuses."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from integrations.loops import module, trial

from hpogen.errors import UserError
from hpogen.integrations.keras import Report

example = module("my_keras")


def train(home: Path, start: int = 0, budget: int = 4, **keys: Any) -> Generator[Any]:
    report = Report(trial(home, start, budget), **{"audit": example.audit, **keys})
    yield from report.fit(example.make_model(0.01), *example.TRAIN, **example.OPTIONS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return list(train(tmp_path_factory.mktemp("whole") / "trial"))


def test_each_epoch_reports_and_the_last_has_the_audit(whole: list[Any], tmp_path: Path) -> None:
    assert [isinstance(given, dict) for given in whole] == [True, True, True, False]
    metrics, audit = whole[-1]
    assert metrics.keys() == {"val_loss"} and 0 < audit["error"] < 1
    losses = [given["val_loss"] for given in whole[:3]] + [metrics["val_loss"]]
    assert len({*losses}) == 4


@pytest.mark.parametrize("taken", [1, 3])
def test_a_closed_trial_goes_on_bit_for_bit(whole: list[Any], taken: int, tmp_path: Path) -> None:
    with closing(train(tmp_path)) as running:
        first = list(islice(running, taken))
    assert first + list(train(tmp_path, taken)) == whole


def test_without_its_checkpoint_a_trial_trains_again_what_was_taken(
    whole: list[Any], tmp_path: Path
) -> None:
    assert list(train(tmp_path, 2)) == whole[2:]


def test_one_checkpoint_stays(tmp_path: Path) -> None:
    running = train(tmp_path, audit=None)
    for _ in range(4):
        next(running)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"epoch-{k}.weights.h5" for k in (2, 3, 4)}
    assert list(running) == []
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-4.weights.h5"]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"metrics": ["loss_val"]}, "metrics: the trainer logged no 'loss_val' in epoch 1, but"),
        ({"audit": [1]}, r"audit: got \[1\], expected a function of the model"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    keys: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^keras.Report: {line}") as caught:
        list(train(tmp_path, **keys))
    assert "\n" not in str(caught.value)


def test_without_a_trial_or_outside_of_fit_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^keras.Report: got None as its trial"):
        Report()
    report = Report(trial(tmp_path))
    with pytest.raises(UserError, match=r"expected `yield from report.fit\(model, …\)`"):
        example.make_model(0.01).fit(*example.TRAIN, callbacks=[report], **example.OPTIONS)


def test_a_training_that_stops_by_itself_is_refused(tmp_path: Path) -> None:
    class Early(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    report = Report(trial(tmp_path, budget=9))
    keys = {**example.OPTIONS, "callbacks": [Early()]}
    with pytest.raises(UserError, match="the trainer ended after 1 of 9 epochs: leave early"):
        list(report.fit(example.make_model(0.01), *example.TRAIN, **keys))


def test_a_model_that_is_not_built_has_nowhere_to_go_on(tmp_path: Path) -> None:
    with closing(train(tmp_path)) as running:
        next(running)
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(UserError, match=r"begin it with keras.Input\(shape\)"):
        list(Report(trial(tmp_path, 1)).fit(model, *example.TRAIN))
