"""The samplers of `optuna.samplers` that a study may name, made and checked."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Mapping
from typing import Any

import optuna

from hpogen.errors import Refusal, quoted, unknown
from hpogen.space import Space
from hpogen.space.parameters import Choice

# These need objects that YAML has no words for, or end the search themselves.
NOT_OFFERED = {
    "BaseSampler",
    "BaseGASampler",
    "BruteForceSampler",
    "GridSampler",
    "PartialFixedSampler",
}
# Optuna would give these samplers' choices to another, random one.
NUMBERS_ONLY = {"CmaEsSampler", "QMCSampler"}

CONSTRAINED = {"TPESampler", "GPSampler", "NSGAIISampler", "NSGAIIISampler"}
SEVERAL = CONSTRAINED | {"RandomSampler", "QMCSampler"}  # scores

PLAIN: Mapping[str, Any] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "None": type(None),
}

# Optuna takes others, and fails or does not come back when it is asked.
WITHIN: Mapping[str, tuple[float, float]] = {
    "n_startup_trials": (0, math.inf),
    "n_ei_candidates": (1, 10_000),
    "popsize": (2, 10_000),
    "prior_weight": (0, math.inf),
}


def offered() -> set[str]:
    """The classes of `optuna.samplers` that a study may name."""
    return {
        key
        for key in dir(optuna.samplers)
        if inspect.isclass(cls := getattr(optuna.samplers, key))
        and issubclass(cls, optuna.samplers.BaseSampler)
    } - NOT_OFFERED


def sampler_of(
    searcher: str, space: Space, name: str, options: Mapping[str, Any], seed: int, scores: int
) -> optuna.samplers.BaseSampler:
    """A sampler by the name of its class. Raises Refusal, beginning with `searcher`."""
    if name not in offered():
        raise Refusal(f"{searcher}: {unknown('sampler', name, offered())}")
    if name in NUMBERS_ONLY:
        for key, parameter in space.parameters.items():
            if isinstance(parameter, Choice) and not parameter.ordered:
                raise Refusal(
                    f"{searcher}: {key!r} is a choice without an order, and {name} takes numbers "
                    "only"
                )
    if scores > 1 and name not in SEVERAL:
        several = ", ".join(sorted(SEVERAL))
        raise Refusal(f"{searcher}: {name} learns from one score, expected one of {several}")
    if space.priors and name != "TPESampler":
        raise Refusal(
            f"{searcher}: {space.priors[0]!r} has a prior, which {name} does not honour: leave it "
            "out, or take TPESampler"
        )
    if name == "CmaEsSampler":
        _check_cmaes(searcher, space)
    cls = getattr(optuna.samplers, name)
    _check_options(searcher, cls, options)
    try:
        made: optuna.samplers.BaseSampler = cls(seed=seed, **options)
    except (TypeError, ValueError) as error:
        raise Refusal(f"{searcher}: {name}: {error}") from None
    return made


def _check_cmaes(searcher: str, space: Space) -> None:
    if importlib.util.find_spec("cmaes") is None:
        raise Refusal(f"{searcher}: CmaEsSampler needs the package cmaes: pip install cmaes")
    if space.dimension < 2:
        raise Refusal(f"{searcher}: CmaEsSampler needs two parameters that are numbers")


def _check_options(searcher: str, cls: type, options: Mapping[str, Any]) -> None:
    """Every option is one of the sampler's, and of the plain type that it declares."""
    known = {
        name: str(parameter.annotation)
        for name, parameter in inspect.signature(cls).parameters.items()
        if name != "seed" and set(str(parameter.annotation).split(" | ")) <= PLAIN.keys()
    }
    for name, value in options.items():
        if name not in known:
            raise Refusal(f"{searcher}: {cls.__name__}: {unknown('option', name, known)}")
        kinds = known[name].split(" | ")
        if not any(isinstance(value, PLAIN[kind]) for kind in kinds) or (
            isinstance(value, bool) and "bool" not in kinds
        ):
            expected = known[name].replace("None", "null")
            raise Refusal(f"{searcher}: {name}: got {quoted(value)}, expected {expected}")
        low, high = WITHIN.get(name, (-math.inf, math.inf))
        if name in WITHIN and value is not None and not low <= value <= high:
            expected = f"at least {low}" if value < low else f"at most {high}"
            raise Refusal(f"{searcher}: {name}: got {quoted(value)}, expected {expected}")
