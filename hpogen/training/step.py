"""One epoch of training: what happens to the weights, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch.nn import functional

from hpogen.measures.last_linear import LastLinear, smoothed
from hpogen.task import Diverged
from hpogen.training.augment import crop_and_flip, draw
from hpogen.training.measuring import of_network
from hpogen.training.recipe import Recipe, State, timed
from hpogen.training.schedule import rate
from hpogen.trial import derive_seed


def train_epoch(recipe: Recipe, state: State) -> Iterator[None]:
    """The rest of the epoch that `state` stands in; yields after each step.

    Order and augmentation come from the trial's seed and the epoch's number alone. Raises Diverged
    when the loss is not finite: on a CPU at once, on a GPU (which would have to wait) at the end.
    """
    data, values, model = recipe.data, recipe.values, state.model
    augment = recipe.settings.dataset.augment == "standard"
    seed = derive_seed(recipe.trial.seed, "epoch", state.epoch)
    draws = draw(len(data.subset), augment, seed, recipe.device)
    on_cpu, sums = recipe.device.type == "cpu", state.step_sums
    momentum = values.momentum if values.optimizer == "sgd" else 0.0  # Adam's is an average
    model.train()
    with LastLinear(model) if recipe.plan.online else nullcontext() as last:
        while state.step < recipe.steps:
            batch = slice(state.step * recipe.batch_size, (state.step + 1) * recipe.batch_size)
            _measure(recipe, state)
            chosen = draws.order[batch]
            images, labels = data.subset.images[chosen], data.subset.labels[chosen]
            if draws.shifts is not None and draws.flips is not None:
                images = crop_and_flip(images, draws.shifts[batch], draws.flips[batch])
            x = data.normalization(images, recipe.memory_format)  # (B, C, H, W)

            logits = model(x)  # (B, classes)
            loss = functional.cross_entropy(logits, labels, label_smoothing=values.label_smoothing)
            if on_cpu and not math.isfinite(loss.item()):
                raise _diverged(recipe, state)
            sums["loss"] += loss.detach()
            lr = _set_rate(recipe, state)
            if last is not None:  # AGN online: from this very forward pass
                targets = smoothed(labels, data.classes, values.label_smoothing)
                norm = last.squared_gradient_norms(logits, targets).mean()
                sums["agn"] += norm
                sums["agn_lr"] += lr / (1 - momentum) * norm

            state.optimizer.zero_grad()
            torch.autograd.backward(loss)
            state.optimizer.step()
            state.step += 1
            yield
    if not torch.isfinite(sums["loss"]):
        raise _diverged(recipe, state)


def _measure(recipe: Recipe, state: State) -> None:
    """What is measured at every iteration, at the weights before it."""
    if not recipe.plan.iterated:
        return
    before = state.seconds["measures"]
    with timed(state.seconds, "measures"):
        for planned in recipe.plan.iterated:
            for name, value in of_network(recipe, state, planned).items():
                state.step_sums[name] += value
    state.seconds["train"] -= state.seconds["measures"] - before


def _set_rate(recipe: Recipe, state: State) -> float:
    """Give the optimizer the learning rate of this step, and return it."""
    schedule, epochs = recipe.settings.schedule, recipe.settings.epochs
    total = epochs if schedule.anchor == "full" else recipe.trial.budget
    done = state.epoch + state.step / recipe.steps
    lr = rate(schedule, recipe.values.lr, done, 1 / recipe.steps, total, epochs)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    return lr


def _diverged(recipe: Recipe, state: State) -> Diverged:
    at = f"epoch {state.epoch + 1}, step {state.step + 1} of {recipe.steps}"
    return Diverged(f"the training loss is not finite in {at}, lr {recipe.values.lr:g}")
