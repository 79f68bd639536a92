"""The gradient-norm paper's Tables 1, 2 and 4: the paper's numbers, ours at tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hpogen.errors import UserError
from hpogen.record import history
from hpogen.spec import load_studies, load_study
from hpogen.study.rehearsal import plan
from hpogen.study.retrained import results

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "papers"))

import gradient_norm_searches as searches  # noqa: E402
import gradient_norm_tables as tables  # noqa: E402
from common import Run  # noqa: E402
from gradient_norm_paper import Accuracy, Table, in_print, paper  # noqa: E402

STUDIES = ROOT / "studies" / "papers"


def test_agn_beats_validation_in_43_of_96_cells_of_the_papers_tables() -> None:
    gains = [
        gain
        for number in (1, 4)
        for loss in ("train", "val")
        for gain in tables.differences(paper(number), loss)
    ]
    assert (sum(gain > 0 for gain in gains), len(gains)) == (43, 96)


def test_the_papers_cells_stand_where_they_stood() -> None:
    assert paper(4).cells["svhn resnet56"]["cmaes agn+train-0.01"] == Accuracy(94.39, 1.42)
    assert paper(2).cells["fashion-mnist resnet20"]["bohb agn+val-0.5"] == Accuracy(82.53, 9.58)
    assert paper(1).cells["cifar100 resnet20"]["pso val"] == Accuracy(67.85, 0.25)
    assert [len(paper(n).methods) for n in (1, 2, 4)] == [15, 8, 15]
    names = [in_print(x) for x in ("default", "cmaes val", "pso agn+train-0.005", "random val")]
    assert names == ["Default", "CMA-ES (Val)", "PSO (AGN+Train, α=0.005)", "RS (Val)"]


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_matrix_has_the_papers_cells_and_budgets(number: int) -> None:
    found = load_studies(STUDIES / f"table{number}.yaml")
    labels = [spec.name.split("__") for spec in found.specs]
    cells = {(f"{d} {net}", f"{searcher} {rule}") for d, net, searcher, rule in labels}
    expected = paper(number)
    methods = [method for method in expected.methods if method != "default"]
    assert cells == {(column, method) for column in expected.columns for method in methods}
    for spec in (found.specs[0], found.specs[-1]):
        planned = plan(spec)
        assert planned["epochs_charged"] == 5_120
        assert planned["configurations"] == (36 if number == 2 else 32)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("table3-*.yaml")), ids=lambda path: path.stem)
def test_the_grids_are_the_competitions(path: Path) -> None:
    assert plan(load_study(path))["evaluations"] == {"table3-vgg": 96, "table3-nin": 54}[path.stem]


def test_tallies_of_a_table_counted_by_hand() -> None:
    cells = {
        "default": 90.0,
        "pso val": 91.0,
        "pso agn+train-0.1": 92.0,
        "pso agn+train-0.2": 89.0,
        "pso agn+val-0.1": 95.0,
    }
    found = tables.tallies(Table({"a b": {name: Accuracy(x, None) for name, x in cells.items()}}))
    assert [*found.values()] == [3, 2, 1.0, -0.5, 4.0, 1.5, 1, 1]


def test_pixels_are_averaged_and_images_spread_evenly() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 1, 6, 8), dtype=np.uint8)
    chosen = torch.from_numpy(images[[0, 2, 5, 7]]).double()
    expected = torch.nn.functional.avg_pool2d(chosen, 2).round().numpy()
    assert np.array_equal(searches._halved(images, 4), expected)


@pytest.mark.parametrize(("number", "at_a_time"), [(1, 2), (2, 1), (4, 2)])
def test_bohbs_trials_end_in_one_order(
    number: int, at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it tries next depends on that order; the other searchers wait for a whole round."""

    def searched(run: Run, *_: object) -> None:
        raise UserError(str(run.where().workers or 1))

    monkeypatch.setattr(tables, "searched", searched)
    monkeypatch.setattr(tables, "overrides", lambda *_: [])
    with pytest.raises(UserError, match=f"^{at_a_time}$"):
        tables.main(["--table", str(number), "--out", str(tmp_path)])


@pytest.mark.parametrize("number", [1, 2])
def test_a_tiny_table(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = f"--table {number} --seed 3 --scale tiny --device cpu --out"
    tables.main([*options.split(), str(tmp_path)])
    name = f"gradient_norm_table{number}"
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    with open(tmp_path / f"{name}.csv") as file:
        rows = [*csv.DictReader(file)]
    theirs = next(row["accuracy"] for row in rows if row["whose"] == "paper")
    assert theirs == {1: "91.7", 2: "93.34"}[number]
    ours = {row["method"]: row for row in rows if row["whose"] == "ours"}
    searchers = ("cmaes", "pso") if number == 1 else ("bohb",)
    for searcher in searchers:
        (study,) = (tmp_path / f"table{number}").glob(f"*__{searcher}__val")
        assert history.read(study).header["spec"]["seed"] == 3
        for one in results(study):
            row = ours[f"{searcher} val" if one.choice.is_answer else "default"]
            assert float(row["accuracy"]) == pytest.approx(100 * one.runs[0].accuracy)
            assert float(row["lr"]) == one.choice.config["lr"]
    figures = json.loads((tmp_path / f"{name}.json").read_text())["figures"]
    told = {figure["what"]: figure["ours"] for figure in figures}
    assert told["searches by AGN"] == len(searchers) == len(ours) // 2
    printed = capsys.readouterr().out
    for method, row in ours.items():
        assert f"| {in_print(method)} | {float(row['accuracy']):.2f} |" in printed
