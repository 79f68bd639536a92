"""A folder as the documentation's code finds one: studies, examples, and runs of a tiny size."""

from __future__ import annotations

import shutil
from pathlib import Path

from documentation.blocks import ROOT

import hpogen
from hpogen.cli import drive
from hpogen.executors.choice import Where
from hpogen.executors.inline import InlineExecutor
from hpogen.study.open import open_studies

TINY = ["task.epochs=1", "stop.trials=2", "matrix.searcher=[cmaes]", "matrix.seed=[0, 1]"]


def make(home: Path) -> Path:
    """`studies/`, `search_spaces/`, `examples/`; in `runs/` a tiny quickstart and matrix."""
    for name in ("studies", "search_spaces"):
        shutil.copytree(ROOT / name, home / name)
    shutil.copytree(ROOT / "docs" / "examples", home / "examples")
    tiny = home / "studies" / "quickstart.yaml"
    tiny.write_text(tiny.read_text().replace("trials: 32", "trials: 3").replace("s: 12", "s: 1"))
    with hpogen.open_study(tiny, home / "runs" / "quickstart") as study:
        hpogen.run(study)
    drive.retrain(home / "runs" / "quickstart", Where(), seeds=1)
    found = hpogen.load_studies(home / "studies" / "matrix.yaml", TINY)
    studies = open_studies({home / "runs" / "matrix" / one.name: one for one in found.specs})
    hpogen.run_all(studies, InlineExecutor())
    for study in studies:
        study.close()
    return home
