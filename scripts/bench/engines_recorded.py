"""The recorded trainings on which `engines.py` compares searchers: complete grids, with curves."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpogen.space import Space
from hpogen.space.parameters import Number
from hpogen.trial import Config, canonical

EPOCHS = 9  # of a full training
DRAWN = """
import numpy as np
from hpogen.plugins import dataset
from hpogen.training.data import Data, Samples

@dataset("drawn")
def drawn(root):
    random = np.random.default_rng(1)
    centres, x = random.normal(size=(12, 16)), random.normal(size=(2500, 16))
    y = ((x[:, None] - 1.2 * centres) ** 2).sum(2).argmin(1) // 2
    y = np.where(random.random(2500) < 0.1, random.integers(0, 6, 2500), y)
    halves = np.split(np.arange(2500), [2000])
    train, test = (Samples(x[i].astype(np.float32), y[i]) for i in halves)
    return Data(train, test, "classes", 6, "drawn")
"""
LR = {"float": [1e-4, 1.0], "log": True, "default": 0.01}
MOMENTUM = {"float": [0.0, 0.99], "default": 0.6}
BATCH = {"int": [16, 256], "log": True, "default": 64}
NUMBERS = {
    "lr": LR,
    "momentum": MOMENTUM,
    "batch_size": BATCH,
    "weight_decay": {"float": [1e-6, 0.1], "log": True, "default": 1e-4},
}
MIXED = {
    "optimizer": {"choice": ["sgd", "adam", "adamw"]},
    "lr": LR,
    "width": {"int": [8, 128], "log": True, "default": 32},
    "depth": {"int": [1, 3], "default": 1},
    "batch_size": BATCH,
}
CONDITIONAL = {
    "optimizer": {"choice": ["sgd", "adam"]},
    "lr": LR,
    "momentum": {**MOMENTUM, "when": {"optimizer": "sgd"}},
    "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
    "clip": {"float": [0.1, 10.0], "log": True, "default": 1.0, "when": {"optimizer": "adam"}},
    "depth": {"int": [1, 3], "default": 1},
    "width": {"int": [8, 128], "log": True, "default": 32, "when": {"depth": [2, 3]}},
}


@dataclass(frozen=True)
class Recorded:
    """Which trainings a table has."""

    dataset: str
    space: Mapping[str, Any]
    points: Mapping[str, int]


TABLES = {
    "numbers": Recorded(
        "digits", NUMBERS, {"lr": 13, "momentum": 4, "batch_size": 3, "weight_decay": 3}
    ),
    "mixed": Recorded("drawn", MIXED, {"lr": 9, "width": 3, "depth": 3, "batch_size": 3}),
    "conditional": Recorded(
        "digits", CONDITIONAL, {"lr": 9, "momentum": 4, "clip": 3, "depth": 3, "width": 3}
    ),
    "drawn": Recorded(
        "drawn", NUMBERS, {"lr": 13, "momentum": 4, "batch_size": 3, "weight_decay": 3}
    ),
}


def record(home: Path) -> None:
    """Train the tables; what was interrupted goes on."""
    import hpogen

    home.mkdir(parents=True, exist_ok=True)
    (home / "drawn.py").write_text(DRAWN)
    for name, table in TABLES.items():
        images = table.dataset == "digits"
        split = {"subset": 0.4, "validation": 600, "audit": 0}
        keys = {
            "name": name,
            "task": {
                "name": "supervised",
                "dataset": {"name": table.dataset, **split},
                "model": {"name": "mlp"},
                "epochs": EPOCHS,
            },
            "search_space": dict(table.space),
            "searcher": {"name": "grid", "points": dict(table.points)},
            "objective": "val",
            "checkpoints": {"keep": "none"},
            "plugins": [] if images else [str(home / "drawn.py")],
            "stop": {"trials": 10_000},
        }
        opened = hpogen.open_study(hpogen.StudySpec.from_record(keys), home / name)
        end, trainings = hpogen.run(opened).end, len(opened.history.records)
        opened.close()
        print(f"{name}: {end}, {trainings} trainings", flush=True)
        if end != "finished":
            raise SystemExit(1)


class Table:
    """Losses of any configuration after each epoch, by the recorded ones around it.

    The logarithm of the loss is linear, in each number as the space has it on [0, 1], between two
    recorded values. It is infinite where one of the trainings that it is taken from failed.
    """

    def __init__(self, name: str, home: Path) -> None:
        from hpogen.record.folder import read_curve
        from hpogen.study.read import read

        self.space = Space.parse(dict(TABLES[name].space))
        study = read(home / name)
        curves: dict[str, list[float]] = {}
        values: dict[str, set[Any]] = {}
        for record in study.history.records:
            config = dict(record.trial.config)
            rows = read_curve(study.directory, record.trial.id, study.history.id)
            losses = [row["metrics"].get("val_loss", math.inf) for row in rows]
            losses = [loss if math.isfinite(loss) else math.inf for loss in losses]
            curves[canonical(config)] = losses + [math.inf] * (EPOCHS - len(losses))
            for key, value in config.items():
                values.setdefault(key, set()).add(value)
        self._logarithms = {config: np.log(curve) for config, curve in curves.items()}  # (EPOCHS,)
        numbers = {key for key, p in self.space.parameters.items() if isinstance(p, Number)}
        self._recorded = {key: sorted(values[key]) for key in numbers & values.keys()}
        self._finals = np.array([curve[-1] for curve in curves.values()])

    def losses(self, config: Config, epochs: int) -> Sequence[float]:
        """After each of the first epochs."""
        ends = {key: self._around(key, value) for key, value in config.items()}
        logarithm = np.zeros(epochs)
        for corner in itertools.product(*ends.values()):
            if (weight := math.prod(share for _, share in corner)) > 0:
                at = dict(zip(ends, (value for value, _ in corner), strict=True))
                logarithm += weight * self._logarithms[canonical(at)][:epochs]
        return [*map(float, np.exp(logarithm))]

    def _around(self, key: str, value: Any) -> Sequence[tuple[Any, float]]:
        """The recorded values beside one, and how near it is to each."""
        if key not in self._recorded:
            return [(value, 1.0)]
        recorded, parameter = self._recorded[key], self.space.parameters[key]
        above = min(max(bisect.bisect_left(recorded, value), 1), len(recorded) - 1)
        low, high = recorded[above - 1], recorded[above]
        at, left, right = (parameter.encode(v)[0] for v in (value, low, high))
        share = min(max((at - left) / (right - left), 0.0), 1.0)
        return [(low, 1 - share), (high, share)]

    def share_above(self, loss: float) -> float:
        """Share of the configurations that are better than this after all epochs."""
        return float(np.mean(self._finals < loss))
