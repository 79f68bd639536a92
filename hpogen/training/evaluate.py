"""What is measured after an epoch: each pass runs once, whatever the number of its readers.

What the passes find stays on the device until the epoch's end and is read there in one go: on a
GPU the host waits for it once per epoch.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from typing import Literal

import torch
from torch import Tensor

from hpogen.measures.head import HeadStatistics
from hpogen.measures.head_pass import HeadCollector
from hpogen.measures.passes import Collector, PredictionCollector, Predictions, forward_pass
from hpogen.measures.sequence_pass import SequenceCollector, SequenceHeadCollector
from hpogen.measures.sequences import SequenceHead
from hpogen.training.averaging import settle
from hpogen.training.data.reading import Split
from hpogen.training.measuring import (
    Metrics,
    add_up,
    check_finite,
    diverged,
    named,
    of_network,
    of_steps,
    read,
    valued,
)
from hpogen.training.metrics import Seen, figures, hits, squared_errors
from hpogen.training.plan import PlannedMeasure
from hpogen.training.recipe import Recipe
from hpogen.training.state import State

Found = dict[str, float | Tensor]
"""What an epoch's passes have found so far: numbers, and () tensors that are yet to be read."""


def evaluate_epoch(recipe: Recipe, state: State) -> Generator[None, None, Metrics]:
    """The metrics at the end of the epoch that `state` stands in; yields between batches.

    At the trial's last epoch also the validation losses and the audit, which go into the state;
    the audit after each epoch where the task says so.
    Nothing that is summed over epochs changes before the last yield: an interrupted evaluation is
    repeated. Raises Diverged for a metric that is not finite.
    """
    epoch = state.epoch + 1
    found: Found = {}
    audited: Found = {}
    with state.clock("measures"):
        yield from settle(recipe, state)
    with state.clock("validation"):
        validated, last = yield from _validation(recipe, state)
    with state.clock("measures"):
        yield from _measures(recipe, state, found, last)
    found |= validated
    if len(recipe.data.audit) and (last or recipe.settings.dataset.audit == "test-each-epoch"):
        seen = yield from _predictions(recipe, state, recipe.data.audit)
        audited = _figures(recipe, seen)
        if last:
            _keep_each(recipe, state, seen)

    sums, metrics, audit = read(state.step_sums, found, audited)
    state.clock.settle()
    if not math.isfinite(sums["loss"]):
        raise diverged(recipe, state)
    check_finite(metrics, epoch)
    metrics |= of_steps(recipe, state, sums, last) | _gaps(metrics)
    metrics["train_loss_online"] = sums["loss"] / recipe.steps
    if audit:
        state.audits[epoch] = audit
    add_up(recipe, state, metrics)
    check_finite(metrics | audit, epoch)
    return metrics


def _measures(recipe: Recipe, state: State, found: Found, last: bool) -> Generator[None]:
    """The pass over the subset, and the measures of the whole network."""
    plan, epoch = recipe.plan, state.epoch + 1
    if measures := plan.due("head", epoch, last):
        head = yield from _head(recipe, state, measures)
        found |= _figures(recipe, head.predictions, "train_")
        closed = _reads(measures) == "forms"
        if not closed or recipe.device.type == "cpu":  # none has to digest NaN
            check_finite({"train_loss": float(head.predictions.mean_loss)}, epoch)
        for planned in measures:
            found |= named(planned.measure, valued(planned.measure, epoch, head))
    elif plan.train_pass(last):
        seen = yield from _predictions(recipe, state, recipe.data.subset)
        found |= _figures(recipe, seen, "train_")
    for planned in plan.due("network", epoch, last):
        found |= of_network(recipe, state, planned)
        yield


def _validation(recipe: Recipe, state: State) -> Generator[None, None, tuple[Found, bool]]:
    """What validation tells, and whether this is the trial's last epoch."""
    last = state.epoch + 1 == recipe.trial.budget
    if not recipe.plan.validation_pass(last) or not len(recipe.data.validation):
        return {}, last
    seen = yield from _predictions(recipe, state, recipe.data.validation)
    if recipe.settings.patience is not None:
        last = recipe.over([*state.losses, float(seen.mean_loss)])
    if last:
        _keep_validation(recipe, state, seen)
    return _figures(recipe, seen, "val_"), last


