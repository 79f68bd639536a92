"""Mixup and CutMix: beside a loop that mixes image by image, and autograd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from training.features import resumed, same, steps_of, written_out
from training.runs import CONFIG, epochs, task, trial

from hpogen.measures.last_linear import LastLinear
from hpogen.training.forms.hyperparameters import check_value
from hpogen.training.graphs import Tape
from hpogen.training.losses import Loss, bce
from hpogen.training.mixing import Mixed, Mixing, mixed
from hpogen.training.recipe import begin
from hpogen.training.step import Steps
from hpogen.training.task import Supervised
from hpogen.training.trained_loss import TrainedLoss
from hpogen.trial import derive_seed

BOTH = {"mixup": 0.4, "cutmix": 1.0}
WAYS: list[dict[str, Any]] = [{"mixup": 0.4}, {"cutmix": 1.0}, BOTH]


def by_hand(x: Tensor, partners: Tensor, mixes: Tensor) -> Tensor:
    """Each pixel by itself."""
    found = x.clone()
    for i, (partner, mix) in enumerate(zip(partners.tolist(), mixes.tolist(), strict=True)):
        _, share, top, bottom, left, right = mix
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                inside = top <= row < bottom and left <= column < right
                own = 0.0 if inside else share
                other = x[partner, :, row, column]
                found[i, :, row, column] = own * x[i, :, row, column] + (1 - own) * other
    return found


@pytest.mark.parametrize("ways", WAYS)
def test_the_draws_of_an_epoch(ways: dict[str, float]) -> None:
    mixing = Mixing(**{"mixup": 0.0, "cutmix": 0.0, **ways}, batch=32, height=8, width=6)
    partners, mixes = mixing.draw(1000, 3)
    again = mixing.draw(1000, 3)
    assert torch.equal(partners, again[0])
    assert torch.equal(mixes, again[1])
    kinds = set()
    for first in range(0, 1000, 32):
        size = min(32, 1000 - first)
        assert sorted(partners[first : first + size].tolist()) == list(range(size))
        batch = mixes[first : first + size]
        assert (batch == batch[0]).all()  # one share for a batch
        share, pixel, top, bottom, left, right = batch[0].tolist()
        area = (bottom - top) * (right - left)
        kinds.add("cutmix" if pixel == 1 else "mixup")
        assert share == pytest.approx(1 - area / 48 if pixel == 1 else pixel)
        assert 0 <= top <= bottom <= 8 and 0 <= left <= right <= 6
    assert kinds == {*ways}


@pytest.mark.parametrize("ways", WAYS)
def test_pixels_are_mixed_one_by_one(ways: dict[str, float]) -> None:
    mixing = Mixing(**{"mixup": 0.0, "cutmix": 0.0, **ways}, batch=5, height=8, width=6)
    images = torch.randint(0, 256, (20, 2, 8, 6), dtype=torch.uint8)
    partners, mixes = mixing.draw(20, 0)
    for first in range(0, 20, 5):
        part = slice(first, first + 5)
        found = mixed(images[part], partners[part], mixes[part], "cutmix" in ways)
        torch.testing.assert_close(
            found, by_hand(images[part].float(), partners[part], mixes[part])
        )


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("keys", [{}, {"label_smoothing": 0.1, "class_weights": [1.0, 3.0] * 5}])
def test_steps_are_those_written_out(
    ways: dict[str, float], keys: dict[str, Any], tmp_path: Path
) -> None:
    config, settings = {**CONFIG, **ways}, task(**keys)
    state = steps_of(settings, trial(tmp_path, config, budget=1), "agn_online")
    weights = torch.tensor(keys["class_weights"]) if keys else None
    smoothing = keys.get("label_smoothing", 0.0)
    norms = 0.0
    for run in written_out(settings, trial(tmp_path, config, budget=1)):
        way = Mixing(ways.get("mixup", 0.0), ways.get("cutmix", 0.0), 32, 8, 8)
        partners, mixes = way.draw(259, derive_seed(7, "epoch", run.epoch))
        part = slice(run.first, run.first + len(run.x))
        partners, mixes = partners[part], mixes[part]
        logits = run.model(by_hand(run.x, partners, mixes))
        share = mixes[0, 0].item()

        def terms(logits: Tensor, y: Tensor) -> Tensor:
            losses = functional.cross_entropy(
                logits, y, weights, label_smoothing=smoothing, reduction="none"
            )
            return losses if weights is None else losses / weights[y].mean()

        each = share * terms(logits, run.y) + (1 - share) * terms(logits, run.y[partners])
        if run.first < 64:
            *_, weight, bias = run.model.parameters()
            for term in each:
                parts = torch.autograd.grad(term, (weight, bias), retain_graph=True)
                norms += sum(p.square().sum().item() for p in parts) / len(each)
        each.mean().backward()
        run.optimizer.step()
    same(state.model, run.model)
    recipe, fresh = begin(settings, trial(tmp_path, config), frozenset({"agn_online"}))
    steps = Steps(recipe, fresh, None).epoch()
    next(steps), next(steps)
    assert float(fresh.step_sums["agn"]) == pytest.approx(norms, rel=1e-4)


def test_of_one_logit_too() -> None:
    """Its online norms come from the loss itself."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    loss = TrainedLoss(Loss("bce", bce), False, False, weights=torch.tensor([0.5, 2.0]))
    y, partners = torch.randint(0, 2, (6,)), torch.randperm(6)
    targets = Mixed(y, y[partners], torch.tensor(0.3))
    h = torch.randn(6, 4)
    with LastLinear(net) as last:
        logits = net(h)
        found = loss.squared_norms(last, logits, targets)
    (d,) = torch.autograd.grad(6 * loss.mean(logits, targets), logits)  # of each sample's term
    expected = d.double().square()[:, 0] * (h.double().square().sum(1) + 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("ways", WAYS)
def test_it_resumes_bit_for_bit(ways: dict[str, float], tmp_path: Path) -> None:
    settings = task({"augment": "standard", "rotate": 10.0})
    whole, parts = resumed(settings, tmp_path, {**CONFIG, **ways}, "agn_online", "val_loss")
    assert whole == parts


def test_the_same_from_a_tape(tmp_path: Path) -> None:
    """The steps of a GPU, run on a CPU."""
    nets = []
    for tape in (None, Tape(torch.device("cpu"))):
        recipe, state = begin(task(), trial(tmp_path, {**CONFIG, **BOTH}), frozenset())
        for _ in Steps(recipe, state, tape).epoch():
            pass
        nets.append(state.model)
    torch.testing.assert_close(*(dict(n.state_dict()) for n in nets), rtol=1e-4, atol=1e-6)


def test_what_is_evaluated_is_not_mixed(tmp_path: Path) -> None:
    told = epochs(task(), trial(tmp_path, {**CONFIG, "mixup": 1.0}, budget=3), "train_loss")[-1]
    assert told.metrics["train_loss"] < told.metrics["train_loss_online"]
    assert np.isfinite(told.audit["loss"])


def test_of_images_alone() -> None:
    tables = {"name": "supervised", "dataset": "breast_cancer", "model": "mlp", "epochs": 1}
    assert not {"mixup", "cutmix"} & Supervised.model_validate(tables).parameters()
    assert {"mixup", "cutmix"} <= task().parameters()
    with pytest.raises(ValueError, match=r"mixup may come to be -0\.1, expected greater than"):
        check_value("mixup", -0.1)
