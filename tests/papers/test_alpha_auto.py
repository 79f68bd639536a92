"""The 16-epoch runs of Tables 1 and 4, in which raw α · AGN chose nets at chance: `alpha: auto`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hpogen.running.runner import run
from hpogen.spec import load_studies
from hpogen.study.read import read
from hpogen.study.standing import chosen
from hpogen.study.study import Study

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "papers"))

import gradient_norm_searches as searches  # noqa: E402
from common import Run  # noqa: E402

DATA = Path(os.environ.get("HPOGEN_TEST_DATA", ROOT.parent / "shared" / "data"))
EPOCHS, TRIALS = 16, 16
CHANCE = 0.2  # audit accuracy on ten classes, below which nothing was learned
RAW = [{"preset": f"agn+{loss}", "alpha": a} for a in (0.1, 0.05) for loss in ("val", "train")]
AUTO = [
    {"preset": f"agn+{loss}", "alpha": "auto", "scale": scale}
    for loss in ("val", "train")
    for scale in ("raw", "log")
]


def accuracies(table: int, data: str, folder: Path) -> dict[tuple[str, str], float]:
    """By searcher and objective: the audit accuracy of what the search has chosen."""
    given = Run("alpha", "small", folder, "cpu")
    split = {"subset": 0.2, "validation": 200, "audit": 400}
    objectives: list[Any] = ["val", *RAW, *AUTO]
    names = [f"o{i}" for i in range(len(objectives))]
    changes: dict[str, Any] = {
        "task.dataset": [{**searches.small_dataset(given, data), **split}],
        "task.model": [searches.NET],
        "searcher": [{"name": x, "population": TRIALS // 4} for x in ("cmaes", "pso")],
        "objective": [
            {"preset": o} | {"label": n} if isinstance(o, str) else {**o, "label": n}
            for n, o in zip(names, objectives, strict=True)
        ],
    }
    file = ROOT / "studies" / "papers" / f"table{table}.yaml"
    sets = [
        searches.with_matrix(file, changes),
        f"task.epochs={EPOCHS}",
        f"task.schedule.milestones=[{EPOCHS // 2}, {EPOCHS * 3 // 4}]",
        f"stop.epochs={EPOCHS * TRIALS}",
        "checkpoints.keep=none",
        *searches.SMALL,
    ]
    found = {}
    for spec in load_studies(file, sets).specs:
        with Study(spec, folder / spec.name) as study:
            assert run(study).end == "finished"
        answer = chosen(read(folder / spec.name))
        assert answer is not None and answer.outcome is not None
        found[spec.searcher.name, spec.objective.label] = answer.outcome.audit["accuracy"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("table", "data"), [(1, "mnist"), (4, "fashion-mnist")])
def test_auto_never_chooses_a_net_at_chance(
    table: int, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}: set HPOGEN_TEST_DATA to a folder that has {data}")
    monkeypatch.setenv("HPOGEN_DATA", str(DATA))
    found = accuracies(table, data, tmp_path)
    auto = {key: x for key, x in found.items() if "auto" in key[1]}
    assert len(found) == 18 and len(auto) == 8
    assert min(auto.values()) > CHANCE, found
    if data == "fashion-mnist":
        raw = {key: x for key, x in found.items() if key not in auto and key[1] != "val"}
        assert min(raw.values()) < CHANCE, found  # else this shows nothing
