"""How the gradient-norm paper's Figures 1 and 3 are trained, and how their numbers are compared.

`gradient_norm_figure1.py` and `gradient_norm_figure3.py` run their YAML studies through this, as
`hpogen run` does: all in one pool, and a second call goes on with what the folder has.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from common import Run
from scipy import stats

from hpogen.driving import pool
from hpogen.errors import UserError
from hpogen.executors.choice import Where
from hpogen.spec import StudySpec, load_studies

STUDIES = Path(__file__).resolve().parents[2] / "studies" / "papers"
FEWEST = 3  # points, for a correlation

Files = Mapping[str, Sequence[str]]
"""The studies' files by their names without `.yaml`, and what is set in each."""


def with_workers(arguments: Sequence[str] | None) -> tuple[int | None, list[str]]:
    """`--workers N`, and the arguments that are left for `common.begin`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workers", type=int)
    given, rest = parser.parse_known_args(arguments)
    return given.workers, rest


def train(run: Run, files: Files, workers: int | None) -> dict[Path, StudySpec]:
    """Run the studies in folders of `out`, or go on with them: FILE, or FILE__LABEL of a matrix.

    By default two trials at a time at the small scale, which is meant for two cores, else one.
    Raises UserError when it was interrupted: the same command goes on.
    """
    home = run.out / f"{run.name}-{run.scale}"
    specs: dict[Path, StudySpec] = {}
    for file, overrides in files.items():
        found = load_studies(STUDIES / f"{file}.yaml", overrides)
        for spec in found.specs:
            specs[home / (f"{file}__{spec.name}" if found.is_matrix else file)] = spec
    chosen = workers or run.pick(tiny=1, small=2, paper=1)
    device = "auto" if chosen > 1 and run.device != "cpu" else run.device  # Ray deals out GPUs
    with pool(home.name, specs, home, Where(device, chosen), "") as (_, results):
        unfinished = [result for result in results if result.end != "finished"]
    if unfinished:
        why = unfinished[0].text or unfinished[0].end
        raise UserError(f"{home}: {why}: the same command goes on with it")
    return specs


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's r; None where it is not defined: fewer than three points, or a constant."""
    if len(x) < FEWEST or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return None
    return float(stats.pearsonr(x, y).statistic)


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's τ-b, which a single large value cannot rule; None where it is not defined."""
    return None if pearson(x, y) is None else float(stats.kendalltau(x, y).statistic)


def shown(r: float | None) -> str:
    return "not defined" if r is None else f"{r:+.3f}"
