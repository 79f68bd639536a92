"""How often a race declares a false winner, and how many runs it saves.

    .venv/bin/python scripts/bench/race.py [--simulations 1000]

Losses are log-normal: a sample's difficulty, what a configuration makes of it, and what a run does;
a run's seed multiplies all of its losses. First, finalists that are equal: any winner is false.
Then finalists that differ, each by as much from the next: the power (how often the best one wins)
and the runs of a race of 10 seeds, beside the fixed design of equal power, in which all finalists
have equally many seeds and one look is taken, at the end.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hpogen.selection.race import ALPHA, FEWEST, RaceStanding, least, look, race

SEEDS = 10
SIGMA = 1.5  # of the logarithm of a loss: the largest of 1,000 is about 100 times the median
NOISE = 0.2  # the share of a run in that variance


@dataclass(frozen=True)
class Field:
    """Finalists: their true mean losses, how unlike they are, how much a seed changes each.

    `unlike` is the share of the configuration in the variance of a loss's logarithm: with 0 they
    are one configuration under several names. `spread` is the standard deviation of the logarithm
    of what a seed multiplies losses by.
    """

    means: tuple[float, ...]
    spread: tuple[float, ...]
    unlike: float
    samples: int

    def losses(self, generator: np.random.Generator, seeds: int) -> NDArray[np.float32]:
        """(F, seeds, N)"""
        count, n = len(self.means), self.samples
        draw = partial(generator.standard_normal, dtype=np.float32)
        exponent = math.sqrt(1 - NOISE - self.unlike) * draw(n)
        exponent = exponent + math.sqrt(self.unlike) * draw((count, 1, n))
        exponent = exponent + math.sqrt(NOISE) * draw((count, seeds, n))
        spread = np.array(self.spread, np.float32)[:, None, None]
        factor = np.exp(spread * draw((count, seeds, 1)) - spread**2 / 2)
        mean_of_one = np.exp(SIGMA * exponent - SIGMA**2 / 2)
        found: NDArray[np.float32] = (
            np.array(self.means, np.float32)[:, None, None] * factor * mean_of_one
        )
        return found


def runs_of(standing: RaceStanding, seeds: int) -> int:
    """The runs after which a race stood as it does."""
    ended = [gap.seeds for gap in (standing.behind or standing.out).values() if gap]
    lasted = max(ended, default=seeds)
    return sum(gap.seeds for gap in standing.out.values() if gap) + lasted * len(standing.left)


def fixed_wins(losses: NDArray[np.float32], seeds: int) -> int | None:
    """The winner of one look, after so many runs of each."""
    runs = {i: own[:seeds] for i, own in enumerate(losses)}
    seen = look(runs, [*runs], lambda left: ALPHA / left)
    return least(runs, [*runs]) if all(gap.low > 0 for gap in seen.values()) else None


SPREADS = {
    "alike": lambda count: (0.05,) * count,
    "one unstable": lambda count: (0.15,) + (0.03,) * (count - 1),
    "all unlike": lambda count: tuple(np.geomspace(0.03, 0.15, count)),
}


def false_winners(field: Field, simulations: int) -> float:
    """The share of races that have one."""
    generator = np.random.default_rng(0)
    found = [race(field.losses(generator, SEEDS), SEEDS) for _ in range(simulations)]
    return sum(standing.winner is not None for standing in found) / simulations


@dataclass(frozen=True)
class Saving:
    """How often the best wins, and the runs that takes: in a race, in a fixed design."""

    power: float
    wrong: float  # how often another wins
    runs: float
    fixed: float  # infinity: more than `SEEDS` of each

    @property
    def share(self) -> float:
        return self.runs / self.fixed


def saving(field: Field, simulations: int) -> Saving:
    generator = np.random.default_rng(1)
    drawn = [field.losses(generator, SEEDS) for _ in range(simulations)]
    stood = [race(losses, SEEDS) for losses in drawn]
    sizes = range(FEWEST, SEEDS + 1)
    powers = [np.mean([fixed_wins(losses, s) == 0 for losses in drawn]) for s in sizes]
    power = float(np.mean([standing.winner == 0 for standing in stood]))
    seeds = float(np.interp(power, np.maximum.accumulate(powers), sizes, right=math.inf))
    return Saving(
        power,
        float(np.mean([standing.winner not in (0, None) for standing in stood])),
        float(np.mean([runs_of(standing, SEEDS) for standing in stood])),
        seeds * len(field.means),
    )


FIELDS = {  # that differ: the best finalist's mean loss is 1
    "2, by 15 %": Field((1.0, 1.15), (0.05,) * 2, 0.0, 1000),
    "2, by 30 %": Field((1.0, 1.3), (0.05,) * 2, 0.05, 1000),
    "5, by 15 % each": Field((1.0, 1.15, 1.3, 1.45, 1.6), (0.05,) * 5, 0.0, 1000),
    "5, by 30 % each, 250": Field((1.0, 1.3, 1.6, 1.9, 2.2), (0.05,) * 5, 0.05, 250),
    "5, by 15 % each, unlike": Field(
        (1.0, 1.15, 1.3, 1.45, 1.6), SPREADS["all unlike"](5), 0.0, 1000
    ),
    "8, by 15 % each": Field(tuple(1 + 0.15 * i for i in range(8)), (0.05,) * 8, 0.0, 1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--samples", type=int, nargs="+", default=[50, 250, 1000])
    parser.add_argument("--finalists", type=int, nargs="+", default=[2, 3, 5, 8])
    given = parser.parse_args()
    begin = time.perf_counter()
    print(f"false winners of {given.simulations:,} races of equal finalists, in %")
    print(f"finalists  seeds         unlike {''.join(f'{n:>7}' for n in given.samples)} samples")
    for (count, (name, spreads)), unlike in product(
        product(given.finalists, SPREADS.items()), (0.0, 0.2)
    ):
        fields = [Field((1.0,) * count, spreads(count), unlike, n) for n in given.samples]
        rates = "".join(f"{100 * false_winners(f, given.simulations):7.1f}" for f in fields)
        print(f"{count:9}  {name:12} {unlike:7.1f} {rates}", flush=True)
    few = max(given.simulations // 2, 1)
    print(f"\npower and runs of {few:,} races of {SEEDS} seeds, beside one look of equal power")
    print("finalists                power  wrong   runs  fixed  share")
    for name, field in FIELDS.items():
        found = saving(field, few)
        figures = f"{found.power:5.2f} {found.wrong:6.3f} {found.runs:6.1f} {found.fixed:6.1f}"
        print(f"{name:24} {figures} {found.share:6.2f}", flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
