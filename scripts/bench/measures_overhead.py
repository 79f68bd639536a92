"""What the measures cost beside training: ratios of hpogen's own epochs, interleaved A B B A.

    .venv/bin/python scripts/bench/measures_overhead.py [--rounds 7] [--models lenet5 resnet20]

Images are noise: their values change no time. Each round's ratio is paired; the table gives the
ratio of the least times and the interval of the paired ratios' median (95 %, bootstrap), beside
a control that compares an epoch with itself. A run whose control is more than 3 % from 1 says
nothing. Exits with 1 when an epoch runs more passes than it should; times decide nothing.
`--clock cpu` counts the process's own time: for one thread, on a machine that others use as well.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpogen import plugins
from hpogen.measures.catalog import MEASURES
from hpogen.training.data import ImageData
from hpogen.training.evaluate import evaluate_epoch
from hpogen.training.graphs import Tape
from hpogen.training.recipe import begin
from hpogen.training.step import Steps
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial

HEAD = tuple(metric for row in MEASURES.values() if row.of == "head" for metric in row.metrics)
STEP = tuple(metric for row in MEASURES.values() if row.of == "step" for metric in row.metrics)
IMAGES = {"lenet5": (10_000, (1, 28, 28)), "resnet20": (500, (3, 32, 32))}  # N, (C, H, W)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MEGAFLOPS = {"lenet5": (2.26, 0.83), "resnet20": (242.4, 81.1)}  # per image: training, forward


@dataclass(frozen=True)
class Arm:
    """An epoch: the metrics wanted, whether it trains, and the passes it may run beside that."""

    wanted: tuple[str, ...]
    passes: int
    trains: bool = True


@dataclass(frozen=True)
class Comparison:
    name: str
    a: Arm
    b: Arm
    goal: float | None = None


def comparisons(model: str) -> list[Comparison]:
    train, forward = MEGAFLOPS[model]
    bound = (train + 2 * forward) / (train + forward)
    plain, online = ("train_loss_online",), ("agn_online",)
    validation = Arm(("val_loss",), 1)
    agn = Arm(("agn",), 1, trains=False)
    return [
        Comparison("control: val / val", validation, validation),
        Comparison(
            "(train + val + agn) / (train + val)",
            validation,
            Arm(("val_loss", "agn"), 2),
            max(1.25, bound + 0.05),
        ),
        Comparison("agn+train / val", validation, Arm(("agn", "train_loss"), 1), 1.05),
        Comparison("agn_online / training", Arm(plain, 0), Arm(online, 0), 1.02),
        Comparison("all of the step / training", Arm(plain, 0), Arm(STEP, 0)),
        Comparison("control: agn's pass / itself", agn, agn),
        Comparison("head family / agn, passes alone", agn, Arm(HEAD, 1, trains=False), 1.05),
    ]


def noise(root: Path, *, count: int = 100, shape: tuple[int, int, int] = (1, 8, 8)) -> ImageData:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    return ImageData(images, labels, images[:10], labels[:10], 10, "noise")


class Epochs:
    """A trial that runs one epoch after the other and counts the images of its evaluations."""

    def __init__(self, model: str, arm: Arm, arguments: argparse.Namespace, home: Path) -> None:
        self._clock = CLOCKS[arguments.clock]
        count, shape = IMAGES[model]
        dataset: dict[str, Any] = {"name": "noise", "count": 2 * count, "shape": list(shape)}
        settings = ImageClassification.model_validate(
            {
                "dataset": dataset | {"subset": 0.5, "validation": count, "audit": 0},
                "model": model,
                "epochs": 10**6,
                "threads": arguments.threads,
            }
        )
        config = {"lr": 1e-3, "batch_size": 125}
        trial = RunningTrial(
            config, 10**6, id=0, seed=0, start_epoch=0, home=home, device=arguments.device
        )
        self._arm, self._images = arm, arm.passes * count
        self._recipe, self._state = begin(settings, trial, frozenset(arm.wanted))
        on_cpu = self._recipe.device.type == "cpu"
        tape = None if on_cpu else Tape(self._recipe.device)
        self._steps = Steps(self._recipe, self._state, tape)
        self._seen = 0
        self._state.model.register_forward_hook(self._count)

    def _count(self, model: torch.nn.Module, inputs: tuple[torch.Tensor], _: object) -> None:
        self._seen += 0 if model.training else len(inputs[0])

    def seconds(self) -> float:
        """The time of one more epoch. Exits when it ran other passes than it should."""
        self._seen = 0
        begin_at = self._clock()
        if self._arm.trains:
            for _ in self._steps.epoch():
                pass
        metrics = _driven(evaluate_epoch(self._recipe, self._state))
        if self._recipe.device.type == "cuda":
            torch.cuda.synchronize()
        taken = self._clock() - begin_at
        self._state.finish_epoch(metrics)
        if self._seen != self._images:
            sys.exit(f"wrong: {self._arm.wanted} evaluated {self._seen} images")
        return taken


def _driven(steps: Any) -> dict[str, float]:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return dict(stop.value)


def rounds(a: Callable[[], float], b: Callable[[], float], count: int) -> tuple[float, ...]:
    """Ratio of the least times, median of the paired ratios and its interval, of b over a."""
    a(), b()
    times = []
    for _ in range(count):
        first, second, third, fourth = a(), b(), b(), a()
        times.append((first + fourth, second + third, min(first, fourth), min(second, third)))
    pairs = np.array(times)
    ratios = pairs[:, 1] / pairs[:, 0]
    resampled = np.random.default_rng(0).choice(ratios, (2000, count))
    low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
    least = pairs[:, 3].min() / pairs[:, 2].min()
    return float(least), float(np.median(ratios)), float(low), float(high), pairs[:, 2].min()


def row(comparison: Comparison, numbers: Sequence[float]) -> str:
    least, median, low, high, seconds = numbers
    goal = "" if comparison.goal is None else f"≤ {comparison.goal:.2f}"
    passes = f"{comparison.a.passes}, {comparison.b.passes}"
    return (
        f"  {comparison.name:<36}{seconds:>9.3f}{least:>8.3f}{median:>8.3f}"
        f"   [{low:.3f}, {high:.3f}]{passes:>8}{goal:>8}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=list(IMAGES), choices=list(IMAGES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="comparisons whose name has this in it")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    arguments = parser.parse_args()
    plugins.datasets.add("noise", noise)
    torch.set_num_threads(arguments.threads)
    versions = f"Python {platform.python_version()}, torch {version('torch')}"
    where = f"{arguments.device}, {os.cpu_count()} cores, {arguments.threads} threads"
    where += f", {arguments.clock} clock"
    load = f"load {os.getloadavg()[0]:.1f} before"
    print(f"{versions}; {where}, {load}; {arguments.rounds} rounds of A B B A")
    for model in arguments.models:
        print(f"\n{model}, {IMAGES[model][0]:,} images to train on and as many to validate")
        print(f"  {'B / A':<36}{'A, s':>9}{'least':>8}{'median':>8}   interval{'passes':>16}")
        for comparison in comparisons(model):
            if arguments.only not in comparison.name:
                continue
            with tempfile.TemporaryDirectory() as home:
                arms = [
                    Epochs(model, arm, arguments, Path(home))
                    for arm in (comparison.a, comparison.b)
                ]
                numbers = rounds(arms[0].seconds, arms[1].seconds, arguments.rounds)
            print(row(comparison, numbers), flush=True)


if __name__ == "__main__":
    main()
