"""How fast the training loss or accuracy worsens around the weights; the training loop calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpogen.measures.as_found import kept, require_initialized
from hpogen.measures.batches import Batch, device_of, pairs, tensor_of
from hpogen.measures.passes import PredictionCollector, Predictions, check_finite, undisturbed
from hpogen.measures.targets import LossFunction, counted, cross_entropy, each, rows

RADIUS = 0.05  # of the SAM step (Foret et al. 2021)
DROP = 0.1  # of the accuracy
DRAWS, STEPS = 10, 15  # 150 passes
LEAST, MOST = 1e-6, 1e2  # where σ is looked for


def sharpness(
    model: nn.Module,
    batches: Iterable[Batch],
    radius: float = RADIUS,
    loss: LossFunction | None = None,
) -> float:
    """L(θ + ρ ∇L/‖∇L‖) − L(θ): what one step of SAM adds to the mean loss, the cross-entropy.

    One forward and backward and one forward over the batches, evaluation mode, all trainable
    parameters, ρ = `radius`; 0 where the gradient is 0. Raises ValueError when there is no sample,
    FloatingPointError where the loss or its gradient is not finite. Source: Foret et al. 2021,
    eq. 2.
    """
    parameters = _trainable(model)
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    here = PredictionCollector(loss=loss)
    with undisturbed(model):
        for x, y in pairs(batches):
            for name, gradient in _gradients(model, parameters, x, y, here, loss).items():
                sums[name] += gradient
        now = here.result().mean_loss
        check_finite(now, "the loss")
        norm = math.sqrt(sum(float(total.square().sum()) for total in sums.values()))
        if norm == 0:
            return 0.0
        check_finite(torch.tensor(norm), "the gradient")
        moved = {
            name: (p.detach() + radius / norm * sums[name]).to(p.dtype)
            for name, p in parameters.items()
        }
        there = _predictions(model, moved, batches, loss).mean_loss
        check_finite(there, "the loss after the step")
        return float(there) - float(now)


def sharpness_pacbayes(model: nn.Module, batches: Iterable[Batch], seed: int = 0) -> float:
    """The largest σ with mean_k accuracy(θ + σ u_k) ≥ accuracy(θ) − 0.1, u_k ~ N(0, I), k = 1 … 10.

    By 15 bisections of log σ in [1e-6, 100] (to 0.06 %), 151 passes, evaluation mode, all
    trainable parameters. The u_k come from `seed` alone, so every model of a shape is shaken in the
    same directions. Small is sharp. Raises ValueError when there is no sample, FloatingPointError
    for a logit at θ that is not finite. Source: Jiang et al. 2020, "Fantastic Generalization
    Measures", PAC-Bayes sharpness, whose measure is 1/σ².
    """
    parameters = _trainable(model)
    with undisturbed(model):
        here = _predictions(model, parameters, batches)
        check_finite(here.logits, "a logit")

        def holds(sigma: float) -> bool:
            accuracies = [
                _predictions(model, moved, batches).accuracy
                for moved in _shaken(parameters, sigma, seed)
            ]
            return sum(accuracies) / DRAWS >= here.accuracy - DROP

        return _bisected(holds)


def _bisected(holds: Callable[[float], bool]) -> float:
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(low)


def _shaken(
    parameters: Mapping[str, Tensor], sigma: float, seed: int
) -> Iterable[dict[str, Tensor]]:
    """θ + σ u_k, one after the other; drawn on the CPU, so that every device has the same."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(DRAWS):
        yield {
            name: p.detach() + sigma * torch.randn(p.shape, generator=generator).to(p)
            for name, p in parameters.items()
        }


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    require_initialized(model)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _gradients(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    y: Tensor,
    collector: PredictionCollector,
    loss: LossFunction | None,
) -> dict[str, Tensor]:
    """Of the sum over the batch of the loss; the collector takes the predictions."""
    device = device_of(model)
    y = y.to(device)
    with torch.enable_grad():
        logits = tensor_of(model, model(x.to(device)))
        collector.add(logits.detach(), y)
        if not logits.requires_grad:
            return {}
        if loss is None:
            counted(*rows(logits, y))  # refuses what is no target
            total = cross_entropy(logits, y, reduction="sum")
        else:
            total = each(loss, logits, y).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return {name: gradient for name, gradient in pairs if gradient is not None}


def _predictions(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    batches: Iterable[Batch],
    loss: LossFunction | None = None,
) -> Predictions:
    """What the model predicts with these parameters; its own are not touched."""
    collector = PredictionCollector(loss=loss)
    device = device_of(model)
    with torch.no_grad(), kept(model):
        for x, y in pairs(batches):
            logits = functional_call(model, dict(parameters), (x.to(device),))
            collector.add(tensor_of(model, logits), y.to(device))
    return collector.result()
