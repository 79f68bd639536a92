"""How the papers' scripts run their YAML studies: as `hpogen run` does, all in one pool.

A second call goes on with what the folder has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common import STUDIES, Run

from hpogen.cli.drive import pool
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
    with pool(home.name, specs, home, run.where(), "") as runs:
        unfinished = [result for _, result in runs if result.end != "finished"]
    if unfinished:
        why = unfinished[0].text or unfinished[0].end
        raise UserError(f"{home}: {why}: the same command goes on with it")
    return specs
