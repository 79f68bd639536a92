"""The complete factorial grid, for small spaces and for scores that need one (PGDL)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

from annotated_types import Ge

from hpogen.errors import Refusal, unknown
from hpogen.space import Space
from hpogen.space.parameters import Choice, Constant, Number, Parameter
from hpogen.trial import Config, Proposal, Value

POINTS = 5  # values per number where nothing is said
Count = Annotated[int, Ge(1)]


class GridSearcher:
    """Every combination once, the last parameter varying fastest; then `ask` gives None.

    `points` is how many values a number takes, for all or by name, or by name the values
    themselves: evenly spaced on its scale with both ends (one point: the default), integers
    rounded, each value once. A choice takes all its values. Configurations that differ in an
    inactive parameter only are one.
    """

    enqueues_default: ClassVar[bool] = False
    ranks_only: ClassVar[bool] = False
    multi_fidelity: ClassVar[bool] = False

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        points: Count | dict[str, Count | list[Value]] = POINTS,
    ) -> None:
        if enqueue:
            raise Refusal("grid: takes no enqueued configurations: remove enqueue, or list points")
        by_name = points if isinstance(points, dict) else dict.fromkeys(space.names, points)
        if isinstance(points, dict):
            _check_names(space, points)
        axes = {
            name: _axis(name, parameter, by_name.get(name, POINTS))
            for name, parameter in space.parameters.items()
        }
        self._budget = budgets[-1]
        self._configs = _combinations(space, axes)

    def ask(self) -> Proposal | None:
        config = next(self._configs, None)
        return None if config is None else Proposal(config, self._budget)

    def tell(self, trial: int, score: float) -> None:
        """A grid learns nothing."""


def _check_names(space: Space, points: Mapping[str, int | list[Value]]) -> None:
    for name, given in points.items():
        if name not in space.parameters:
            raise Refusal(f"grid: points: {unknown('parameter', name, space.names)}")
        if not isinstance(given, list) and not isinstance(space.parameters[name], Number):
            raise Refusal(f"grid: points.{name}: got {given}, expected a list: it is no number")


def _axis(name: str, parameter: Parameter, points: int | list[Value]) -> list[Value]:
    if isinstance(points, list):
        return _listed(name, parameter, points)
    if isinstance(parameter, Constant):
        return [parameter.default]
    if isinstance(parameter, Choice):
        return [*parameter.values]
    if points == 1:
        return [parameter.default]
    values: list[Value] = []
    for i in range(points):
        x = _between(parameter, i / (points - 1))
        value = math.floor(x + 0.5) if parameter.integer else x
        if value not in values:
            values.append(value)
    return values


def _between(parameter: Number, share: float) -> float:
    low, high = parameter.low, parameter.high
    if share in (0, 1):
        return high if share else low
    return low * (high / low) ** share if parameter.log else low + (high - low) * share


def _listed(name: str, parameter: Parameter, points: list[Value]) -> list[Value]:
    values: list[Value] = []
    for point in points:
        try:
            value = parameter.check(point)
        except ValueError as error:
            raise Refusal(f"grid: points.{name}: {error}") from None
        if value not in values:
            values.append(value)
    if not values:
        raise Refusal(f"grid: points.{name}: got [], expected at least one value")
    return values


def _combinations(space: Space, axes: Mapping[str, list[Value]]) -> Iterator[Config]:
    for values in itertools.product(*axes.values()):
        combination = dict(zip(axes, values, strict=True))
        config = space.complete(combination)
        # of the combinations that give this configuration, the one with the first inactive values
        if all(name in config or value == axes[name][0] for name, value in combination.items()):
            yield config
