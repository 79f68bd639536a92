"""Ranks over tasks against the worked example of Demšar 2006, and against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from hpogen.analysis.contrasts import CriticalDifference, critical_difference

ARMS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
AUC = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975
0.957 0.978 0.946 0.970
"""  # Demšar's Table 6, where the last but one row's ranks part the two 0.975


def of(table: np.ndarray) -> CriticalDifference:
    names = ARMS if table.shape[1] == 4 else [f"arm {i}" for i in range(table.shape[1])]
    found = critical_difference(dict(zip(names, table.T, strict=True)))
    assert found is not None
    return found


def test_the_worked_example_of_demsar() -> None:
    table = 1 - np.array([line.split() for line in AUC.split("\n") if line], dtype=float)
    found = of(table)
    expected = {"C4.5+m+cf": 1.964, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert [*found.ranks] == [*expected]
    assert found.ranks == pytest.approx(expected, abs=5e-4)
    assert found.difference == pytest.approx(1.25, abs=0.005)
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*table.T).pvalue)
    assert found.groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),)


@pytest.mark.parametrize(
    ("arms", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_the_critical_values_are_those_of_demsars_table_5(arms: int, q: float) -> None:
    found = of(np.random.default_rng(0).normal(size=(12, arms)))
    assert found.difference == pytest.approx(q * np.sqrt(arms * (arms + 1) / 72), abs=2e-3)


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_the_largest_sets_within_the_difference(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = of(generator.normal(0.4 * np.arange(6), 1, size=(25, 6)))
    ranks = found.ranks
    close = [
        set(names)
        for size in range(2, 7)
        for names in itertools.combinations(ranks, size)
        if max(ranks[a] - ranks[b] for a in names for b in names) < found.difference
    ]
    largest = [names for names in close if not any(names < other for other in close)]
    assert sorted(map(sorted, found.groups)) == sorted(map(sorted, largest))


def test_arms_that_are_alike_everywhere() -> None:
    found = of(np.full((11, 3), 0.1))
    assert found.friedman_p == 1.0 and len(found.groups) == 1
    assert set(found.ranks.values()) == {2.0}


def test_two_arms_have_no_diagram() -> None:
    assert critical_difference({"A": [0.1] * 10, "B": [0.2] * 10}) is None
