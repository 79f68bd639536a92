"""The gradient-norm paper's Table 3 at tiny scale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpogen.analysis.grids import factorial
from hpogen.analysis.pgdl import score_table

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_table3 as table3

NAMES = {  # the hyper-parameters of the tiny grids, in the order of their YAML
    "vgg": ["width", "blocks", "dropout"],
    "nin": ["blocks", "dropout", "batch_size"],
}


def test_a_tiny_table(tmp_path: Path) -> None:
    table3.main(["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)])
    assert (tmp_path / "gradient_norm_table3.png").stat().st_size > 5_000
    told = json.loads((tmp_path / "gradient_norm_table3.json").read_text())
    ours = {figure["what"]: figure["ours"] for figure in told["figures"]}
    rows = pd.read_csv(tmp_path / "gradient_norm_table3.csv")
    assert told["sizes"]["models"] == dict(rows["task"].value_counts()) == {"vgg": 8, "nin": 8}
    scores = {
        task: score_table(_with_columns(rows[rows["task"] == task], task), [*table3.PAPER], names)
        for task, names in NAMES.items()
    }
    for i, (label, theirs) in enumerate(table3.PAPER.values()):
        both = [found[i].score for found in scores.values()]
        assert ours[label] == pytest.approx(np.mean(both))
        assert 0 <= ours[label] <= 100
        figure = next(figure for figure in told["figures"] if figure["what"] == label)
        assert figure["theirs"] == theirs


def _with_columns(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    cells = rows["cell"].str.split(" ", expand=True)
    cells.columns = pd.Index(NAMES[task])
    return pd.concat([rows, cells], axis=1)


def test_the_gap_itself_scores_most_and_a_constant_nothing() -> None:
    generator = np.random.default_rng(0)
    configs = [{"a": a, "b": b, "c": c} for a in (1, 2) for b in (1, 2, 3) for c in (1, 2, 3)]
    gap = generator.standard_normal(len(configs))
    found = table3.Models(factorial(configs), {}, gap, gap)
    assert found.score(np.exp(gap)) == pytest.approx(100)
    assert found.score(np.zeros(len(gap))) == 0
    random = table3.chance({"x": found, "y": found}, 20)
    assert random.shape == (2, 20)
    assert 0 < random.mean() < 60
    assert not np.array_equal(random[0], random[1])


def test_cells_are_named_in_the_order_of_the_grid() -> None:
    configs = [{"a": a, "b": b} for b in (5, 7) for a in ("x", "y", "z")]
    grid = factorial(configs, ["a", "b"])
    named = dict(zip(table3.cells(grid), grid.order, strict=True))
    assert {cell: tuple(configs[model].values()) for cell, model in named.items()} == {
        cell: cell for cell in named
    }
