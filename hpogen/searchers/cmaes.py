"""CMA-ES on the package `cma`, restarted with twice the population (IPOP) when it has converged."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le, doc

from hpogen.errors import Refusal
from hpogen.searchers.generations import REDRAWS, Asynchronous, Generations, Population
from hpogen.space import Point, Space
from hpogen.space.parameters import Choice, Constant, Number, places
from hpogen.trial import Config


class CmaesSearcher:
    """CMA-ES in the unit cube, from the default configuration; restarts begin at random points.

    A number with a prior begins at its center, with its width; a restart heeds no prior.

    `population` defaults to cma's 4 + ⌊3 ln d⌋, `sigma` is the first standard deviation in the
    unit cube. Numbers are rounded outside the engine; a choice is the largest of its coordinates.
    `asynchronous` draws points of the next generation from the present distribution, all but two.
    """

    enqueues_default, ranks_only, multi_fidelity = True, True, False
    honours = frozenset({"forbid", "prior"})
    imports: ClassVar[Sequence[str]] = ("cma",)
    size = math.inf

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        population: Annotated[
            Population | None, doc("proposals of a generation; left out: 4 + ⌊3 ln dimension⌋")
        ] = None,
        sigma: Annotated[
            float, Ge(1e-9), Le(100), doc("first step size, in widths of the unit cube")
        ] = 0.25,
        asynchronous: Asynchronous = False,
    ) -> None:
        if space.dimension < 2:
            name = next(name for name, p in space.parameters.items() if p.width)
            raise Refusal(f"cmaes: {name!r} is the only parameter, and cma needs two dimensions")
        engine = Ipop(space, seed, population or 4 + int(3 * math.log(space.dimension)), sigma)
        generations = Generations(space, budgets[-1], enqueue, engine, asynchronous)
        self.ask, self.tell = generations.ask, generations.tell
        self.tell_pruned = generations.tell_pruned


class Ipop:
    """CMA-ES with restarts: Auger and Hansen, CEC 2005, doubling the population at each."""

    def __init__(self, space: Space, seed: int, population: int, sigma: float) -> None:
        self._generator = np.random.RandomState(seed % 2**32)
        self._population = population
        self._sigma = sigma
        self._minimal_deviation = _minimal_deviation(space)  # (dimension,)
        self._mean, self._deviations = _start(space, sigma)  # (dimension,)
        self._early: list[Point] = []  # what is drawn already of the next generation
        self._foreign = 0  # how many of these are from before a restart, which learns not from them

    @functools.cached_property
    def _strategy(self) -> Any:
        """The engine, begun when it is first asked: the import takes seconds of processor time."""
        import cma

        options = {
            "bounds": [0, 1],
            "popsize": self._population,
            "minstd": self._minimal_deviation,
            "randn": self._generator.randn,  # every draw is private,
            "seed": math.nan,  # and the global generator is left alone
            "signals_filename": None,  # reads no file
            "verb_log": 0,  # writes none
            "verbose": -9,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cma 4.5 warns of its own default for signals_filename
            if self._deviations is not None:
                options["CMA_stds"] = self._deviations / self._sigma
            return cma.CMAEvolutionStrategy(self._mean, self._sigma, options)

    def ask(self) -> Sequence[Point]:
        early, self._early = self._early, []
        own = self._population if self._foreign else self._population - len(early)
        return [*early, *self._strategy.ask(own)]

    def another(self) -> Point:
        """A further draw from the same distribution."""
        point: Point = self._strategy.ask(1)[0]
        return point

    def early(
        self,
        points: Sequence[Point],
        scores: Mapping[int, float],
        allowed: Callable[[Point], bool],
    ) -> tuple[int, Point] | None:
        """A draw from the distribution that this generation was drawn from.

        Two are left for when it has learnt: cma puts a direction of its own among these.
        """
        before = self._generator.get_state()
        for _ in range(REDRAWS if len(self._early) < self._population - 2 else 0):
            point = self.another()
            if allowed(point):
                self._early.append(point)
                return len(self._early) - 1, point
        self._generator.set_state(before)
        return None

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        self._strategy.tell([*points[self._foreign :]], [*scores[self._foreign :]])
        self._foreign = 0
        if self._strategy.stop():
            self._foreign = len(self._early)
            self._population *= 2
            self._mean = self._generator.uniform(size=len(points[0]))
            self._deviations = None
            del self._strategy


def _start(space: Space, sigma: float) -> tuple[Point, Point | None]:
    """The first mean (dimension,), and the deviations (dimension,) where a parameter has a prior.

    A deviation is not more than that of uniform draws, 1/√12 of the unit cube.
    """
    if not space.priors:
        return space.encode(space.default), None
    mean: list[float] = []
    deviations: list[float] = []
    for parameter in space.parameters.values():
        if isinstance(parameter, Number) and parameter.normal is not None:
            mean.append(parameter.normal.mean)
            deviations.append(min(parameter.normal.stdev, 12**-0.5))
        else:
            mean += parameter.encode(parameter.default)
            deviations += [sigma] * parameter.width
    return np.array(mean), np.array(deviations)


def _minimal_deviation(space: Space) -> Point:
    """A lower bound of each coordinate's deviation, shape (dimension,): none for floats.

    What is rounded would stand still below it: a fifth of an integer's or a step's share of its
    coordinate (as in Marty et al., PPSN 2024), 0.1 for the coordinates of a choice.
    """
    bound: list[float] = []
    for parameter in space.parameters.values():
        count = None if isinstance(parameter, Constant) else places(parameter)
        if count is not None:
            bound.append(0.2 / count)
        elif isinstance(parameter, Number) and parameter.integer:
            (last,), (previous,) = map(parameter.encode, (parameter.high, parameter.high - 1))
            bound.append(0.2 * (last - previous))
        else:
            bound += [0.1 if isinstance(parameter, Choice) else 0.0] * parameter.width
    return np.array(bound)
