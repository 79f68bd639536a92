"""The complete factorial grid, for small spaces and for scores that need one (PGDL)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from annotated_types import doc

from hpogen.errors import Refusal, unknown
from hpogen.searchers.brackets import Count
from hpogen.space import Space
from hpogen.space.parameters import Choice, Constant, Number, Parameter, same
from hpogen.trial import Config, Proposal, Value

POINTS = 5  # values per number where nothing is said
FIRST = 100_000  # combinations of which one at least is not forbidden


class GridSearcher:
    """Every combination once, the last parameter varying fastest; then it ends.

    `points` is how many values a number takes, for all or by name, or by name the values
    themselves: evenly spaced on its scale with both ends (one point: the default), integers
    rounded, each value once. A choice takes all its values. Configurations that differ in an
    inactive parameter only are one. Forbidden combinations are passed over.
    """

    enqueues_default, ranks_only, multi_fidelity = False, False, False
    honours = frozenset({"forbid"})

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        points: Annotated[
            Count | dict[str, Count | list[Value]],
            doc("values per number, for all or by name, or by name the values themselves"),
        ] = POINTS,
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
        self._configs = _allowed(space, _combinations(space, axes))
        conditional = any(parameter.when for parameter in space.parameters.values())
        unknown_size = conditional or space.forbidden
        self.size = None if unknown_size else math.prod(map(len, axes.values()))

    def ask(self) -> Proposal | None:
        config = next(self._configs, None)
        return None if config is None else Proposal(config, self._budget)

    def tell(self, trial: int, score: float) -> None:
        """A grid learns nothing."""

    def tell_scores(self, trial: int, scores: Sequence[float], excess: Mapping[str, float]) -> None:
        """Nor of several scores."""


def _allowed(space: Space, configs: Iterator[Config]) -> Iterator[Config]:
    """Those that are not forbidden. Raises Refusal where all of the first ones are."""
    if not space.forbidden:
        return configs
    early = (config for config in itertools.islice(configs, FIRST) if not space.forbids(config))
    if (first := next(early, None)) is None:
        raise Refusal(f"grid: search_space.forbid: the first {FIRST} combinations are forbidden")
    return itertools.chain([first], (config for config in configs if not space.forbids(config)))


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
    if parameter.step:
        return [parameter.at(place) for place in _evenly(parameter.last, points)]
    xs = (_between(parameter, i / (points - 1)) for i in range(points))
    return [*dict.fromkeys(math.floor(x + 0.5) if parameter.integer else x for x in xs)]


def _evenly(last: int, points: int) -> list[int]:
    """Of 0 … last so many, or all where there are fewer, rounded, each once."""
    count = min(points, last + 1) - 1
    return [*dict.fromkeys((2 * i * last + count) // (2 * count) for i in range(count + 1))]


def _between(parameter: Number, share: float) -> float:
    low, high = parameter.low, parameter.high
    if share in (0, 1):
        return high if share else low
    return low * (high / low) ** share if parameter.log else low + (high - low) * share


def _listed(name: str, parameter: Parameter, points: list[Value]) -> list[Value]:
    try:
        values = dict.fromkeys(parameter.check(point) for point in points)
    except ValueError as error:
        raise Refusal(f"grid: points.{name}: {error}") from None
    if not values:
        raise Refusal(f"grid: points.{name}: got [], expected at least one value")
    return [*values]


def _combinations(space: Space, axes: Mapping[str, list[Value]]) -> Iterator[Config]:
    """The configurations in the order of the product of the axes, each once.

    Of the combinations that give one configuration, the one with the first values of what is
    inactive. A prefix of values that leads to none of these is left as soon as that is known.
    """
    names = [*axes]
    decided = _decided(space, names)
    at = [0] * len(names)  # which value of each axis; those up to the k-th are chosen
    values = {name: axes[name][0] for name in names}
    k = 0
    while k >= 0:
        values[names[k]] = axes[names[k]][at[k]]
        wanted = all(at[i] == 0 or _hold(conditions, values) for i, conditions in decided[k])
        if wanted and k < len(names) - 1:
            k += 1
            at[k] = 0
            continue
        if wanted:
            yield space.complete(values)
        while k >= 0 and at[k] == len(axes[names[k]]) - 1:
            k -= 1
        if k >= 0:
            at[k] += 1


Conditions = list[tuple[str, tuple[Value, ...]]]


def _decided(space: Space, names: list[str]) -> list[list[tuple[int, Conditions]]]:
    """For each axis those parameters that are known to be active or not once its value is chosen.

    Each with what its conditions, and those of its parents, ask for.
    """
    place = {name: i for i, name in enumerate(names)}
    decided: list[list[tuple[int, Conditions]]] = [[] for _ in names]
    for name in names:
        conditions = [*_conditions(space, name)]
        if conditions:
            last = max(place[name], *(place[parent] for parent, _ in conditions))
            decided[last].append((place[name], conditions))
    return decided


def _conditions(space: Space, name: str) -> Iterator[tuple[str, tuple[Value, ...]]]:
    waiting, seen = [name], {name}
    while waiting:
        when = space.parameters[waiting.pop()].when
        yield from when.items()
        waiting += when.keys() - seen
        seen |= when.keys()


def _hold(conditions: Conditions, values: Mapping[str, Value]) -> bool:
    return all(any(same(values[parent], v) for v in wanted) for parent, wanted in conditions)
