"""16-epoch trials of Tables 1 and 4: raw α · AGN chooses a net at chance, `alpha: auto` not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from analysis.rescored import made_study

from hpogen.analysis.rescoring import rescore
from hpogen.running.runner import run
from hpogen.spec import load_studies
from hpogen.study.read import read
from hpogen.study.study import Study

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "papers"))

import gradient_norm_searches as searches  # noqa: E402
from common import Run  # noqa: E402

DATA = Path(os.environ.get("HPOGEN_TEST_DATA", ROOT.parent / "shared" / "data"))
EPOCHS, TRIALS = 16, 16
CHANCE = 0.8  # audit error on ten classes, above which nothing was learned
RAW, LOSSES = (0.1, 0.05), ("val", "train")

FASHION = [  # val_loss, train_loss, agn, audit accuracy: the slow test below, of a first run
    (1.764, 1.706, 74.593, 0.4775),
    (2.341, 2.315, 47.199, 0.0950),
    (0.980, 0.854, 61.518, 0.6600),
    (1.734, 1.676, 74.744, 0.4425),
    (1.435, 1.439, 57.070, 0.3825),
    (0.625, 0.441, 86.845, 0.7200),
    (2.330, 2.295, 48.520, 0.1200),
    (1.146, 1.082, 40.925, 0.5725),
    (0.814, 0.528, 68.765, 0.7150),
    (1.924, 1.820, 76.785, 0.3875),
    (1.555, 1.546, 286.340, 0.3850),
    (2.300, 2.300, 15.002, 0.1100),
    (0.633, 0.365, 99.715, 0.7150),
    (0.672, 0.452, 52.342, 0.7225),
    (2.154, 2.129, 70.208, 0.2425),
    (2.300, 2.300, 5349.131, 0.1075),
]


def error(study: Path, loss: str, alpha: float | str, scale: str) -> float:
    """The audit error of what α · scale(AGN) + loss chooses of the study's trials."""
    found = rescore(read(study), f"agn+{loss}", alpha=alpha, scale=scale)
    choice = found.asked or found.own
    assert choice.held_out is not None
    return choice.held_out


def autos(study: Path) -> list[float]:
    return [error(study, loss, "auto", scale) for loss in LOSSES for scale in ("raw", "log")]


def test_auto_chooses_a_net_that_fits_where_raw_agn_chooses_one_at_chance(tmp_path: Path) -> None:
    metrics = [dict(zip(("val_loss", "train_loss", "agn"), row, strict=False)) for row in FASHION]
    audits = [{"accuracy": row[3], "loss": row[0]} for row in FASHION]
    study = made_study(tmp_path, metrics, audits=audits)
    assert all(error(study, loss, alpha, "raw") > CHANCE for loss in LOSSES for alpha in RAW)
    assert max(autos(study)) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("table", "data"), [(1, "mnist"), (4, "fashion-mnist")])
def test_auto_never_chooses_a_net_at_chance(
    table: int, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The searches by Val of CMA-ES at 16 epochs and 16 trials; other rules choose of the same."""
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}: set HPOGEN_TEST_DATA to a folder that has {data}")
    monkeypatch.setenv("HPOGEN_DATA", str(DATA))
    small = searches.small_dataset(Run("alpha", "small", tmp_path, "cpu"), data)
    changes = {
        "task.dataset": [{**small, "subset": 0.2, "validation": 200, "audit": 400}],
        "task.model": [searches.NET],
        "searcher": [{"name": "cmaes", "population": TRIALS // 4}],
        "objective": ["val"],
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
    (spec,) = load_studies(file, sets).specs
    with Study(spec, tmp_path / "study") as study:
        assert run(study).end == "finished"
    assert max(autos(tmp_path / "study")) < CHANCE
