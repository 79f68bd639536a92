"""The table of objectives by searchers: its cells, and which of them are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.searches import AGN, Made, search

from hpogen.analysis.comparison import Comparison, compare
from hpogen.analysis.crossed import Crossed
from hpogen.report.compare import compare_page

ARMS: dict[str, dict[str, Any]] = {
    "random__val": {},
    "random__agn": {"objective": AGN},
    "cmaes__val": {"searcher": {"name": "cmaes"}},
    "cmaes__agn": {"searcher": {"name": "cmaes"}, "objective": AGN},
}


def made(home: Path, errors: dict[str, list[float]], arms: dict[str, Any] = ARMS) -> Comparison:
    """A search of one trial for each error."""
    for arm, own in errors.items():
        for seed, error in enumerate(own):
            trials = [Made(0.5, round(1 - error, 6))]
            search(home / f"{arm}__seed-{seed}", trials, seed=seed, **arms[arm])
    return compare([home])


def only(found: Comparison) -> Crossed:
    [table] = found.crossed
    return table


def marks(table: Crossed) -> dict[str, tuple[bool, bool]]:
    cells = [cell for row in table.rows.values() for cell in row if cell]
    return {cell.arm: (cell.best_of_row, cell.best_of_column) for cell in cells}


APART = {arm: [0.1 * (i + 1) + 0.001 * s for s in range(8)] for i, arm in enumerate(ARMS)}


def test_cells_are_means_over_search_seeds(tmp_path: Path) -> None:
    table = only(made(tmp_path, APART))
    assert sorted(table.searchers) == ["cmaes", "random"]
    assert {*table.rows} == {"val", "agn+val (α 0.1)"}
    cell = table.rows["val"][table.searchers.index("random")]
    assert cell is not None and cell.arm == "random__val" and cell.error is not None
    assert (cell.error.mean, cell.error.n) == (pytest.approx(np.mean(APART["random__val"])), 8)
    assert cell.error.sd == pytest.approx(np.std(APART["random__val"], ddof=1))


def test_what_is_separably_best_is_marked(tmp_path: Path) -> None:
    found = made(tmp_path, APART)
    assert all(c.separable for c in found.contrasts)
    assert marks(only(found)) == {
        "random__val": (True, True),
        "random__agn": (True, False),
        "cmaes__val": (False, True),
        "cmaes__agn": (False, False),
    }
    text = "\n".join(compare_page(found, 120))
    assert "10.3 % ± 0.2 (n 8)*†" in text and "20.3 % ± 0.2 (n 8)*" in text
    assert "audit error by objective and searcher" in text


def test_what_may_be_luck_is_not_marked(tmp_path: Path) -> None:
    found = made(tmp_path, {arm: own[:2] for arm, own in APART.items()})
    assert not any(c.separable for c in found.contrasts)
    assert set(marks(only(found)).values()) == {(False, False)}


def test_searchers_of_one_name_are_called_by_their_options(tmp_path: Path) -> None:
    arms = {
        f"{sampler}__{objective}": {
            "searcher": {"name": "optuna", "sampler": sampler},
            "objective": {"val": "val", "agn": AGN}[objective],
        }
        for sampler in ("TPESampler", "QMCSampler")
        for objective in ("val", "agn")
    }
    table = only(made(tmp_path, {arm: [0.1] for arm in arms}, arms))
    assert sorted(table.searchers) == ["optuna sampler QMCSampler", "optuna sampler TPESampler"]


@pytest.mark.parametrize("names", [["random__val", "random__agn"], ["random__val", "cmaes__val"]])
def test_without_several_of_both_there_is_no_table(tmp_path: Path, names: list[str]) -> None:
    found = made(tmp_path, {name: [0.1] for name in names})
    assert found.crossed == ()
    assert "by objective and searcher" not in "\n".join(compare_page(found, 120))


def test_a_pair_without_an_arm_is_empty(tmp_path: Path) -> None:
    found = made(tmp_path, {arm: [0.1, 0.2] for arm in [*ARMS][:3]})
    assert [cell is None for row in only(found).rows.values() for cell in row].count(True) == 1
    assert "  –" in "\n".join(compare_page(found, 120))
