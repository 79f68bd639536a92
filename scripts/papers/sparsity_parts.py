"""What the scripts of the sparsity paper share: noise to try a study on, a trial's curves, a panel.

`sparsity_evolution.py`, `sparsity_gap.py` and `sparsity_imagenet.py` call it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from common import Run
from matplotlib.axes import Axes

from hpogen.measures import Ablation
from hpogen.record.folder import trial_stem

FITS = 0.97  # the training accuracy at which the authors' code stops
CLASSES, SIDE = 4, 17  # of the noise; 17 is the smallest image that VGG-16 takes


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


def ablation(directory: Path, trial: int) -> Ablation:
    """What the measure `zeta` has left beside a trial, of its last epoch (`Ablation.record`).

    Chance is that of as many classes as have images.
    """
    record = json.loads(trial_stem(directory, trial).with_suffix(".ablation.json").read_text())
    return Ablation(
        layer=record["layer"],
        classes=tuple(record["classes"]),
        samples=tuple(record["samples"]),
        chance=1 / len(record["classes"]),
        grid=tuple(record["removed"]),
        falling=torch.tensor(record["most_active_first"], dtype=torch.float64),
        rising=torch.tensor(record["least_active_first"], dtype=torch.float64),
        closed_form=record["closed_form"],
    )


def draw_curves(axes: Axes, of: Ablation, place: int, title: str) -> None:
    """A panel of Figure 2A: both curves of a class, the area between them, the turning points."""
    falling, rising = of.falling[place].tolist(), of.rising[place].tolist()
    first, last = of.turning_points[place].tolist()
    axes.fill_between(of.grid, falling, rising, color="0.88")
    axes.plot(of.grid, falling, color="tab:blue", label="E(n), most active first")
    axes.plot(of.grid, rising, color="tab:green", label="E_r(n), least active first")
    axes.axhline(of.chance, color="0.5", linestyle=":", linewidth=1, label="chance")
    marks = [falling[of.grid.index(first)], rising[of.grid.index(last)]]
    colors = ["tab:blue", "tab:green"]
    axes.scatter(
        [first, last], marks, c=colors, edgecolors="black", zorder=3, label="turning points"
    )
    axes.set(title=title, ylim=(-0.04, 1.08))
