"""The texts of `show` and `best`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hpogen.report.pages import show_page, yaml_lines
from hpogen.report.table import WHOLE


def test_yaml_means_the_same_to_parsers_of_version_1_1() -> None:
    nested = {"a": {"lr": 1e-07, "big": 1e22, "half": 0.5, "n": 3, "on": True, "text": "no: 'x'"}}
    assert yaml_lines(nested) == [
        "a:",
        "  lr: 1.0e-07",
        "  big: 1.0e+22",
        "  half: 0.5",
        "  n: 3",
        "  on: true",
        "  text: \"no: 'x'\"",
    ]


def a_trial(**keys: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "duplicate_of": None,
        "repeat": None,
        "trained_as": None,
        "metrics": {},
        "audit": {},
        "seconds": {},
    }
    known = {"trial": 3, "state": "told", "config": {"x": 0.5}, "budget": 160, "seed": 1}
    return {**known, **empty, "score": 0.25, "failure": None, "curve": [], "log": None, **keys}


@pytest.mark.parametrize("epochs", [1, 20, 21, 159, 160])
def test_a_long_curve_is_thinned_to_its_end(epochs: int) -> None:
    curve = [{"epoch": i + 1, "metrics": {"val_loss": 1 / (i + 1)}} for i in range(epochs)]
    lines = show_page(a_trial(curve=curve), "3.log", 80)
    rows = lines[lines.index("epoch  val_loss") + 1 :]
    shown = [int(row.split()[0]) for row in rows]
    assert len(shown) <= 20
    assert shown[-1] == epochs
    assert len({b - a for a, b in itertools.pairwise(shown)}) <= 1


def test_a_curve_begins_with_what_decides_and_says_what_did_not_fit() -> None:
    """Whichever epoch has measured them: the loss that decides is never what is cut."""
    every = {f"measure_{i:02}": 0.5 for i in range(12)}
    last = {"val_accuracy": 0.9, "val_loss": 0.25, **every}
    curve = [{"epoch": 1, "metrics": every}, {"epoch": 2, "metrics": last}]
    first = ("val_loss", "measure_11", "val_accuracy")
    lines = show_page(a_trial(curve=curve), "3.log", 60, first)
    title, below = next(i for i, t in enumerate(lines) if t.startswith("epoch")), lines[-1]
    assert lines[title].split() == ["epoch", *first, "measure_00", "+10"]
    assert below == "(+10: columns that did not fit; --json has them)"
    assert show_page(a_trial(curve=curve), "3.log", 400, first)[-1].startswith("2 ")


def test_a_file_gets_the_whole_curve_and_the_whole_log() -> None:
    metrics = {f"a long name of a metric {i}": 0.5 for i in range(40)}
    curve = [{"epoch": i + 1, "metrics": metrics} for i in range(90)]
    log = "\n".join(f"line {i}" for i in range(100))
    lines = show_page(a_trial(curve=curve, log=log), "3.log", WHOLE)
    title = next(i for i, line in enumerate(lines) if line.startswith("epoch "))
    assert all(name in lines[title] for name in metrics) and "+" not in lines[title]
    assert [line.split()[0] for line in lines[title + 1 : title + 91]] == [
        str(i + 1) for i in range(90)
    ]
    assert lines[-100:] == [f"  line {i}" for i in range(100)]


def test_only_the_end_of_a_log_is_shown() -> None:
    log = "\n".join(f"line {i}" for i in range(100))
    lines = show_page(a_trial(log=log), "q/trials/00003.log", 80)
    assert lines[-22:-19] == ["q/trials/00003.log:", "  … 80 lines before", "  line 80"]
    assert lines[-1] == "  line 99"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "trial 3: score 0.25"),
        ({"state": "running", "score": None}, "trial 3: not finished"),
        ({"state": "held", "score": None}, "trial 3: waiting for its score"),
        ({"failure": {"kind": "oom", "text": "full"}}, "trial 3: oom: full"),
    ],
)
def test_the_first_line_says_how_it_ended(keys: dict[str, Any], expected: str) -> None:
    assert show_page(a_trial(**keys), "3.log", 80)[0] == expected
