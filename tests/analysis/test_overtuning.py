"""Overtuning against the paper's definitions, by hand and by brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpogen.analysis.trajectory import LEAST_GAIN, overtuning


def test_by_hand() -> None:
    found = overtuning([math.inf, 0.30, 0.20, 0.10, 0.15], oracle=0.08, validation=0.12)
    assert found is not None
    assert found.absolute == pytest.approx(0.05)  # 0.15 − 0.10
    assert found.relative == pytest.approx(0.05 / 0.20)  # of 0.30 − 0.10
    assert found.meta_overfitting == pytest.approx(0.03)  # 0.15 − 0.12
    assert found.regret == pytest.approx(0.07)


def test_a_search_that_lost_more_than_it_had_gained() -> None:
    found = overtuning([0.2, 0.1, 0.3], 0.1, None)
    assert found is not None and found.relative == pytest.approx(2.0)
    assert found.meta_overfitting is None


@pytest.mark.parametrize("truth", [[0.2], [0.2, 0.2], [0.2, 0.3], [0.2, 0.2 - LEAST_GAIN / 2]])
def test_without_a_gain_there_is_no_share_of_it(truth: list[float]) -> None:
    found = overtuning(truth, min(truth), 0.1)
    assert found is not None and found.relative is None
    assert found.absolute == pytest.approx(truth[-1] - min(truth))


@pytest.mark.parametrize("truth", [[], [math.inf], [0.1, math.nan], [math.inf, math.nan, 0.1]])
def test_without_held_out_figures_there_is_nothing_to_say(truth: list[float]) -> None:
    assert overtuning(truth, 0.1, 0.1) is None


@settings(deadline=None)  # on a busy machine
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_as_defined_for_any_search(trials: list[tuple[float, float]]) -> None:
    """From (validation, test) of each trial: equations 4 and 8, as they are written."""
    incumbents = [
        min(range(t + 1), key=lambda i: trials[i][0])  # λ*_t = argmin of val over λ_1 … λ_t
        for t in range(len(trials))
    ]
    test = [trials[i][1] for i in incumbents]
    found = overtuning(test, min(error for _, error in trials), trials[incumbents[-1]][0])
    assert found is not None
    assert found.absolute == test[-1] - min(test)
    if found.relative is not None:
        assert found.relative == (test[-1] - min(test)) / (test[0] - min(test))
    assert found.meta_overfitting == test[-1] - trials[incumbents[-1]][0]
    assert found.regret >= found.absolute >= 0
