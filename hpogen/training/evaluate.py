"""What is measured after an epoch: each pass runs once, whatever the number of its readers."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import Any

import torch

from hpogen.measures.head import HeadCollector, HeadStatistics
from hpogen.measures.passes import PredictionCollector, Predictions, forward_pass, undisturbed
from hpogen.plugins import Measure
from hpogen.task import Diverged
from hpogen.training.data import Images
from hpogen.training.recipe import Recipe, State, timed

Metrics = dict[str, float]


def evaluate_epoch(recipe: Recipe, state: State) -> Generator[None, None, Metrics]:
    """The metrics at the end of the epoch that `state` stands in; yields between batches.

    At the budget's last epoch also the audit and the validation losses, which go into the state.
    Nothing that is summed over epochs changes before the last yield: an interrupted evaluation is
    repeated. Raises Diverged for a metric that is not finite.
    """
    plan, data, seconds = recipe.plan, recipe.data, state.seconds
    epoch, last = state.epoch + 1, state.epoch + 1 == recipe.trial.budget
    metrics = {"train_loss_online": float(state.loss_sum) / recipe.steps}
    agn = None
    with timed(seconds, "measures"):
        if plan.head_pass(epoch, last):
            head = yield from _head(recipe, state)
            metrics |= {"train_loss": head.loss, "train_accuracy": head.accuracy}
            agn = head.agn if plan.agn else None
            for planned in plan.due("head", epoch, last):
                metrics |= _named(planned.measure, planned.measure.resolve()(head))
        elif plan.train_pass(epoch, last):
            train = yield from _predictions(recipe, state, data.subset)
            metrics |= {"train_loss": train.loss, "train_accuracy": train.accuracy}
        for planned in plan.due("network", epoch, last):
            batches = recipe.batches(data.subset).sample(planned.samples)
            with undisturbed(state.model):
                metrics |= _named(planned.measure, planned.measure.resolve()(state.model, batches))
            yield
    with timed(seconds, "validation"):
        if plan.validation_pass(last) and len(data.validation):
            validation = yield from _predictions(recipe, state, data.validation)
            metrics |= {"val_loss": validation.loss, "val_accuracy": validation.accuracy}
            if last:
                state.validation_losses = validation.losses.to(torch.float32)
    if last and len(data.audit):
        audit = yield from _predictions(recipe, state, data.audit)
        state.audit = {"loss": audit.loss, "accuracy": audit.accuracy}
    metrics |= _gaps(metrics)
    _add_sums(recipe, state, metrics, agn)
    for name, value in {**metrics, **state.audit}.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} after epoch {epoch}")
    return metrics


def _head(recipe: Recipe, state: State) -> Generator[None, None, HeadStatistics]:
    with HeadCollector(state.model) as collector:
        yield from forward_pass(state.model, recipe.batches(recipe.data.subset), collector)
        return collector.result()


def _predictions(recipe: Recipe, state: State, split: Images) -> Generator[None, None, Predictions]:
    collector = PredictionCollector()
    yield from forward_pass(state.model, recipe.batches(split), collector)
    return collector.result()


def _gaps(metrics: Metrics) -> Metrics:
    if not {"train_loss", "val_loss"} <= metrics.keys():
        return {}
    return {
        "gap_loss": metrics["val_loss"] - metrics["train_loss"],
        "gap_accuracy": metrics["train_accuracy"] - metrics["val_accuracy"],
    }


def _add_sums(recipe: Recipe, state: State, metrics: Metrics, agn: float | None) -> None:
    """Put the sums over epochs in the place of this epoch's terms."""
    if agn is not None:
        metrics |= {"agn": agn, "agn_last": agn}
    if recipe.plan.online:
        metrics["agn_online"] = float(state.agn_sum) / recipe.steps
    for name in recipe.plan.sums & metrics.keys():
        state.sums[name] += metrics[name]
        metrics[name] = state.sums[name]
    if agn is not None:
        metrics["agn_mean"] = metrics["agn"] / (state.epoch + 1)


def _named(measure: Measure, given: Any) -> Metrics:
    """What a plug-in measure gave, by metric. Raises ValueError when it is not what it declares."""
    if not isinstance(given, Mapping):
        given = {measure.name: given}
    if set(given) != set(measure.metrics):
        raise ValueError(
            f"measure {measure.name!r} gave {sorted(given)}, it declares {sorted(measure.metrics)}"
        )
    return {name: float(value) for name, value in given.items()}
