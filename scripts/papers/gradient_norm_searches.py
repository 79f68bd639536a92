"""What the gradient-norm paper's searches share: small data, a matrix run, its nets.

`gradient_norm_tables.py` and `gradient_norm_figure4.py` run their matrices through this, by what
`hpogen run` and `hpogen retrain` do; `gradient_norm_table3.py` takes the small data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Run
from numpy.typing import NDArray

from hpogen.cli.drive import drive, retrain
from hpogen.errors import UserError
from hpogen.spec import load_studies
from hpogen.spec.positions import read
from hpogen.study.retrained import Retrained, results

TRAIN, TEST = 2_000, 2_000  # images of the small scale
SIDE = 14  # pixels there

# The stand-in for a ResNet: BatchNorm, and about as many parameters per training image as ResNet-20
# has on CIFAR-10 (5.2, 5.4).
NET = {"name": "nin", "width": 20, "blocks": 3, "batch_norm": True, "label": "nin-3"}
SMALL = (  # a quarter of the paper's batches, on a twenty-fifth of its images
    "search_space.batch_size={int: [8, 250], log: true, default: 25}",
    "baselines.default.batch_size=32",
)
TINY = {"name": "nin", "width": 4, "blocks": 1, "batch_norm": True, "label": "nin-1"}


@dataclass(frozen=True)
class Found:
    """What a study of the matrix chose, and its retrained nets with those of the baselines."""

    label: str  # its folder's name
    answer: Retrained
    default: Retrained


def small_dataset(run: Run, name: str) -> dict[str, Any]:
    """`dataset:` for the small scale: 2,000 training and test images of 14×14, in an .npz file.

    They are spread evenly over the standard sets, and each pixel is the mean of 2×2.
    """
    from hpogen.training.data import load
    from hpogen.training.forms.dataset import Dataset

    data = load(Dataset(name=name))
    parts = {
        "x_train": _halved(data.train.inputs, TRAIN),
        "y_train": _spread(data.train.targets, TRAIN),
        "x_test": _halved(data.test.inputs, TEST),
        "y_test": _spread(data.test.targets, TEST),
    }
    path = (run.out / f"{name}-{SIDE}x{SIDE}.npz").absolute()
    np.savez_compressed(path, allow_pickle=False, **parts)
    return {"name": "numpy", "path": str(path), "label": name}


def _spread(rows: Any, count: int) -> NDArray[Any]:
    return np.asarray(rows[np.arange(count) * len(rows) // count])


def _halved(images: Any, count: int) -> NDArray[np.uint8]:
    """(count, C, H/2, W/2) of (N, C, H, W): means over 2×2 pixels."""
    chosen = _spread(images, count)
    n, c, h, w = chosen.shape
    means = chosen.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return np.asarray(means.round(), dtype=np.uint8)


def with_matrix(file: Path, changes: Mapping[str, Any]) -> str:
    """The `--set` that puts other lists of values into the file's matrix."""
    matrix = read(file).data["matrix"]
    return f"matrix={json.dumps({**matrix, **changes})}"


def searched(run: Run, file: Path, overrides: Sequence[str], seeds: int) -> list[Found]:
    """Run the matrix in a folder of its name in `out`, or go on with it, and retrain what it chose.

    Raises UserError when it was interrupted: the same command goes on.
    """
    found = load_studies(file, overrides)
    home = run.out / found.name
    place = run.where()
    _check(drive({home / spec.name: spec for spec in found.specs}, home, place, ""), home)
    _check(retrain(home, place, seeds), home)
    return [_found(home / spec.name) for spec in found.specs]


def _check(ends: Sequence[str], home: Path) -> None:
    if unfinished := [end for end in ends if end != "finished"]:
        raise UserError(f"{home}: {unfinished[0]}: the same command goes on with it")


def _found(study: Path) -> Found:
    retrained = results(study)
    answer = next(one for one in retrained if one.choice.is_answer)
    default = next(one for one in retrained if "default" in one.choice.baselines)
    return Found(study.name, answer, default)
