"""The search space: from YAML to parameters, and between configurations and the unit cube.

Searchers propose through it, the spec checks with it, and engines that want one get a ConfigSpace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hpogen.errors import UserError, quoted, unknown
from hpogen.space.forbid import Forbidden
from hpogen.space.form import FORBID, invalid, parse
from hpogen.space.mistake import Mistake
from hpogen.space.parameters import (
    Choice,
    Constant,
    Number,
    Parameter,
    When,
    number_of,
    places,
    same,
)
from hpogen.trial import Config, Value

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Point = npt.NDArray[np.float64]
LOAD_TRIES = 1000  # draws of which one at least is not forbidden, when a space is loaded
DRAWS = 100_000  # in a row, when it is searched


@dataclass(frozen=True)
class Space:
    """A search space: named parameters, some of them active only under a condition.

    A configuration has every active parameter and no inactive one, and none of `forbidden` holds
    for it. A point of the unit cube has one coordinate per number (log where asked) or ordered
    choice, and one per value of another choice.
    """

    parameters: Mapping[str, Parameter]
    forbidden: tuple[Forbidden, ...] = ()

    @staticmethod
    def parse(mapping: Mapping[str, Any]) -> Space:
        """A space from its YAML mapping.

        Raises pydantic.ValidationError with one line per mistake, `loc` within the mapping.
        """
        space = Space(*parse(mapping))
        if (mistake := space._too_strict()) is not None:
            raise invalid([mistake])
        return space

    def record(self) -> dict[str, Any]:
        """The YAML mapping with every default filled in; parsing it gives this space."""
        record = {name: parameter.record() for name, parameter in self.parameters.items()}
        texts = [rule.text for rule in self.forbidden]
        return record | ({FORBID: texts} if texts else {})

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    @cached_property
    def dimension(self) -> int:
        """The number of coordinates of a point."""
        return sum(parameter.width for parameter in self.parameters.values())

    @cached_property
    def default(self) -> Config:
        return self.complete({})

    @cached_property
    def _conditions(self) -> tuple[tuple[str, When], ...]:
        """The conditional parameters, parents before children."""
        conditional = {name: p.when for name, p in self.parameters.items() if p.when}
        ordered: dict[str, When] = {}
        while len(ordered) < len(conditional):
            for name, when in conditional.items():
                if all(parent in ordered or parent not in conditional for parent in when):
                    ordered[name] = when
        return tuple(ordered.items())

    @cached_property
    def _blocks(self) -> tuple[tuple[str, Parameter, slice], ...]:
        ends = np.cumsum([parameter.width for parameter in self.parameters.values()]).tolist()
        return tuple(
            (name, parameter, slice(end - parameter.width, end))
            for (name, parameter), end in zip(self.parameters.items(), ends, strict=True)
        )

    def _active(self, values: dict[str, Value]) -> dict[str, Value]:
        """Drop in place what is inactive; a child of an inactive parent is inactive too."""
        for name, when in self._conditions:
            if not all(
                parent in values and any(same(values[parent], value) for value in wanted)
                for parent, wanted in when.items()
            ):
                values.pop(name, None)
        return values

    def complete(self, partial: Mapping[str, object]) -> Config:
        """The configuration with the given values, defaults elsewhere, and nothing inactive.

        Raises UserError, naming the parameter, for an unknown name or a value not in the space.
        """
        values = {name: parameter.default for name, parameter in self.parameters.items()}
        for name, value in partial.items():
            if name not in self.parameters:
                raise UserError(unknown("parameter", name, self.names))
            try:
                values[name] = self.parameters[name].check(value)
            except ValueError as error:
                raise UserError(f"{name}: {error}") from None
        return self._active(values)

    def forbids(self, config: Config) -> str:
        """The first of `forbidden` that holds for a configuration, as written; empty: none."""
        return next((rule.text for rule in self.forbidden if rule.holds(config)), "")

    def _too_strict(self) -> Mistake | None:
        """What is wrong where the defaults are forbidden, or next to everything."""
        if text := self.forbids(self.default):
            i = next(i for i, rule in enumerate(self.forbidden) if rule.text == text)
            got = {name: x for name, x in self.default.items() if name in text}
            said = f"forbids the defaults, {quoted(got)}: give another default"
            return Mistake((FORBID, i), text, said)
        generator = np.random.default_rng(0)
        tries = range(LOAD_TRIES if self.forbidden else 0)
        if not tries or any(not self.forbids(self._drawn(generator)) for _ in tries):
            return None
        said = f"forbids each of {len(tries)} drawn configurations: narrow the ranges instead"
        return Mistake((FORBID,), [rule.text for rule in self.forbidden], said)

    def contains(self, config: Mapping[str, object]) -> bool:
        """Whether it has exactly the active parameters, each a plain value inside its range."""
        return self.why_not(config) == ""

    def why_not(self, config: Mapping[str, object]) -> str:
        """The first reason why it does not contain a configuration; empty: it does."""
        try:
            complete = self.complete(config)
        except UserError as error:
            return str(error)
        if absent := next((name for name in complete if name not in config), None):
            return f"has no {absent!r}"
        if idle := next((name for name in config if name not in complete), None):
            return f"has {idle!r}, which is not active there"
        other = (name for name in complete if not same(complete[name], config[name]))
        for name in other:
            return f"{name}: got {quoted(config[name])}, another kind"
        text = self.forbids(complete)
        return text and f"is forbidden: {text}"

    def decode(self, point: Point) -> Config:
        """The configuration at a point of the unit cube, of shape (dimension,)."""
        x = point.tolist()
        values = {name: parameter.decode(x[block]) for name, parameter, block in self._blocks}
        return self._active(values) if self._conditions else values

    def encode(self, config: Config) -> Point:
        """A point that decodes to the configuration; inactive parameters stand at their default."""
        return np.array(
            [
                coordinate
                for name, parameter in self.parameters.items()
                for coordinate in parameter.encode(config.get(name, parameter.default))
            ]
        )  # (dimension,)

    def sample(self, generator: np.random.Generator) -> Config:
        """A configuration at a random point: uniform, or by the priors; again where forbidden.

        Raises UserError where a hundred thousand draws are all forbidden.
        """
        for _ in range(DRAWS):
            config = self._drawn(generator)
            if not self.forbidden or not self.forbids(config):
                return config
        raise UserError(f"search_space.{FORBID}: {DRAWS} draws in a row are forbidden")

    @cached_property
    def priors(self) -> tuple[str, ...]:
        """The names of the parameters that have a prior."""
        return tuple(n for n, p in self.parameters.items() if isinstance(p, Number) and p.prior)

    def _drawn(self, generator: np.random.Generator) -> Config:
        point = generator.random(self.dimension)
        for name, parameter, block in self._blocks if self.priors else ():
            if name in self.priors and isinstance(parameter, Number):
                point[block] = parameter.drawn(float(point[block][0]))
        return self.decode(point)

    def configspace(self) -> ConfigurationSpace:
        """The space without its constants and its `forbidden`, for engines that take a ConfigSpace.

        A choice's values and the steps of a number are their indices, because ConfigSpace makes one
        type of mixed values and knows no steps. A new one each time, because it holds a random
        generator; the import takes over a second. Raises ValueError, naming the parameter, for a
        range lost in ConfigSpace's 13 decimals.
        """
        import ConfigSpace as cs

        def hyperparameter(name: str, p: Number | Choice) -> Any:
            default = number_of(p, p.default)
            if (count := places(p)) is not None:
                return cs.UniformIntegerHyperparameter(name, 0, count - 1, default_value=default)
            if isinstance(p, Choice):
                indices = range(len(p.values))
                return cs.CategoricalHyperparameter(name, indices, default_value=default)
            if p.integer:
                return cs.UniformIntegerHyperparameter(
                    name, int(p.low), int(p.high), default_value=int(p.default), log=p.log
                )
            return cs.UniformFloatHyperparameter(
                name, p.low, p.high, default_value=p.default, log=p.log
            )

        searched = {n: p for n, p in self.parameters.items() if not isinstance(p, Constant)}
        result = cs.ConfigurationSpace()
        result.add(*(hyperparameter(name, p) for name, p in searched.items()))
        for name, p in searched.items():
            parts = []
            for parent, values in p.when.items():
                if (other := searched.get(parent)) is None:
                    continue  # a condition on a constant always holds
                wanted = [number_of(other, value) for value in values]
                parts.append(cs.InCondition(result[name], result[parent], wanted))
            if parts:
                result.add(parts[0] if len(parts) == 1 else cs.AndConjunction(*parts))
        return result