def _keep_validation(recipe: Recipe, state: State, seen: Seen) -> None:
    """The loss of each validation sample, and what else is kept of it."""
    if recipe.settings.keeps_losses:
        state.validation_losses = seen.losses.to(torch.float32)
        if isinstance(seen, Predictions) and recipe.data.target.classed:
            state.validation_hits = seen.hits
    if isinstance(seen, Predictions) and recipe.keeps_probabilities:
        state.validation_probabilities, state.validation_labels = _shares(seen)


def _keep_each(recipe: Recipe, state: State, seen: Seen) -> None:
    """Whether each audit sample was right, at how many places, or how far off."""
    kind, unit = recipe.data.target, recipe.data.unit
    if not isinstance(seen, Predictions):
        state.audit_counts = seen.counts
        return
    if kind.error == "accuracy":
        state.audit_hits = hits(seen, kind)
    else:
        state.audit_errors = squared_errors(seen, unit).sqrt().to(torch.float32)
    if recipe.keeps_probabilities:
        state.audit_probabilities, state.audit_labels = _shares(seen)


def _shares(seen: Predictions) -> tuple[Tensor, Tensor]:
    """The classes' probabilities (N, C) float16, and the labels (N,) int32, to be kept."""
    return seen.probabilities.to(torch.float16), seen.labels.to(torch.int32)


def _figures(recipe: Recipe, seen: Seen, before: str = "") -> Found:
    """What a split's predictions come to, () tensors by name, with `before` in front of each."""
    data, names = recipe.data, sorted(recipe.settings.own_metrics)
    return {before + name: x for name, x in figures(seen, data.target, data.unit, names).items()}


def head_collector(
    recipe: Recipe, state: State, measures: Iterable[PlannedMeasure]
) -> HeadCollector | SequenceHeadCollector:
    """What collects all that those measures of the last layer read."""
    loss, reads = recipe.measured_loss, _reads(measures)
    if recipe.data.target.name != "positions":
        known = recipe.batches(recipe.data.subset).targets
        return HeadCollector(state.judged, loss, known, reads)
    return SequenceHeadCollector(state.judged, loss, known=True, moments=reads != "forms")


def _reads(measures: Iterable[PlannedMeasure]) -> Literal["features", "moments", "forms"]:
    """What the neediest of them reads."""
    reads = {planned.measure.reads for planned in measures}
    return "features" if "features" in reads else "moments" if "moments" in reads else "forms"


def _head(
    recipe: Recipe, state: State, measures: Iterable[PlannedMeasure]
) -> Generator[None, None, HeadStatistics | SequenceHead]:
    with head_collector(recipe, state, measures) as collector:
        yield from _forward(recipe, state, recipe.data.subset, collector)
        return collector.result()


def _predictions(recipe: Recipe, state: State, split: Split) -> Generator[None, None, Seen]:
    loss = recipe.measured_loss
    collector = (
        SequenceCollector(loss, known=True)
        if recipe.data.target.name == "positions"
        else PredictionCollector(recipe.batches(split).targets, loss)
    )
    yield from _forward(recipe, state, split, collector)
    return collector.result()


def _forward(recipe: Recipe, state: State, split: Split, collector: Collector) -> Generator[None]:
    batches, loads = recipe.batches(split), not split.in_memory
    yield from forward_pass(state.judged, batches, collector, recipe.autocast, loads)


def _gaps(metrics: Metrics) -> Metrics:
    found = {}
    if {"train_loss", "val_loss"} <= metrics.keys():
        found["gap_loss"] = metrics["val_loss"] - metrics["train_loss"]
    if {"train_accuracy", "val_accuracy"} <= metrics.keys():
        found["gap_accuracy"] = metrics["train_accuracy"] - metrics["val_accuracy"]
    return found
