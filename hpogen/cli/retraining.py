"""`hpogen retrain`: runs the studies of the answer and the baselines, and prints the figures."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from hpogen.cli.drive import pool
from hpogen.errors import UserError, explained
from hpogen.executors.choice import Where
from hpogen.record.belonging import own
from hpogen.report.retrain import last_lines, page
from hpogen.report.terminal import print_lines, program, width
from hpogen.report.verdict import ending
from hpogen.running.retrain import SEEDS, plan
from hpogen.running.runner import End, Result
from hpogen.study.read import RETRAIN, read_all, studies_in
from hpogen.study.retrained import results
from hpogen.study.study import Study


def retrain(directory: Path, where: Where, seeds: int = SEEDS, duration: str = "") -> list[End]:
    """Retrain, or go on with it, and print what was found; how each configuration's study ended.

    `directory` is a study's or a matrix's; `seeds` is how often each configuration is trained in
    all, so that more may be added. Raises UserError.
    """
    studies = read_all([directory])
    specs = {path: spec for study in studies for path, spec in plan(study, seeds).items()}
    for study in studies:
        with explained(study.directory, UserError):
            own(study.directory / RETRAIN, study.history.id)
    home = directory if studies_in(directory) else directory / RETRAIN
    name = f"{directory.absolute().name}: {RETRAIN}"
    with pool(name, specs, home, where, duration) as (opened, ended):
        if not any(result.end == "broken" for result in ended):
            _print(directory, [study.directory for study in studies], opened, ended)
    return [result.end for result in ended]


def _print(
    directory: Path, homes: Sequence[Path], studies: Sequence[Study], ended: Sequence[Result]
) -> None:
    pairs = zip(studies, ended, strict=True)
    stopped = [ending(s.spec, r.end, r.trials, r.text) for s, r in pairs if r.end != "finished"]
    lines = [line for home in homes for line in page(home, results(home), width())]
    with contextlib.suppress(OSError):  # a terminal that has gone
        print_lines([*lines, *last_lines(directory, stopped, program(), width())])
