"""Runs the measures of an epoch and keeps what is summed over epochs.

`evaluate.py` calls it after each epoch, `step.py` for what is measured at every iteration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hpogen.measures.catalog import DECAY
from hpogen.measures.online import TrainingSteps
from hpogen.measures.packed import Packed, Unpacking
from hpogen.measures.passes import undisturbed
from hpogen.plugins import Measure, Measured
from hpogen.tasks.base import Diverged
from hpogen.training.plan import PlannedMeasure
from hpogen.training.recipe import Recipe
from hpogen.training.state import State

Metrics = dict[str, float]


def named(measure: Measure, given: Any) -> dict[str, float | Tensor]:
    """What a measure gave, by metric. Raises ValueError when it is not what it declares."""
    if not isinstance(given, Mapping):
        given = {measure.name: given}
    if set(given) != set(measure.metrics):
        raise ValueError(
            f"measure {measure.name!r} gave {sorted(given)}, it declares {sorted(measure.metrics)}"
        )
    return {n: v if isinstance(v, Tensor) else float(v) for n, v in given.items()}


def read(*parts: Mapping[str, float | Tensor]) -> tuple[Metrics, ...]:
    """The same as plain numbers: all () tensors, on one device, in one transfer to the host."""
    waiting = [value for part in parts for value in part.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack([v.double() for v in waiting]).cpu().tolist() if waiting else ())
    return tuple(
        {
            name: next(numbers) if isinstance(value, Tensor) else value
            for name, value in part.items()
        }
        for part in parts
    )


def diverged(recipe: Recipe, state: State) -> Diverged:
    """What to raise where a training loss is not finite."""
    at = f"epoch {state.epoch + 1}, step {state.step + 1} of {recipe.steps}"
    return Diverged(f"the training loss is not finite in {at}, lr {recipe.values.lr:g}")


def of_network(recipe: Recipe, state: State, planned: PlannedMeasure) -> dict[str, float | Tensor]:
    """What a measure of the whole network gives now; its files go into the state.

    Raises Diverged when a parameter is not finite: measures are not asked to digest that; and
    where the weights give the measure no value, which it says by a FloatingPointError.
    """
    measure = planned.measure
    model = state.model if planned.every == "iteration" else state.judged
    finite = [torch.isfinite(value).all() for value in model.parameters()]
    if finite and not torch.stack(finite).all():  # a buffer may be: a mask of −∞
        raise Diverged(f"a weight is not finite after {state.epoch} epochs, {state.step} steps")
    given: list[object] = [model, recipe.batches(recipe.data.subset).sample(planned.samples)]
    if measure.initial:
        given.append(recipe.untrained())
    if isinstance(recipe.data.in_shape, Mapping):
        given = _of_one_tensor(recipe, state, *given)
    own = recipe.network_loss if measure.loss == "any" else None
    keys = {} if own is None else {"loss": own}
    with undisturbed(model):
        result = valued(measure, state.epoch + 1, *given, **keys)
    if isinstance(result, Measured):
        state.files |= result.files
        result = result.metrics
    return named(measure, result)


def _of_one_tensor(recipe: Recipe, state: State, model: Any, batches: Any, *more: Any) -> list[Any]:
    """The same for named inputs: batches that are packed, and models that unpack them."""
    data = recipe.data
    if state.unpacking is None or state.unpacking.model is not model:  # kept: much goes by it
        state.unpacking = Unpacking(model, data.in_shape, data.dtype)
    others = (Unpacking(one, data.in_shape, data.dtype) for one in more)
    return [state.unpacking, Packed(batches), *others]


def valued(measure: Measure, epoch: int, *given: object, **keys: object) -> Any:
    """What a measure gives. Raises Diverged where it has no value, by a FloatingPointError."""
    try:
        return measure.resolve()(*given, **keys)
    except FloatingPointError as error:
        raise Diverged(f"{measure.name} in epoch {epoch}: {error}") from error


def of_steps(recipe: Recipe, state: State, sums: Mapping[str, float], last: bool) -> Metrics:
    """The terms of the epoch after those done, which its training steps have summed up."""
    epoch = state.epoch + 1
    loss, agn = sums["loss"] / recipe.steps, sums["agn"] / recipe.steps
    steps = TrainingSteps(loss, agn, sums["agn_lr"], state.seconds["train"] / epoch)
    metrics: Metrics = {}
    for planned in recipe.plan.due("step", epoch, last):
        metrics |= read(named(planned.measure, planned.measure.resolve()(steps)))[0]
    for planned in recipe.plan.iterated:
        metrics |= {name: sums[name] for name in planned.measure.metrics}
    return metrics


def add_up(recipe: Recipe, state: State, metrics: Metrics) -> None:
    """Put the sums and means over epochs in the place of this epoch's terms."""
    for name in recipe.plan.running & metrics.keys():
        state.sums[name] = DECAY.get(name, 1.0) * state.sums[name] + metrics[name]
        metrics[name] = state.sums[name]
    for name in recipe.plan.means & metrics.keys():
        metrics[name] /= state.epoch + 1


def check_finite(metrics: Metrics, epoch: int) -> None:
    """Raises Diverged for a metric that is not finite after `epoch` epochs."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} after epoch {epoch}")
