"""Sharpness-aware minimisation: beside its two passes written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training.features import resumed, same, steps_of, written_out
from training.runs import CONFIG, task, trial

from hpogen import plugins
from hpogen.training.forms.hyperparameters import check_value
from hpogen.training.graphs import Tape
from hpogen.training.recipe import begin
from hpogen.training.step import Steps

SAM = {**CONFIG, "optimizer": "sam", "rho": 0.1}


@plugins.model("normalised")
def normalised(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10)
    )


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("model", ["mlp", "normalised"])
def test_a_step_is_two_passes_written_out(model: str, clip: float, tmp_path: Path) -> None:
    config = {**SAM, "clip": clip, "weight_decay": 0.01}
    settings = task(model={"name": model})
    trained = steps_of(settings, trial(tmp_path, config))
    for run in written_out(settings, trial(tmp_path, config)):
        weights = list(run.model.parameters())
        before = [w.detach().clone() for w in weights]
        first = torch.autograd.grad(run.loss(), weights)
        statistics = {n: b.clone() for n, b in run.model.named_buffers()}
        norm = torch.cat([g.flatten() for g in first]).norm()
        _put(weights, [w + 0.1 * g / norm for w, g in zip(before, first, strict=True)])
        second = torch.autograd.grad(run.loss(), weights)
        _put(weights, before)
        run.model.load_state_dict(statistics, strict=False)  # those of the first pass
        for weight, gradient in zip(weights, second, strict=True):
            weight.grad = gradient
        if clip:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        run.optimizer.step()
    same(trained.model, run.model)
    plain = steps_of(settings, trial(tmp_path, {**config, "optimizer": "sgd"}))
    assert not torch.allclose(plain.model[-1].weight, trained.model[-1].weight, atol=1e-4)


def _put(weights: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


def test_online_measures_are_those_of_the_first_pass(tmp_path: Path) -> None:
    """Of a single step, which both begin at the same weights, they are the same."""
    config = {**SAM, "batch_size": 259}
    found = [
        steps_of(task(), trial(tmp_path, {**config, "optimizer": name}, budget=1), "agn_lr")
        for name in ("sam", "sgd")
    ]
    for name in ("loss", "agn", "agn_lr"):
        assert found[0].curve[0][name] == found[1].curve[0][name] > 0


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = resumed(task(model="normalised"), tmp_path, SAM, "agn_online", "val_loss")
    assert whole == parts


def test_the_same_from_a_tape(tmp_path: Path) -> None:
    """The steps of a GPU, run on a CPU."""
    nets = []
    for tape in (None, Tape(torch.device("cpu"))):
        recipe, state = begin(task(), trial(tmp_path, {**SAM, "clip": 0.5}), frozenset())
        for _ in Steps(recipe, state, tape).epoch():
            pass
        nets.append(state.model)
    torch.testing.assert_close(*(dict(n.state_dict()) for n in nets), rtol=1e-4, atol=1e-6)


def test_a_radius_is_above_zero() -> None:
    with pytest.raises(ValueError, match=r"rho may come to be 0\.0, expected greater than 0"):
        check_value("rho", 0.0)
    assert "rho" in task().parameters()
