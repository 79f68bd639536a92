"""What is measured after an epoch: each pass runs once, whatever the number of its readers."""

from __future__ import annotations

from collections.abc import Generator

import torch

from hpogen.measures.head import HeadCollector, HeadStatistics
from hpogen.measures.passes import PredictionCollector, Predictions, forward_pass
from hpogen.training.data import Images
from hpogen.training.measuring import (
    Metrics,
    add_up,
    check_finite,
    named,
    of_network,
    of_steps,
)
from hpogen.training.recipe import Recipe, State, timed


def evaluate_epoch(recipe: Recipe, state: State) -> Generator[None, None, Metrics]:
    """The metrics at the end of the epoch that `state` stands in; yields between batches.

    At the budget's last epoch also the validation losses and the audit, which go into the state;
    the audit after each epoch where the task says so.
    Nothing that is summed over epochs changes before the last yield: an interrupted evaluation is
    repeated. Raises Diverged for a metric that is not finite.
    """
    plan, data, seconds = recipe.plan, recipe.data, state.seconds
    epoch, last = state.epoch + 1, state.epoch + 1 == recipe.trial.budget
    metrics = {"train_loss_online": float(state.step_sums["loss"]) / recipe.steps}
    with timed(seconds, "measures"):
        if measures := plan.due("head", epoch, last):
            head = yield from _head(recipe, state)
            metrics |= {"train_loss": head.loss, "train_accuracy": head.accuracy}
            check_finite(metrics, epoch)  # no measure is asked to digest NaN
            for planned in measures:
                metrics |= named(planned.measure, planned.measure.resolve()(head))
        elif plan.train_pass(last):
            train = yield from _predictions(recipe, state, data.subset)
            metrics |= {"train_loss": train.loss, "train_accuracy": train.accuracy}
        for planned in plan.due("network", epoch, last):
            metrics |= of_network(recipe, state, planned)
            yield
        metrics |= of_steps(recipe, state, epoch, last)
    with timed(seconds, "validation"):
        if plan.validation_pass(last) and len(data.validation):
            validation = yield from _predictions(recipe, state, data.validation)
            metrics |= {"val_loss": validation.loss, "val_accuracy": validation.accuracy}
            if last:
                state.validation_losses = validation.losses.to(torch.float32)
    if len(data.audit) and (last or recipe.settings.dataset.audit == "test-each-epoch"):
        audit = yield from _predictions(recipe, state, data.audit)
        state.audits[epoch] = {"loss": audit.loss, "accuracy": audit.accuracy}
    metrics |= _gaps(metrics)
    add_up(recipe, state, metrics)
    check_finite(metrics | state.audits.get(epoch, {}), epoch)
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
