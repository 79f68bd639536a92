"""The table of built-in measures: every row is whole, resolves, and costs no torch to read."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.measures.catalog import DECAY, MEASURES

HEAD = {
    *("agn", "agn_mean", "agn_last", "agn_rel", "agn_tic"),
    *("gsnr_head", "gsnr_head_median", "gsnr_head_ratio", "gsnr_head_debiased", "osgr_head"),
    *("same_sign_head", "opposite_sign_head", "opposite_sign_head_top10"),
    *("margin_q10", "margin_q50", "margin_q90", "trace_hessian", "brier"),
}
STEP = {"agn_online", "agn_lr", "tse", "tse_ema", "tse_last", "seconds_per_epoch"}


@pytest.mark.parametrize("name", MEASURES)
def test_a_row_is_whole(name: str) -> None:
    row = MEASURES[name]
    assert row.definition and row.cost and row.source
    assert row.sums | row.means <= set(row.metrics)
    assert not row.final or not row.sums
    parameters = inspect.signature(row.resolve()).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]
    assert len(needed) == {"head": 1, "step": 1, "network": 2 + row.initial}[row.of]
    assert all(callable(plugins.resolved(need)) for need in row.requirements)


def test_no_metric_is_given_twice() -> None:
    counted = Counter(metric for row in MEASURES.values() for metric in row.metrics)
    assert set(counted.values()) == {1}


def test_the_families_are_complete() -> None:
    given = {of: set[str]() for of in ("head", "step", "network")}
    for row in MEASURES.values():
        given[row.of].update(row.metrics)
    assert given["head"] == HEAD
    assert given["step"] == STEP
    assert set(DECAY) <= STEP


def test_reading_the_table_imports_no_torch() -> None:
    code = (
        "import sys; from hpogen import plugins;"
        "assert plugins.measures.get('agn').metrics == ('agn',);"
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_name_of_a_row_is_taken() -> None:
    with pytest.raises(UserError, match="measure 'agn' is built in"):
        plugins.measures.add("agn", MEASURES["agn"])
    with pytest.raises(UserError, match="did you mean 'agn'"):
        plugins.measures.get("agm")
