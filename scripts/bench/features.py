"""What each thing that a training step may do costs: an epoch with it over one without.

    .venv/bin/python scripts/bench/features.py [--rounds 7] [--models lenet5 resnet20] [--clock cpu]
        [--images 2000] [--only ema]

Images are noise: their values change no time. An epoch is its training steps alone and, of `swa`,
the pass that renews batch normalisation's statistics. Rounds are A B B A, as those of
`measures_overhead.py`, which says what the columns are; the first row compares an epoch with itself
and tells how far a ratio may be trusted. `--clock cpu` counts the process's own time, for a machine
that others use as well.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from measures_overhead import CLOCKS, noise, rounds

from hpogen import plugins
from hpogen.training.averaging import settle
from hpogen.training.graphs import Tape
from hpogen.training.recipe import begin
from hpogen.training.step import Steps
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial

SHAPES = {"lenet5": (1, 28, 28), "resnet20": (3, 32, 32)}  # (C, H, W)
SHARE = {"lenet5": 1.0, "resnet20": 0.2}  # of the images
FEATURES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {  # task, configuration
    "control: nothing": ({}, {}),
    "clip: 1.0": ({}, {"clip": 1.0}),
    "warmup: {steps: 20}": ({"schedule": {"warmup": {"steps": 20}}}, {}),
    "class_weights: balanced": ({"class_weights": "balanced"}, {}),
    "average: ema": ({}, {"average": "ema"}),
    "average: swa": ({}, {"average": "swa", "swa_start": 0.0}),
    "optimizer: sam": ({}, {"optimizer": "sam"}),
    "mixup: 0.2": ({}, {"mixup": 0.2}),
    "cutmix: 1.0": ({}, {"cutmix": 1.0}),
    "mixup and cutmix": ({}, {"mixup": 0.2, "cutmix": 1.0}),
    "transforms: RandomErasing": ({"dataset": {"transforms": ["RandomErasing"]}}, {}),
    "transforms: TrivialAugment": ({"dataset": {"transforms": ["TrivialAugmentWide"]}}, {}),
}


class Epochs:
    """A trial that runs one epoch of steps after the other."""

    def __init__(self, model: str, feature: str, given: argparse.Namespace, home: Path) -> None:
        task, config = FEATURES[feature]
        count = int(given.images * SHARE[model])
        dataset: dict[str, Any] = {
            "name": "noise",
            "count": 2 * count,
            "shape": list(SHAPES[model]),
        }
        dataset |= {"subset": 0.5, "validation": count, "audit": 0, **task.get("dataset", {})}
        mapping = {**task, "dataset": dataset, "model": model, "epochs": 10**6}
        settings = ImageClassification.model_validate(mapping)
        trial = RunningTrial(
            {"lr": 1e-3, "batch_size": 100, **config},
            10**6,
            id=0,
            seed=0,
            start_epoch=0,
            home=home,
            device=given.device,
        )
        self._clock = CLOCKS[given.clock]
        self._recipe, self._state = begin(settings, trial, frozenset())
        on_cpu = self._recipe.device.type == "cpu"
        self._steps = Steps(
            self._recipe, self._state, None if on_cpu else Tape(self._recipe.device)
        )

    def seconds(self) -> float:
        """The time of one more epoch."""
        begin_at = self._clock()
        for _ in self._steps.epoch():
            pass
        for _ in settle(self._recipe, self._state):
            pass
        if self._recipe.device.type == "cuda":
            torch.cuda.synchronize()
        taken = self._clock() - begin_at
        self._state.finish_epoch({})
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="features whose name has this in it")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    given = parser.parse_args()
    plugins.datasets.add("noise", noise)
    torch.set_num_threads(1)
    versions = f"Python {platform.python_version()}, torch {version('torch')}"
    where = f"{given.device}, {os.cpu_count()} cores, 1 thread, {given.clock} clock"
    print(f"{versions}; {where}, load {os.getloadavg()[0]:.1f} before; {given.rounds} rounds")
    for model in given.models:
        images = int(given.images * SHARE[model])
        print(f"\n{model}, {images:,} images, batch 100")
        print(f"  {'with / without':<26}{'without, s':>12}{'least':>8}{'median':>8}   interval")
        for feature in FEATURES:
            if given.only in feature:
                print(_row(model, feature, given), flush=True)


def _row(model: str, feature: str, given: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as home:
        plain, other = (
            Epochs(model, name, given, Path(home)) for name in ("control: nothing", feature)
        )
        least, median, low, high, seconds = rounds(plain.seconds, other.seconds, given.rounds)
    return f"  {feature:<26}{seconds:>12.3f}{least:>8.3f}{median:>8.3f}   [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
