"""Averages of the weights, beside torch's own `AveragedModel` in a loop written out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from training.features import resumed, same, steps_of, written_out
from training.runs import CONFIG, epochs, task, trial

from hpogen import plugins
from hpogen.training.averaging import settle
from hpogen.training.forms.hyperparameters import check_value
from hpogen.training.predictor import from_checkpoint
from hpogen.training.recipe import begin
from hpogen.training.weights import unpacked
from hpogen.trial import WEIGHTS

DECAY = 0.8
EMA = {**CONFIG, "average": "ema", "ema_decay": DECAY}
SWA = {**CONFIG, "average": "swa", "swa_start": 0.4}  # of three epochs the last two count


@plugins.model("normed")
def normed(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Has what an average may lose: BatchNorm's statistics, and draws of dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(8, 10),
    )


def test_ema_is_torchs(tmp_path: Path) -> None:
    settings = task(model="normed")
    trained = steps_of(settings, trial(tmp_path, EMA))
    ema: AveragedModel | None = None
    for run in written_out(settings, trial(tmp_path, EMA)):
        run.loss().backward()
        run.optimizer.step()
        rule = get_ema_multi_avg_fn(DECAY)
        ema = ema or AveragedModel(run.model, multi_avg_fn=rule, use_buffers=True)
        ema.update_parameters(run.model)
    assert ema is not None
    assert trained.averaged == 27
    same(trained.model, run.model)
    counts = {n: b for n, b in trained.judged.named_buffers() if not b.is_floating_point()}
    assert [int(count) for count in counts.values()] == [27]  # of steps: taken over, not averaged
    expected = {n: v for n, v in ema.module.state_dict().items() if n not in counts}
    found = {n: v for n, v in trained.judged.state_dict().items() if n not in counts}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(trained.judged[1].weight, trained.model[1].weight)


def test_swa_is_torchs(tmp_path: Path) -> None:
    settings = task(model="normed")
    trained = steps_of(settings, trial(tmp_path, SWA))
    swa: AveragedModel | None = None
    ends = 0
    for step, run in enumerate(written_out(settings, trial(tmp_path, SWA)), 1):
        run.loss().backward()
        run.optimizer.step()
        if step % 9 == 0 and run.epoch >= 1.2:
            ends += 1
            swa = swa or AveragedModel(run.model)
            swa.update_parameters(run.model)
    assert swa is not None
    assert trained.averaged == ends == 1
    recipe = run.recipe
    before = torch.get_rng_state()
    for _ in settle(recipe, trained):
        pass
    assert torch.equal(before, torch.get_rng_state())
    update_bn((x for x, _ in recipe.batches(recipe.data.subset)), swa)
    same(trained.judged, swa.module)


def test_swa_counts_each_epoch_after_its_start(tmp_path: Path) -> None:
    counts = {
        start: steps_of(
            task(epochs=4), trial(tmp_path, {**SWA, "swa_start": start}, budget=budget)
        ).averaged
        for start, budget in ((0.0, 4), (0.5, 4), (0.75, 4))
    }
    assert counts == {0.0: 4, 0.5: 2, 0.75: 1}
    below = steps_of(task(epochs=4), trial(tmp_path, SWA, budget=1))
    assert below.judged is below.model  # a rung below the start has no average yet


@pytest.mark.parametrize("config", [EMA, SWA])
def test_what_is_judged_is_the_average(config: dict[str, Any], tmp_path: Path) -> None:
    settings = task(model="normed")
    running = trial(tmp_path, config, keep="best")
    told = epochs(settings, running, "agn_last", "val_loss", "param_norm")[-1]
    trained = steps_of(settings, trial(tmp_path, config))
    recipe, _ = begin(settings, trial(tmp_path, config), frozenset())
    for _ in settle(recipe, trained):
        pass
    _, kept = unpacked(told.files[WEIGHTS], "file")
    torch.testing.assert_close(kept, dict(trained.judged.state_dict()))
    net = trained.judged.eval()
    with torch.no_grad():
        losses = [
            nn.functional.cross_entropy(net(x), y, reduction="none")
            for x, y in recipe.batches(recipe.data.validation)
        ]
    assert told.metrics["val_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    kept_losses = np.load(io.BytesIO(told.files["val_losses.npy"]))
    np.testing.assert_allclose(kept_losses, torch.cat(losses).numpy(), rtol=1e-4, atol=1e-6)
    wanted = frozenset({"agn_last", "val_loss", "param_norm"})
    again = settings.measure(running, wanted, ["agn_last", "param_norm"])
    assert again is not None
    for name in ("agn_last", "param_norm"):
        assert again.metrics[name] == pytest.approx(told.metrics[name], rel=1e-5)
    net = from_checkpoint(settings, running, wanted)
    assert net is not None
    torch.testing.assert_close(dict(net.network.state_dict()), kept)


@pytest.mark.parametrize("config", [EMA, {**SWA, "swa_start": 0.0}])
def test_it_resumes_bit_for_bit(config: dict[str, Any], tmp_path: Path) -> None:
    whole, parts = resumed(task(model="normed"), tmp_path, config, "agn", "val_loss")
    assert whole == parts


@pytest.mark.parametrize("config", [EMA, {**SWA, "swa_start": 0.0}])
def test_a_continued_trial_is_one_that_went_on(config: dict[str, Any], tmp_path: Path) -> None:
    settings = task(model="normed", epochs=4)
    whole = epochs(settings, trial(tmp_path / "a", config, budget=4))
    epochs(settings, trial(tmp_path / "b", config, budget=2))
    rest = epochs(settings, trial(tmp_path / "b", config, budget=4, start_epoch=2))
    assert rest[-1].metrics == whole[-1].metrics


def test_the_task_may_set_it_and_the_space_overrides(tmp_path: Path) -> None:
    assert begin(task(average="ema"), trial(tmp_path), frozenset())[1].average is not None
    config = {**CONFIG, "average": "none"}
    assert begin(task(average="ema"), trial(tmp_path, config), frozenset())[1].average is None
    assert {"average", "ema_decay", "swa_start"} <= task().parameters()


def test_bad_values() -> None:
    with pytest.raises(
        ValueError, match="average may come to be 'mean', expected 'none', 'ema' or"
    ):
        check_value("average", "mean")
    with pytest.raises(ValueError, match="ema_decay may come to be 1, expected less than 1"):
        check_value("ema_decay", 1)
