"""How often the interval of a loss predicted for more data holds it, and the order is right.

    .venv/bin/python scripts/bench/extrapolation.py [--only simulated | real]

Stated before the first run with the seeds that are reported, from 200 on; prior and `FORM` were
chosen on another pool of real curves (seed 1, 40 configurations) and three curves of each family.
Sizes are 0.05, 0.1, 0.2 and 0.4 of the size that is predicted, 1; a prediction is held against one
training there that it has not seen.

Simulated: 40 times eight configurations, one seed per size, of each of five families: `power`, the
model's own; `exponential`, a + b·e^(−n/τ); `log power`, a + b / (1 + (n/m)^g); `plateau`, no fall
below a size, then a power law; `crossing`, half of them fall steeply to a low offset, half are good
early and stay.

Real: 30 random configurations of the paper's space, learning rates from 1e-3 on, of an MLP of
2 × 128 for 16 epochs with a cosine schedule; `digits` (the predicted size: 986 images) and `mnist`
(2,400), judged by 300 and 1,000 validation images; two seeds. Three ways to ask:

- `best`: the ten with the least loss at 0.4, one seed, as a search over data has them;
- `all`: the same of all 30, many of which have hardly learned;
- `pairs`: each two of the ten alone, both seeds, sizes 0.05, 0.1 and 0.2, as `retrain --at` asks.

Beside the coverage stand the interval's median width (in ln ℓ), the median |error| of ln ℓ, and the
same of naive ones: the last loss stays, and a line through the last two points of ln ℓ over ln n.
Of two configurations: the share of pairs whose order at the last size is that at 1 (naive), the
share in which the more probable one is the better, both mean squared errors (the naive order has
probability 1), and in bins of the stated probability how often the order held.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hpogen import run
from hpogen.analysis.extrapolation import Curve, extrapolate
from hpogen.spec import StudySpec
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.parts import space_of
from hpogen.spec.source import of_record
from hpogen.study.open import open_study
from hpogen.study.read import read
from hpogen.trial import Config, canonical

FIRST = 200  # seed
SIZES = np.array([0.05, 0.1, 0.2, 0.4, 1.0])
POOL, BEST, EPOCHS, SEEDS = 30, 10, 16, 2
TASKS = {"digits": (0.76, 300), "mnist": (0.04, 1000)}  # the predicted fraction, validation images
SPACE: Mapping[str, Any] = {
    "batch_size": {"int": [16, 256], "log": True, "default": 64},
    "lr": {"float": [1e-3, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [5e-7, 0.05], "log": True, "default": 5e-4},
}
Floats = NDArray[np.float64]
Random = np.random.Generator
Family = Callable[[Random, int], Floats]


@dataclass(frozen=True)
class Asked:
    """Curves, and of the configurations that are asked what one more training at 1 came to."""

    curves: Sequence[Curve]
    truths: Sequence[float]


def power(random: Random, count: int) -> Floats:
    """(count, sizes)."""
    g = np.exp(random.normal(np.log(0.6), 0.4, (count, 1)))
    return offset(random, count, SIZES**-g)


def exponential(random: Random, count: int) -> Floats:
    scale = np.exp(random.normal(np.log(0.25), 0.4, (count, 1)))
    return offset(random, count, np.exp(-SIZES / scale) / np.exp(-1 / scale))


def log_power(random: Random, count: int) -> Floats:
    middle = np.exp(random.normal(np.log(0.2), 0.5, (count, 1)))
    g = np.exp(random.normal(np.log(1.2), 0.3, (count, 1)))
    return offset(random, count, (1 + (1 / middle) ** g) / (1 + (SIZES / middle) ** g))


def plateau(random: Random, count: int) -> Floats:
    start = np.exp(random.uniform(np.log(0.05), np.log(0.3), (count, 1)))
    g = np.exp(random.normal(np.log(0.8), 0.3, (count, 1)))
    return offset(random, count, np.maximum(SIZES, start) ** -g)


def crossing(random: Random, count: int) -> Floats:
    steep = (np.arange(count) % 2 == 0)[:, None]
    share, g = np.where(steep, 0.05, 0.7), np.where(steep, 0.9, 0.6)
    size = np.where(steep, 0.3, 0.4) * np.exp(random.normal(0, 0.2, (count, 1)))
    found: Floats = size * (share + (1 - share) * SIZES**-g)
    return found


def offset(random: Random, count: int, falls: Floats) -> Floats:
    """Over an offset of some share of the loss at 1."""
    share = special.expit(random.normal(-1, 1, (count, 1)))
    size = np.exp(random.normal(-1, 0.5, (count, 1)))
    found: Floats = size * (share + (1 - share) * falls)
    return found


FAMILIES: Mapping[str, Family] = {
    "power": power,
    "exponential": exponential,
    "log power": log_power,
    "plateau": plateau,
    "crossing": crossing,
}


def simulated(family: Family, times: int) -> Iterator[Asked]:
    for seed in range(FIRST, FIRST + times):
        random = np.random.default_rng(seed)
        losses = family(random, 8)
        noise = np.exp(random.normal(np.log(0.05), 0.4, (8, 1)))
        losses = losses * np.exp(noise * random.standard_normal(losses.shape))
        yield Asked([Curve(SIZES[:-1], own[:-1]) for own in losses], losses[:, -1].tolist())


def trained(
    task: str, size: float, configs: Sequence[Config], runs: Path
) -> dict[str, list[float]]:
    """By configuration the validation loss of each seed that did not fail."""
    whole, validation = TASKS[task]
    subset = round(whole * size, 6)
    spec = StudySpec.from_record(
        {
            "name": f"{task} {size}",
            "task": {
                "dataset": {"name": task, "subset": subset, "validation": validation, "audit": 0},
                "model": {"name": "mlp", "width": 128, "depth": 2},
                "epochs": EPOCHS,
                "schedule": "cosine",
            },
            "search_space": dict(SPACE),
            "searcher": "listed",
            "enqueue": [dict(config) for config in configs],
            "checkpoints": {"keep": "none"},
            "stop": {"trials": len(configs) * SEEDS},
        }
    )
    directory = runs / f"{task}-{size}"
    with open_study(spec, directory) as study:
        run(study)
    found: dict[str, list[float]] = {}
    for record in read(directory).history.told():
        if record.outcome and not record.failure:
            own = found.setdefault(canonical(record.trial.config), [])
            own.append(record.outcome.metrics["val_loss"])
    return found


def real(task: str, runs: Path, pool: int) -> Floats:
    """(configurations, sizes, seeds), the best at 0.4 first; of those that failed nowhere."""
    space = space_of(SPACE, Mistakes(of_record({"search_space": dict(SPACE)})))
    assert space is not None
    random = np.random.default_rng(FIRST)
    configs = [space.sample(random) for _ in range(pool)]
    by_size = [trained(task, float(size), configs, runs) for size in SIZES]
    keys = [canonical(config) for config in configs]
    whole = [[found.get(key, []) for found in by_size] for key in keys]
    losses = np.array([own for own in whole if all(len(seeds) == SEEDS for seeds in own)])
    return losses[np.argsort(losses[:, -2, 0])]


def as_searched(losses: Floats) -> Asked:
    """The curves of the first seed; the truth is of the other one."""
    curves = [Curve(SIZES[:-1], own[:-1, 0]) for own in losses]
    return Asked(curves, losses[:, -1, 1].tolist())


def as_retrained(losses: Floats) -> Iterator[Asked]:
    sizes = np.repeat(SIZES[:3], SEEDS)
    for pair in combinations(losses, 2):
        curves = [Curve(sizes, own[:3].ravel()) for own in pair]
        yield Asked(curves, [float(own[-1, 1]) for own in pair])


def line(curve: Curve) -> float:
    """The prediction of a line through the last two sizes, of the logarithms of both."""
    sizes, n = np.unique(curve.sizes), np.asarray(curve.sizes)
    last, before = (float(np.log(np.asarray(curve.losses)[n == s]).mean()) for s in sizes[:-3:-1])
    slope = (last - before) / np.log(sizes[-1] / sizes[-2])
    return last - slope * float(np.log(sizes[-1]))


def flat(curve: Curve) -> float:
    n = np.asarray(curve.sizes)
    return float(np.log(np.asarray(curve.losses)[n == n.max()]).mean())


def report(name: str, asked: Sequence[Asked], orders: bool = True) -> None:
    held, widths, errors, pairs = [], [], [], []
    for one in asked:
        found = extrapolate(one.curves, 1.0, len(one.curves)).predictions
        for curve, guess, truth in zip(one.curves, found, one.truths, strict=True):
            low, high = guess.interval.low, guess.interval.high
            held.append(low <= truth <= high)
            widths.append(np.log(high / low))
            errors.append(np.abs(np.log(truth) - [np.log(guess.loss), flat(curve), line(curve)]))
        pairs += [*ordered(one)] if orders else []
    own, stays, goes = np.median(errors, axis=0)
    print(
        f"{name:14} n {len(held):4}: held {100 * np.mean(held):5.1f} %, width "
        f"{np.median(widths):.2f}, |error| {own:.2f} (last loss {stays:.2f}, line {goes:.2f})",
        flush=True,
    )
    if pairs:
        told(np.array(pairs))


def ordered(one: Asked) -> Iterator[tuple[float, float]]:
    """Of each pair, the better one at its last size first: the probability, and whether it held."""
    for i, j in combinations(range(len(one.curves)), 2):
        first, second = sorted((i, j), key=lambda k: flat(one.curves[k]))
        rest = [c for k, c in enumerate(one.curves) if k not in (i, j)]
        curves = [one.curves[first], one.curves[second], *rest]
        order = extrapolate(curves, 1.0).order
        assert order is not None
        yield order, float(one.truths[first] < one.truths[second])


def told(pairs: Floats) -> None:
    stated, held = pairs.T
    right = np.mean((stated > 0.5) == held)
    squared = [np.mean((x - held) ** 2) for x in (1, stated)]
    print(
        f"  order, {len(pairs)} pairs: naive right {100 * held.mean():.0f} %, ours "
        f"{100 * right:.0f} %; squared error naive {squared[0]:.3f}, ours {squared[1]:.3f}"
    )
    bins = np.clip((stated * 5).astype(int), 0, 4)
    for k in sorted({*bins.tolist()}):
        own = bins == k
        print(
            f"    stated {20 * k} to {20 * k + 20} %: held {100 * held[own].mean():.0f} % "
            f"(mean stated {100 * stated[own].mean():.0f} %, n {own.sum()})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["simulated", "real"])
    parser.add_argument("--times", type=int, default=40, help="of each family")
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--tasks", nargs="+", default=[*TASKS], choices=[*TASKS])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/extrapolation"))
    given = parser.parse_args()
    begin = time.process_time()
    for name, family in FAMILIES.items() if given.only != "real" else ():
        asked = [*simulated(family, given.times)]
        report(name, asked, orders=False)
        told(np.array([p for one in asked for p in ordered(Asked(one.curves[:2], one.truths[:2]))]))
    for task in given.tasks if given.only != "simulated" else ():
        losses = real(task, given.runs, given.pool)
        best = losses[:BEST]
        report(f"{task}, best", [as_searched(best)])
        report(f"{task}, all", [as_searched(losses)], orders=False)
        report(f"{task}, pairs", [*as_retrained(best)])
    print(f"\n{time.process_time() - begin:.0f} s of a core")


if __name__ == "__main__":
    main()
