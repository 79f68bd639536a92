"""The score of the competition "Predicting generalization in deep learning" (PGDL, NeurIPS 2020).

A conditional mutual information: defined for complete factorial grids of hyper-parameters with one
model per cell, from study folders or from a table of published models.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from grids import Grid, factorial, grid_of
from numpy.typing import ArrayLike

from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import finished_trials
from hpogen.errors import Refusal, UserError, unknown
from hpogen.study.read import read

Pair = tuple[str, str]


@dataclass(frozen=True)
class TaskScore:
    """One task: the share of the gap's order that the measure tells, per pair, in [0, 1]."""

    task: str
    pairs: Mapping[Pair, float]

    @property
    def score(self) -> float:
        """The minimum over the pairs of hyper-parameters."""
        return min(self.pairs.values())


@dataclass(frozen=True)
class PgdlScore:
    """A measure's score over tasks. It is blind to the sign, so it never stands alone."""

    measure: str
    tasks: tuple[TaskScore, ...]

    @property
    def score(self) -> float:
        """100 × mean of the tasks' scores, in [0, 100]."""
        return 100 * float(np.mean([task.score for task in self.tasks]))


def pair_scores(grid: Grid, values: ArrayLike, gaps: ArrayLike) -> dict[Pair, float]:
    """I(V_m; V_g | both models' values of two hyper-parameters) / H(V_g | …), for every two.

    Over all ordered pairs (i, j) of models, i = j included: V_g = [gap_i > gap_j] and
    V_m = [value_i > value_j], a tie counting as −. A cell is the pairs that agree in both models'
    values of both hyper-parameters; information and entropy, in bits, are unweighted means over the
    cells. Raises Refusal where two hyper-parameters alone decide every V_g: nothing is left to tell
    then, as in any grid of less than three.
    """
    measured, gap = grid.arrange(values), grid.arrange(gaps)
    scores = {}
    for first, second in itertools.combinations(range(len(grid.names)), 2):
        names = (grid.names[first], grid.names[second])
        joint = _joint(*(_settings(array, first, second) for array in (measured, gap)))
        information, entropy = _information(joint)
        if entropy == 0:
            raise Refusal(
                f"the score is not defined: {names[0]} and {names[1]} alone decide the order of "
                "the gaps; it needs at least three hyper-parameters"
            )
        scores[names] = information / entropy
    if not scores:
        raise Refusal(
            f"the score needs at least three hyper-parameters, got {', '.join(grid.names)}"
        )
    return scores


def _settings(array: Array, first: int, second: int) -> Array:
    """(S, K): a row per setting of two axes, with the K models that have it."""
    front = np.moveaxis(array, (first, second), (0, 1))
    return front.reshape(front.shape[0] * front.shape[1], -1)


def _joint(measured: Array, gap: Array) -> Array:
    """P(V_m, V_g) in each of the S² cells, (S, S, 2, 2), from models (S, K)."""
    above = [a[:, None, :, None] > a[None, :, None, :] for a in (measured, gap)]  # (S, S, K, K)
    sides = [[(above[0] == m) & (above[1] == g) for g in (False, True)] for m in (False, True)]
    counts = np.array([[side.mean((2, 3)) for side in row] for row in sides])  # (2, 2, S, S)
    return np.moveaxis(counts, (0, 1), (2, 3))


def _information(joint: Array) -> tuple[float, float]:
    """The means over the cells of I(V_m; V_g) and of H(V_g), in bits."""
    of_measure, of_gap = joint.sum(3), joint.sum(2)
    entropies = [_entropy(p.reshape(*p.shape[:2], -1)) for p in (of_measure, of_gap, joint)]
    information = np.maximum(entropies[0] + entropies[1] - entropies[2], 0)
    return float(information.mean()), float(entropies[1].mean())


def _entropy(p: Array) -> Array:
    """−Σ p log2 p over the last axis."""
    entropy: Array = -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)
    return entropy


def score_studies(
    directories: Sequence[Path], measures: Sequence[str], target: str = "audit_gap_error"
) -> tuple[PgdlScore, ...]:
    """The score of each measure; every study is a task.

    Raises Refusal, naming study and combinations, unless the trials of each fill a grid.
    """
    tasks: dict[str, list[TaskScore]] = {name: [] for name in measures}
    for directory in directories:
        trials = finished_trials(read(directory))
        grid = grid_of(trials)
        for name in measures:
            pairs = _of_task(trials.study, grid, trials.measure(name), trials.target(target))
            tasks[name].append(pairs)
    return tuple(PgdlScore(name, tuple(scores)) for name, scores in tasks.items())


def score_table(
    table: pd.DataFrame | Path,
    measures: Sequence[str],
    hyperparameters: Sequence[str],
    gap: str = "gap",
    task: str | None = None,
) -> tuple[PgdlScore, ...]:
    """The score of each measure on published models: a row each, in a table or a CSV file.

    The arguments name its columns; `task` tells the tasks apart, by default all rows are one. Every
    hyper-parameter named counts, also one that does not vary. Raises UserError for a column that is
    not there and Refusal unless the rows of each task fill a grid.
    """
    rows = pd.read_csv(table) if isinstance(table, Path) else table
    for column in (*measures, *hyperparameters, gap, *([task] if task else [])):
        if column not in rows.columns:
            raise UserError(unknown("column", column, map(str, rows.columns)))
    parts = {"all rows": rows} if task is None else {f"{k}": v for k, v in rows.groupby(task)}
    grids = {}
    for name, part in parts.items():
        cells = part[[*hyperparameters]].itertuples(index=False, name=None)
        configs = [dict(zip(hyperparameters, cell, strict=True)) for cell in cells]
        grids[name] = factorial(configs, hyperparameters, name)
    return tuple(
        PgdlScore(
            measure,
            tuple(
                _of_task(name, grids[name], part[measure], part[gap])
                for name, part in parts.items()
            ),
        )
        for measure in measures
    )


def _of_task(task: str, grid: Grid, values: ArrayLike, gaps: ArrayLike) -> TaskScore:
    try:
        return TaskScore(task, pair_scores(grid, values, gaps))
    except Refusal as refusal:
        raise Refusal(f"{task}: {refusal}") from None
