"""How the gradient-norm paper's Figures 1 and 3 are trained, and how their numbers are compared.

`gradient_norm_figure1.py` and `gradient_norm_figure3.py` run their YAML studies through this, as
`hpogen run` does: all in one pool, and a second call goes on with what the folder has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common import STUDIES, Run, pearson
from scipy import stats

from hpogen.driving import pool
from hpogen.errors import UserError
from hpogen.spec import StudySpec, load_studies

Files = Mapping[str, Sequence[str]]
"""The studies' files by their names without `.yaml`, and what is set in each."""


def train(run: Run, files: Files) -> dict[Path, StudySpec]:
    """Run the studies in folders of `out`, or go on with them: FILE, or FILE__LABEL of a matrix.

    Raises UserError when it was interrupted: the same command goes on.
    """
    home = run.out / f"{run.name}-{run.scale}"
    specs: dict[Path, StudySpec] = {}
    for file, overrides in files.items():
        found = load_studies(STUDIES / f"{file}.yaml", overrides)
        for spec in found.specs:
            specs[home / (f"{file}__{spec.name}" if found.is_matrix else file)] = spec
    with pool(home.name, specs, home, run.where(), "") as (_, results):
        unfinished = [result for result in results if result.end != "finished"]
    if unfinished:
        why = unfinished[0].text or unfinished[0].end
        raise UserError(f"{home}: {why}: the same command goes on with it")
    return specs


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's τ-b, which a single large value cannot rule; None where it is not defined."""
    return None if pearson(x, y) is None else float(stats.kendalltau(x, y).statistic)


def shown(r: float | None) -> str:
    return "not defined" if r is None else f"{r:+.3f}"
