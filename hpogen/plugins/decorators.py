"""The decorators by which a user's file adds parts to the registries.

The public ones are `hpogen.plugins.searcher`, `task`, `model`, `dataset`, `loss` and `measure`.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from hpogen.plugins import declared
from hpogen.plugins.guest import guarded
from hpogen.plugins.parts import (
    Measure,
    TaskFunction,
    datasets,
    losses,
    measures,
    models,
    searchers,
    takes_data,
    tasks,
)
from hpogen.plugins.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


def searcher(name: str) -> Callable[[type], type]:
    """Register a class that keeps the contract of `hpogen.searchers.base`."""
    declared.name("searcher", name)

    def register(cls: type) -> type:
        declared.searcher(cls)
        searchers.add(name, cls)
        return cls

    return register


def task(
    name: str,
    *,
    metrics: Collection[str],
    sums: Collection[str] = (),
    observed: Collection[str] = (),
    resumable: bool = False,
    data: bool = False,
    audit: Collection[str] = (),
    split: bool = False,
) -> Callable[[F], F]:
    """Register `function(trial, *, options…)` that yields a mapping of metrics after each epoch.

    It is given an `OwnTrial`. `metrics` declares every metric it yields, `sums` those that are sums
    over epochs, `observed` those of which another run gives other numbers: seconds, say. A task
    that is not resumable starts again at epoch 0 after an interruption; one that is goes on from
    `trial.start_epoch`, the number of epochs whose yield was received, and must therefore have
    saved its state in `trial.directory` before each yield, unless it leaves that to
    `trial.checkpoint`. With `data` it promises to train on the fraction `trial.data` of its
    training set, on all of it where that is None: so that smaller fractions are parts of larger
    ones, and what it validates on stays the same.

    `audit` declares figures on samples that nothing else sees: `yield metrics, audit` gives them.
    No objective and no selection can name one, and an answer is judged by the first. With `split`
    it promises that where `trial.split` is "retrain" it trains on all of its data, validation and
    audit samples among them, and that its audit figures are those of a test set then.
    """

    declared.name("task", name)
    flags = {"resumable": resumable, "data": data, "split": split}
    promised = declared.task(metrics, sums, observed, audit, flags)

    def register(function: F) -> F:
        declared.function("task", function, 1)
        tasks.add(name, TaskFunction(name, function, **promised))
        return function

    return register


def model(name: str) -> Callable[[F], F]:
    """Register a builder `(in_shape, classes, **options) -> torch.nn.Module`.

    `in_shape` is (channels, height, width) of images, else the shape of a sample. A builder
    `(data, **options)` is given a `hpogen.training.forms.inputs.Inputs` in the place of both.
    """
    return _guarded("model", name, models, 2)


def dataset(name: str) -> Callable[[F], F]:
    """Register a loader `(root: Path, **options) -> hpogen.training.data.ImageData`, or `.Data`."""
    return _guarded("dataset", name, datasets, 1)


def loss(name: str) -> Callable[[F], F]:
    """Register a loss `(outputs, targets) -> torch.Tensor`, one for each sample, (N,).

    Training descends its mean, and measures differentiate it in float64. It takes no options.
    """
    return _guarded("loss", name, losses, 2)


def _guarded(
    decorator: str, name: str, registry: Registry[Callable[..., Any]], arguments: int
) -> Callable[[F], F]:
    declared.name(decorator, name)

    def register(function: F) -> F:
        one = decorator == "model" and callable(function) and takes_data(function)
        declared.function(decorator, function, 1 if one else arguments)
        registry.add(name, guarded(function))
        return function

    return register


def measure(
    name: str,
    *,
    of: typing.Literal["head", "network"],
    metrics: Collection[str] = (),
    sums: Collection[str] = (),
    means: Collection[str] = (),
    by_samples: Collection[str] = (),
    final: bool = False,
    initial: bool = False,
    observed: bool = False,
    needs: Callable[..., Any] | None = None,
    cost: str = "",
    source: str = "",
) -> Callable[[F], F]:
    """Register a measure (see `Measure`); without `metrics` it gives one, of its own name.

    The first line of the function's docstring is its definition in `hpogen list measures`.
    """
    declared.name("measure", name)
    given = tuple(metrics) if declared.names("measure", "metrics", metrics) else (name,)
    named = {"sums": sums, "means": means, "by_samples": by_samples}
    rest: dict[str, Any] = {k: declared.names("measure", k, v, given) for k, v in named.items()}
    flags = {"final": final, "initial": initial, "observed": observed}
    texts = {"cost": cost, "source": source}
    declared.measure(of, flags, needs, texts)
    rest |= {**flags, **texts}

    def register(function: F) -> F:
        declared.function("measure", function, 1 if of == "head" else 2 + initial)
        made = Measure(
            name,
            guarded(function),
            given,
            of,
            needs=guarded(needs) if needs else "",
            definition=(inspect.getdoc(function) or "").partition("\n")[0],
            **rest,
        )
        measures.add(name, made)
        return function

    return register
