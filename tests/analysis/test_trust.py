"""Kendall's τ over search seeds, against `judge` and a count of pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from analysis.studies import made, study

from hpogen.analysis.correlation import SHARES as TARGETS
from hpogen.analysis.correlation import judge
from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import finished_trials
from hpogen.analysis.trust import Trust, flips, trust
from hpogen.study.read import read


def one(directory: Path, seed: int, n: int = 20) -> Path:
    generator = np.random.default_rng(seed)
    return study(
        directory,
        [
            made(
                {"lr": float(i)},
                float(a),
                float(a - 0.1 * b),
                loss=float(1 - a),
                m=float(b + 0.3 * c),
            )
            for i, (a, b, c) in enumerate(generator.random((n, 3)))
        ],
    )


def tau_b(x: Array, y: Array) -> float:
    """Every pair counted; there are no ties."""
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in combinations(range(len(x)), 2)]
    return float(np.mean(signs))


def test_of_one_search_it_is_what_judge_says(tmp_path: Path) -> None:
    directory = one(tmp_path, 3)
    found = trust([finished_trials(read(directory))])
    said = {(c.measure, c.target, c.part): c.kendall for c in judge(directory).correlations}
    assert len(found) == 3 * 3 * len(TARGETS)
    for own in found:
        coefficient = said[own.measure, own.target, own.part]
        assert coefficient is not None and own.interval is not None
        assert own.tau == pytest.approx(coefficient.value)
        assert coefficient.interval is not None  # another number of resamples
        assert own.interval.low == pytest.approx(coefficient.interval.low, abs=0.1)
        assert own.interval.high == pytest.approx(coefficient.interval.high, abs=0.1)


@pytest.mark.parametrize("seeds", [2, 5])
def test_of_several_searches_it_is_the_mean_of_theirs(tmp_path: Path, seeds: int) -> None:
    searches = [finished_trials(read(one(tmp_path / str(seed), seed))) for seed in range(seeds)]
    [own] = [
        t for t in trust(searches) if (t.measure, t.target, t.part) == ("m", "audit_error", "all")
    ]
    each = [tau_b(s.metrics["m"], 1 - s.audit) for s in searches]
    assert own.tau == pytest.approx(np.mean(each))
    assert own.n == seeds
    assert (own.interval is None) == (seeds < 5)


def test_of_many_trials_there_is_no_interval(tmp_path: Path) -> None:
    found = trust([finished_trials(read(one(tmp_path, 0, n=900)))])
    assert all(own.interval is None for own in found)


def test_a_sign_flips_only_where_both_can_be_believed() -> None:
    def own(measure: str, *taus: float) -> list[Trust]:
        parts = zip(("all", "top", "bottom"), taus, strict=True)
        return [Trust(measure, "audit_error", part, tau, None, 1) for part, tau in parts]  # type: ignore[arg-type]

    found = [
        *own("flips", 0.3, -0.2, 0.1),
        *own("no", 0.3, 0.2, -0.01),
        *own("low", -0.3, -0.1, -1),
    ]
    assert flips(found) == {("flips", "audit_error")}
