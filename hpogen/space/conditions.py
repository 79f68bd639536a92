"""Whether the conditions of a search space, `when`, can hold; `form.py` asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Set

from hpogen.errors import unknown
from hpogen.space.mistake import Mistake
from hpogen.space.parameters import Number, Parameter
from hpogen.trial import Value

DEEPEST = 50  # conditions on conditions
MOST = 100  # mistakes in conditions that are looked for


def impossible(parameters: Mapping[str, Parameter]) -> Iterator[Mistake]:
    """Conditions on what is not there, that go round in a circle, or that can never hold.

    At most `MOST` are looked for.
    """
    yield from itertools.islice(_impossible(parameters), MOST)


def _impossible(parameters: Mapping[str, Parameter]) -> Iterator[Mistake]:
    sound = True
    for name, parameter in parameters.items():
        for parent, wanted in parameter.when.items():
            if (problem := _problem(parameters, name, parent, wanted)) is not None:
                sound = False
                yield Mistake((name, "when", parent), wanted, problem)
    if not sound:
        return
    unending = _unending(parameters)
    for name, parameter in parameters.items():
        if not unending:
            problem = _unmet(parameters, name)
        else:
            problem = _way(parameters, name, unending) if name in unending else None
        if problem is not None:
            yield Mistake((name, "when"), dict(parameter.when), problem)


def _problem(
    parameters: Mapping[str, Parameter], name: str, parent: str, wanted: tuple[Value, ...]
) -> str | None:
    if parent not in parameters:
        return unknown("parameter", parent, parameters.keys() - {name})
    other = parameters[parent]
    if isinstance(other, Number) and not other.integer:
        return f"{parent!r} is a float: a condition needs a choice, an int or a constant"
    for value in wanted:
        try:
            other.check(value)
        except ValueError as error:
            return str(error)
    return None


def _unending(parameters: Mapping[str, Parameter]) -> Set[str]:
    """What goes round in a circle or hangs on one; else what is too deep.

    Level by level: what has conditions on earlier levels only is the next one.
    """
    left = {name: {*parameter.when} for name, parameter in parameters.items() if parameter.when}
    for _ in range(DEEPEST):
        done = [name for name, parents in left.items() if not parents & left.keys()]
        if not done:
            break
        for name in done:
            del left[name]
    return left.keys()


def _way(parameters: Mapping[str, Parameter], name: str, left: Set[str]) -> str:
    """Where the conditions above a parameter lead, if not to an end."""
    path = [name]
    while len(path) <= DEEPEST:
        above = next((parent for parent in parameters[path[-1]].when if parent in left), None)
        if above is None:
            break
        path.append(above)
        if above in path[:-1]:
            return f"conditions go round in a circle: {' → '.join(path)}"
    return f"conditions on conditions, more than {DEEPEST} deep"


def _unmet(parameters: Mapping[str, Parameter], name: str) -> str | None:
    """Why the parameter can never be active, or None: what its ancestors demand, taken together."""
    demands: dict[str, set[tuple[type, Value]]] = {}
    waiting = [name]
    while waiting:
        for parent, wanted in parameters[waiting.pop()].when.items():
            allowed = {(type(value), value) for value in wanted}
            if parent not in demands:
                waiting.append(parent)
            demands[parent] = demands.get(parent, allowed) & allowed
            if not demands[parent]:
                return f"never active: no value of {parent!r} meets every condition above it"
    return None
