"""What the scripts of the sparsity paper share: a study that is run, noise to try it on, curves.

`sparsity_evolution.py`, `sparsity_gap.py` and `sparsity_imagenet.py` call it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import STUDIES, Run
from matplotlib.axes import Axes

import hpogen
from hpogen.errors import UserError
from hpogen.executors.base import Executor
from hpogen.folder import trial_stem
from hpogen.spec import load_study

CLASSES, SIDE = 4, 17  # of the noise; 17 is the smallest image that VGG-16 takes


@dataclass(frozen=True)
class Curves:
    """E(n) and E_r(n) of one class on its training images, with their turning points."""

    removed: Sequence[int]  # n, 0 … M
    falling: Sequence[float]  # E(n): the most active units first
    rising: Sequence[float]  # E_r(n): the least active units first
    chance: float

    @property
    def reaches_chance(self) -> bool:
        """Whether E(n) does: n0 is where it is lowest otherwise."""
        return min(self.falling) <= self.chance

    @property
    def turning_points(self) -> tuple[int, int]:
        """(n0, n0r): eq. 2 and 3 as `hpogen.measures.Ablation.zetas` takes them."""
        falling, rising = np.array(self.falling), np.array(self.rising)
        gone = falling <= self.chance
        first = int(gone.argmax() if gone.any() else falling.argmin())
        last = len(rising) - 1 - int(rising[::-1].argmax())
        return self.removed[first], self.removed[last]


def trained(run: Run, name: str, overrides: Sequence[str]) -> Path:
    """Run, or go on with, a study of `studies/papers/`; its folder. Raises UserError."""
    spec = load_study(STUDIES / f"{name}.yaml", overrides)
    directory = run.out / f"{run.name}-{run.scale}"
    with hpogen.open_study(spec, directory) as study:
        result = hpogen.run(study, executor(run))
    if result.end != "finished":
        raise UserError(f"{directory}: {result.end} after {result.trials} trials {result.text}")
    return directory


def executor(run: Run) -> Executor:
    """One trial per CPU or GPU of this machine; in this process for `tiny`."""
    if run.scale == "tiny":
        return hpogen.InlineExecutor(run.device)
    if run.device == "cpu":
        return hpogen.RayExecutor(os.cpu_count(), gpus_per_trial=0)
    return hpogen.RayExecutor(gpus_per_trial=1)


def noise(run: Run, images: int) -> str:
    """An override: images of noise in four classes, as many again to test on. For `tiny`."""
    generator = np.random.default_rng(0)
    path = run.out / "noise.npz"
    np.savez(
        path,
        x_train=generator.integers(256, size=(images, SIDE, SIDE), dtype=np.uint8),
        y_train=np.arange(images) % CLASSES,
        x_test=generator.integers(256, size=(images, SIDE, SIDE), dtype=np.uint8),
        y_test=np.arange(images) % CLASSES,
    )
    where = json.dumps(str(path.absolute()))
    return f"task.dataset={{name: numpy, path: {where}, subset: 1.0, validation: 0, audit: test}}"


def ablation(directory: Path, trial: int) -> Mapping[str, Any]:
    """What the measure `zeta` has left beside a trial (`Ablation.record`)."""
    path = trial_stem(directory, trial).with_suffix(".ablation.json")
    record: Mapping[str, Any] = json.loads(path.read_text())
    return record


def curves(record: Mapping[str, Any], place: int) -> Curves:
    """Of the class that stands at `place` in the record."""
    return Curves(
        record["removed"],
        record["most_active_first"][place],
        record["least_active_first"][place],
        1 / len(record["classes"]),
    )


def draw_curves(axes: Axes, of: Curves, title: str) -> None:
    """A panel of Figure 2A: both curves, the area between them, the turning points."""
    first, last = of.turning_points
    axes.fill_between(of.removed, of.falling, of.rising, color="0.88")
    axes.plot(of.removed, of.falling, color="tab:blue", label="E(n), most active first")
    axes.plot(of.removed, of.rising, color="tab:green", label="E_r(n), least active first")
    axes.axhline(of.chance, color="0.5", linestyle=":", linewidth=1, label="chance")
    marks = [of.falling[of.removed.index(first)], of.rising[of.removed.index(last)]]
    colors = ["tab:blue", "tab:green"]
    axes.scatter(
        [first, last], marks, c=colors, edgecolors="black", zorder=3, label="turning points"
    )
    axes.set(title=title, ylim=(-0.04, 1.08))
