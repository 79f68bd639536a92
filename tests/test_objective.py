"""Scores from metrics: presets, scales, and the frozen numbers behind `standard`."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpogen.objective import Location, Objective, Term, label, locate, preset, rank

METRICS = {"agn": 40.0, "val_loss": 0.5, "train_loss": 0.25, "gap_loss": -0.25}
SUMS = frozenset({"agn"})
finite = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("terms", "score"),
    [
        (preset("val"), 0.5),
        (preset("train"), 0.25),
        (preset("agn+val", 0.05), 0.05 * 40 + 0.5),
        (preset("agn+train", 0.1, "per_epoch"), 0.1 * 40 / 8 + 0.25),
        (preset("agn+val", 0.1, "log"), 0.1 * math.log(40 / 8) + 0.5),
        ((Term("val_loss", 2.0, "log"), Term("gap_loss", -1.0)), 2 * math.log(0.5) + 0.25),
        ((Term("val_loss", 1.0, "per_epoch"),), 0.5),  # not a sum: nothing to divide
    ],
)
def test_score(terms: tuple[Term, ...], score: float) -> None:
    objective = Objective(terms, "", SUMS)
    assert objective.score(METRICS, budget=8) == pytest.approx(score, rel=1e-12)


def test_agn_needs_alpha() -> None:
    with pytest.raises(ValueError, match=r"agn\+val.*alpha"):
        preset("agn+val")


def test_labels_are_what_people_say() -> None:
    assert label("val") == "val"
    assert label("agn+val", 0.05) == "agn+val (α 0.05)"
    assert label("agn+train", 0.5, "log") == "agn+train (α 0.5, log)"


def test_log_has_a_floor_and_refuses_negatives() -> None:
    objective = Objective((Term("x", 1.0, "log"),), "")
    assert objective.score({"x": 0.0}, 1) == math.log(1e-12)
    with pytest.raises(ValueError, match=r"x = -0\.5 is negative"):
        objective.score({"x": -0.5}, 1)


def test_standard_and_rank_use_what_they_are_given() -> None:
    objective = Objective((Term("a", 1.0, "standard"), Term("b", 10.0, "rank")), "")
    score = objective.score({"a": 5.0, "b": 7.0}, 1, {"a": Location(3.0, 4.0)}, {"b": 2.5})
    assert score == 0.5 + 25.0
    assert objective.standardized() == ("a",)
    assert objective.uses("rank") and not objective.uses("log")


def test_location_is_median_and_mad() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 100.0]
    assert locate(values) == Location(4.0, 1.4826 * 3.0)


def test_a_mad_of_zero_gives_way() -> None:
    values = [1.0, 1.0, 1.0, 1.0, 9.0]
    assert locate(values) == Location(1.0, statistics.pstdev(values))
    assert locate([3.0, 3.0]) == Location(3.0, 1.0)
    assert locate([3.0]) == Location(3.0, 1.0)


@given(st.lists(finite, min_size=1, max_size=30))
def test_locate_against_numpy(values: list[float]) -> None:
    location = locate(values)
    center = np.median(values)
    assert location.center == pytest.approx(center)
    assert location.spread > 0
    mad = 1.4826 * np.median(np.abs(np.array(values) - center))
    if mad > 0:
        assert location.spread == pytest.approx(mad)


@given(st.lists(finite, min_size=1, max_size=30))
def test_rank_against_counting(values: list[float]) -> None:
    brute = [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]
    assert rank(values) == brute
