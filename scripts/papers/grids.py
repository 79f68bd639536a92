"""Complete factorial grids of hyper-parameters, which some scores need, and the granulated Ψ.

`pgdl.py` arranges its models with the same `Grid`, so that both refuse the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import FinishedTrials, finished_trials
from hpogen.errors import Refusal
from hpogen.study.read import read
from hpogen.trial import Config, Value

SHOWN = 3  # cells that an error names


@dataclass(frozen=True)
class Grid:
    """Every combination of the hyper-parameters' values, with one model each."""

    values: Mapping[str, tuple[Value, ...]]  # by hyper-parameter
    order: tuple[int, ...]  # which model stands in each cell, the last name varying fastest

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def arrange(self, numbers: ArrayLike) -> Array:
        """One number per model (n,) as an array with one axis per hyper-parameter.

        Raises Refusal when one is missing: a grid without it is not complete.
        """
        array = np.asarray(numbers, dtype=np.float64)[list(self.order)]
        if unknown := int(np.isnan(array).sum()):
            raise Refusal(f"no complete grid: {unknown} of {len(array)} models have no value")
        return array.reshape([len(values) for values in self.values.values()])


def factorial(
    configs: Sequence[Config], names: Sequence[str] | None = None, where: str = "the models"
) -> Grid:
    """The grid that the configurations fill. `names` defaults to the hyper-parameters that vary.

    Raises Refusal, naming what is missing or there twice, for anything but a complete factorial
    grid with one model per cell.
    """
    if names is None:
        known = {name: None for config in configs for name in config}
        names = [name for name in known if len(_values(configs, name)) > 1]
    if not names:
        raise Refusal(f"{where}: no grid: no hyper-parameter varies")
    for name in names:
        if number := sum(name not in config for config in configs):
            raise Refusal(f"{where}: no complete grid: {number} have no {name}")
    values = {name: tuple(_values(configs, name)) for name in names}
    cells: dict[tuple[Value, ...], list[int]] = {}
    for i, config in enumerate(configs):
        cells.setdefault(tuple(config[name] for name in names), []).append(i)
    everything = list(itertools.product(*values.values()))
    missing = [cell for cell in everything if cell not in cells]
    if missing:
        raise Refusal(
            f"{where}: no complete grid: {len(missing)} of {len(everything)} combinations are "
            f"missing: {_listed(names, missing)}"
        )
    crowded = [cell for cell, models in cells.items() if len(models) > 1]
    if crowded:
        raise Refusal(
            f"{where}: more than one model in {len(crowded)} of {len(everything)} combinations: "
            f"{_listed(names, crowded)}"
        )
    return Grid(values, tuple(cells[cell][0] for cell in everything))


def grid_of(trials: FinishedTrials) -> Grid:
    """The grid that a study's comparable trials fill. Raises Refusal, as `factorial` does."""
    try:
        return factorial(trials.configs, where=trials.study)
    except Refusal as refusal:
        lost = ", ".join(f"{n} {reason}" for reason, n in sorted(trials.left_out.items()))
        raise Refusal(f"{refusal}{f' (left out: {lost})' if lost else ''}") from None


@dataclass(frozen=True)
class Granulated:
    """Granulated Kendall coefficients (Jiang et al. 2019, "Fantastic generalization measures")."""

    measure: str
    psi: Mapping[str, float]  # ψ_i by hyper-parameter that varies, in [−1, 1]
    mean: float  # Ψ


def granulated(measure: str, grid: Grid, values: ArrayLike, gaps: ArrayLike) -> Granulated:
    """ψ_i = mean over the settings of all other hyper-parameters of Kendall's τ along axis i.

    τ = Σ_{a≠b} sgn(μ_a − μ_b) sgn(g_a − g_b) / (k(k − 1)) for k values: a tie counts 0 (τ-a).
    Ψ = mean of ψ_i over the hyper-parameters.
    """
    measured, gap = grid.arrange(values), grid.arrange(gaps)
    psi = {}
    for axis, (name, taken) in enumerate(grid.values.items()):
        if (k := len(taken)) == 1:
            continue
        signs = np.ones(())
        for array in (measured, gap):
            lines = np.moveaxis(array, axis, -1)  # (…, k)
            signs = signs * np.sign(lines[..., :, None] - lines[..., None, :])
        psi[name] = float(signs.sum((-1, -2)).mean() / (k * (k - 1)))
    return Granulated(measure, psi, float(np.mean([*psi.values()])))


def granulated_study(
    directory: Path, measures: Sequence[str], target: str = "audit_gap_error"
) -> tuple[Granulated, ...]:
    """Ψ of each measure on a study. Raises Refusal unless its trials fill a grid."""
    trials = finished_trials(read(directory))
    grid = grid_of(trials)
    gaps = trials.target(target)
    return tuple(granulated(name, grid, trials.measure(name), gaps) for name in measures)


def _values(configs: Sequence[Config], name: str) -> list[Value]:
    """The values that a hyper-parameter takes, in the order in which they come."""
    return list(dict.fromkeys(config[name] for config in configs if name in config))


def _listed(names: Sequence[str], cells: Sequence[tuple[Value, ...]]) -> str:
    shown = [
        "(" + ", ".join(f"{n}={v}" for n, v in zip(names, cell, strict=True)) + ")"
        for cell in cells[:SHOWN]
    ]
    return ", ".join(shown) + (", …" if len(cells) > SHOWN else "")
