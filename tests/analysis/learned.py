"""Studies in which a measure that is planted tells the audit error, for the tests of learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from analysis.searches import Made, search

from hpogen.spec.learned import (
    FORMAT,
    TRANSFORMATION,
    VERSION,
    Association,
    Figure,
    LearnedObjective,
    LeftOut,
    Linear,
    write_learned,
)
from hpogen.study.read import Folder, read_all

LABELS = 400


def trials(seed: Sequence[int], sign: int = 1, n: int = 24, noise: float = 3.0) -> list[Made]:
    """The audit error rises (`sign` 1) or falls with `agn`; `kappa` and `zeta` are noise.

    `noise` is that of the validation loss.
    """
    generator = np.random.default_rng([*seed])
    quality = generator.normal(size=n)
    other = generator.normal(size=(6, n))
    return [
        Made(
            val_loss=float(q + noise * e[0]),
            audit=float(0.7 - 0.05 * q),
            metrics={
                "agn": float(np.exp(sign * q + 0.2 * e[1])),
                "kappa": float(e[2]),
                "zeta": float(e[3]),
                "train_loss": float(abs(e[4])),
                "train_accuracy": float(0.9 + 0.01 * e[5]),
            },
        )
        for q, e in zip(quality, other.T, strict=True)
    ]


def task(number: int) -> dict[str, Any]:
    """Keys of a study of that task: they differ in the audit images."""
    return {"dataset": {"name": "digits", "validation": LABELS, "audit": 100 + number}}


def planted(
    home: Path, signs: Sequence[int] = (1, 1, 1), noise: float = 3.0, n: int = 24
) -> list[Folder]:
    """A study for each sign, each of a task of its own."""
    paths = [
        search(home / f"study-{i}", trials([7, i], sign, n, noise), task=task(i))
        for i, sign in enumerate(signs)
    ]
    return read_all(paths)


def ridge(path: Path, intercept: float = 0.25, **coefficients: float) -> Path:
    """The file of a ridge of these measures, better on two tasks left out than `LABELS` labels."""
    figure = Figure(correlation=0.5, error=0.1, regret=0.0)
    worse = figure.model_copy(update={"regret": 0.1})
    own = {"studies": 1, "trials": 24, "best": 0.1, "learned": figure, "told": 0.5}
    tasks = ("digits", "mnist")
    sign = Association(correlation=0.5, clear=True)
    found = LearnedObjective(
        format=FORMAT,
        version=VERSION,
        target="error",
        judged_by="audit error",
        transformation=TRANSFORMATION,
        measures=[*coefficients],
        model=Linear(kind="ridge", penalty=1.0, intercept=intercept, coefficients=coefficients),
        signs={name: dict.fromkeys(tasks, sign) for name in coefficients},
        left_out=[LeftOut(task=t, others={}, validation={LABELS: worse}, **own) for t in tasks],
        dropped={},
        studies=[],
    )
    write_learned(found, path)
    return path


def without(made: Sequence[Made], name: str) -> list[Made]:
    """The trials without one of their metrics."""

    def left(metrics: Mapping[str, float]) -> dict[str, float]:
        return {key: x for key, x in metrics.items() if key != name}

    return [Made(one.val_loss, one.audit, left(one.metrics)) for one in made]
