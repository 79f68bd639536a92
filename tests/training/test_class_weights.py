"""What a sample of each class counts in the training loss: beside torch's own `weight=`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from training.features import resumed, same, steps_of, written_out
from training.runs import CONFIG, epochs, task, trial

from hpogen.errors import Refusal
from hpogen.training.losses import Loss, bce
from hpogen.training.recipe import begin
from hpogen.training.task import Supervised
from hpogen.training.trained_loss import TrainedLoss

WEIGHTS = [1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 1.0, 1.0, 0.1, 1.0]


def tables(**keys: Any) -> Supervised:
    mapping = {"dataset": "breast_cancer", "model": {"name": "mlp", "width": 8}, "epochs": 3}
    return Supervised.model_validate({"name": "supervised", **mapping, **keys})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_steps_are_those_of_torchs_weights(smoothing: float, tmp_path: Path) -> None:
    settings = task(class_weights=WEIGHTS, label_smoothing=smoothing)
    trained = steps_of(settings, trial(tmp_path))
    weights = torch.tensor(WEIGHTS)
    for run in written_out(settings, trial(tmp_path)):
        logits = run.model(run.x)
        functional.cross_entropy(logits, run.y, weights, label_smoothing=smoothing).backward()
        run.optimizer.step()
    same(trained.model, run.model)


def test_balanced_weights_are_those_of_the_subset(tmp_path: Path) -> None:
    settings = task({"corruption": 0.5}, class_weights="balanced")
    recipe, _ = begin(settings, trial(tmp_path), frozenset())
    counts = torch.bincount(recipe.data.subset.targets, minlength=10)
    assert counts.min() < counts.max()
    found = recipe.trained_loss.weights
    assert found is not None
    torch.testing.assert_close(found, len(recipe.data.subset) / (10 * counts))


def test_of_two_classes_by_one_logit_as_by_two() -> None:
    torch.manual_seed(0)
    logits, y = torch.randn(20, 1), torch.randint(0, 2, (20,))
    weights = torch.tensor([0.3, 2.0])
    found = TrainedLoss(Loss("bce", bce), False, False, weights=weights).mean(logits, y)
    both = torch.cat((torch.zeros_like(logits), logits), 1)
    torch.testing.assert_close(found, functional.cross_entropy(both, y, weights))


@pytest.mark.parametrize(
    ("kind", "smoothing"), [("classes", 0.0), ("classes", 0.1), ("binary", 0.0)]
)
def test_online_norms_are_those_of_the_trained_loss(
    kind: str, smoothing: float, tmp_path: Path
) -> None:
    weights = WEIGHTS if kind == "classes" else [0.3, 2.0]
    keys = {"class_weights": weights, "label_smoothing": smoothing}
    settings = task(**keys) if kind == "classes" else tables(class_weights=weights)
    state = steps_of(settings, trial(tmp_path, budget=1), "agn_online")
    total, losses = _by_autograd(settings, tmp_path, weights, smoothing)
    assert state.curve[0]["agn"] == pytest.approx(total, rel=1e-5)
    assert state.curve[0]["loss"] == pytest.approx(losses, rel=1e-5)


def _by_autograd(
    settings: Any, home: Path, weights: Sequence[float], smoothing: float
) -> tuple[float, float]:
    """Σ over an epoch's batches of mean ‖∇ B w_i l_i / Σ w‖² by the last layer, and of the loss."""
    total = losses = 0.0
    w = torch.tensor(weights)
    for run in written_out(settings, trial(home, budget=1)):
        logits = run.model(run.x)
        if logits.shape[1] == 1:
            logits = torch.cat((torch.zeros_like(logits), logits), 1)
        keys = {"weight": w, "label_smoothing": smoothing}
        terms = functional.cross_entropy(logits, run.y, **keys, reduction="none")
        terms = terms / w[run.y].mean()
        *_, weight, bias = run.model.parameters()
        for term in terms:
            found = torch.autograd.grad(term, (weight, bias), retain_graph=True)
            total += sum(float(part.double().square().sum()) for part in found) / len(terms)
        losses += terms.mean().item()
        terms.mean().backward()
        run.optimizer.step()
    return total, losses


def test_what_is_measured_is_the_plain_loss(tmp_path: Path) -> None:
    told = epochs(task(class_weights=WEIGHTS), trial(tmp_path), "agn", "val_loss")[-1].metrics
    state = steps_of(task(class_weights=WEIGHTS), trial(tmp_path))
    recipe, _ = begin(task(), trial(tmp_path), frozenset())
    state.model.eval()
    pairs = [(state.model(x), y) for x, y in recipe.batches(recipe.data.validation)]
    logits, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert told["val_loss"] == pytest.approx(functional.cross_entropy(logits, y).item(), rel=1e-5)


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = resumed(task(class_weights="balanced"), tmp_path, CONFIG, "agn_online")
    assert whole == parts


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(Refusal, match="has 2 numbers, and the data set 'digits' has 10 classes"):
        task(class_weights=[1.0, 2.0])
    with pytest.raises(Refusal, match="class_weights is for targets of one class each"):
        tables(dataset="diabetes", class_weights="balanced")
    with pytest.raises(ValueError, match="greater than 0"):
        task(class_weights=[0.0] * 10)
    with pytest.raises(ValueError, match="'balanced'"):
        task(class_weights="inverse")
