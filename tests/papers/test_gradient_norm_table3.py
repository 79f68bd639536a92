"""The gradient-norm paper's Table 3 at tiny scale, against the definition of its score."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gradient_norm_table3 as table3
from gradient_norm_jacobian import jacobian_square
from grids import factorial

NAMES = {  # the hyper-parameters of the tiny grids, in the order of their YAML
    "vgg": ["width", "blocks", "dropout"],
    "nin": ["blocks", "dropout", "batch_size"],
}
Cells = Sequence[tuple[object, ...]]


def brute_score(cells: Cells, values: Sequence[float], gaps: Sequence[float]) -> float:
    """The score of PGDL, one ordered pair of models after the other."""
    return 100 * min(
        _of_two([(cell[a], cell[b]) for cell in cells], values, gaps)
        for a, b in combinations(range(len(cells[0])), 2)
    )


def _of_two(settings: Cells, values: Sequence[float], gaps: Sequence[float]) -> float:
    """Information over entropy, given both models' values of two hyper-parameters."""
    counts: dict[tuple[object, ...], Counter[tuple[bool, bool]]] = {}
    for i, j in product(range(len(settings)), repeat=2):
        signs = (bool(values[i] > values[j]), bool(gaps[i] > gaps[j]))
        counts.setdefault((settings[i], settings[j]), Counter())[signs] += 1
    information = entropy = 0.0
    for counted in counts.values():
        both = {signs: n / counted.total() for signs, n in counted.items()}
        measure, gap = (_marginal(both, side) for side in (0, 1))
        entropy -= sum(p * log2(p) for p in gap.values())
        information += sum(p * log2(p / (measure[m] * gap[g])) for (m, g), p in both.items())
    return information / entropy


def _marginal(both: Mapping[tuple[bool, bool], float], side: int) -> dict[bool, float]:
    found: dict[bool, float] = {}
    for signs, p in both.items():
        found[signs[side]] = found.get(signs[side], 0) + p
    return found


def test_a_tiny_table(tmp_path: Path) -> None:
    table3.main(["--scale", "tiny", "--device", "cpu", "--out", str(tmp_path)])
    assert (tmp_path / "gradient_norm_table3.png").stat().st_size > 5_000
    told = json.loads((tmp_path / "gradient_norm_table3.json").read_text())
    figures = {figure["what"]: figure for figure in told["figures"]}
    rows = pd.read_csv(tmp_path / "gradient_norm_table3.csv")
    assert told["sizes"]["models"] == dict(rows["task"].value_counts()) == {"vgg": 8, "nin": 8}
    for name, (label, theirs) in table3.PAPER.items():
        scores = [_of_task(rows[rows["task"] == task], name) for task in NAMES]
        assert figures[label]["ours"] == pytest.approx(np.mean(scores), abs=1e-9)
        assert figures[label]["theirs"] == theirs
        assert figures[label]["note"] == f"vgg {scores[0]:.2f}, nin {scores[1]:.2f}"
    limits = figures["random numbers, 95 % point"]
    by_task = [float(text.split(" ")[1]) for text in limits["note"].split(", ")]
    assert min(by_task) > figures["random numbers, mean"]["ours"] and limits["ours"] < max(by_task)


def _of_task(rows: pd.DataFrame, name: str) -> float:
    cells = [tuple(cell.split(" ")) for cell in rows["cell"]]
    return brute_score(cells, rows[name].tolist(), rows["gap"].tolist())


def _grid() -> tuple[Cells, table3.Models]:
    """18 models with random gaps."""
    cells = [*product((1, 2), (1, 2, 3), (1, 2, 3))]
    gap = np.random.default_rng(7).standard_normal(len(cells))  # no draw of `chance`
    grid = factorial([dict(zip("abc", cell, strict=True)) for cell in cells])
    return cells, table3.Models(grid, {}, gap, gap)


def test_the_gap_itself_scores_most_and_a_constant_nothing() -> None:
    _, found = _grid()
    assert found.score(np.exp(found.gap)) == pytest.approx(100)
    assert found.score(np.zeros(len(found.gap))) == 0


def test_chance_is_what_random_numbers_score_by_the_definition() -> None:
    cells, found = _grid()
    random = table3.chance({"x": found, "y": found}, 100)
    assert random.shape == (2, 100) and not np.array_equal(random[0], random[1])
    generator = np.random.default_rng(1)
    draws = generator.standard_normal((100, len(cells)))
    expected = [brute_score(cells, list(draw), list(found.gap)) for draw in draws]
    assert random.mean(1) == pytest.approx(np.mean(expected), abs=4 * np.std(expected) / 10)
    assert random.std(1) == pytest.approx(np.std(expected), rel=0.4)


def test_cells_are_named_in_the_order_of_the_grid() -> None:
    configs = [{"a": a, "b": b} for b in (5, 7) for a in ("x", "y", "z")]
    grid = factorial(configs, ["a", "b"])
    named = dict(zip(table3.cells(grid), grid.order, strict=True))
    assert {cell: tuple(configs[model].values()) for cell, model in named.items()} == {
        cell: cell for cell in named
    }


def test_the_jacobian_of_the_competition_is_that_of_every_derivative() -> None:
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(2, 3, 3).double(), nn.Linear(12, 4).double()
    after = nn.Sequential(nn.Tanh(), nn.Flatten())
    model = nn.Sequential(convolution, after, nn.Dropout(), linear)
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)

    def logits(image: torch.Tensor) -> torch.Tensor:
        return linear(after(convolution(image[None])))[0]

    by_image = [torch.autograd.functional.jacobian(logits, image) for image in x]  # (4, 2, 4, 4)
    squares = [float(one.square().mean()) for one in by_image]
    expected = (np.mean(squares) + float(linear.weight.detach().square().mean())) / 2
    y = torch.zeros(5, dtype=torch.int64)
    assert jacobian_square(model, [(x[:3], y[:3]), (x[3:], y[3:])]) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no samples"):
        jacobian_square(model, [])
