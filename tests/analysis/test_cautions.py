"""A measure whose sign turns round in the better-fitted half is named, and no other one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.searches import AGN, Made, search
from toys import typed

from hpogen.analysis.cautions import FEWEST, Turned, cautions, turned
from hpogen.analysis.comparison import compare
from hpogen.notebook.pages import result_page
from hpogen.record.folder import TRIALS, trial_stem
from hpogen.record.ledger import LEDGER
from hpogen.report.compare import compare_page, comparison_data
from hpogen.report.html.page import write_report
from hpogen.report.verdict import verdict
from hpogen.selection.choosing import MARGIN
from hpogen.selection.evidence import LOSSES
from hpogen.study.read import read

N = 32
HERE = (
    "its sign is not the same on all trials and on the better-fitted half (Kendall's τ with "
    "validation loss: +0.52 on 32 trials, −1.00 on 16)"
)


def turns(i: int) -> float:
    """It falls over the better-fitted half, lies higher in the other, and rises there."""
    return -float(i) if i < N // 2 else float(i)


def turns_of_sixteen(i: int) -> float:
    return float(-i if i < FEWEST // 2 else i)


def planted(
    directory: Path, measure: Callable[[int], float] = turns, n: int = N, **keys: Any
) -> Path:
    """n trials whose both losses rise with their number, with AGN and a margin of that form."""
    given = {"audit": 0.9, **keys.pop("trials", {})}
    keys.setdefault("objective", AGN)
    return search(
        directory,
        [
            Made(
                **{"val_loss": 1.0 + i, **given},
                metrics={"train_loss": 0.1 + i, "agn": measure(i), MARGIN: measure(i)},
            )
            for i in range(n)
        ],
        **keys,
    )


def found(directory: Path) -> list[Turned]:
    return turned(read(directory))


def test_a_sign_that_turns_round_is_told_with_both_correlations(tmp_path: Path) -> None:
    n = N // 2
    rising, falling = n * (n - 1) // 2 + n * n, n * (n - 1) // 2  # pairs
    on_all = (rising - falling) / (N * (N - 1) // 2)
    (own,) = found(planted(tmp_path / "s"))
    assert own == Turned("agn", pytest.approx(on_all), pytest.approx(-1.0), N)
    assert cautions([read(tmp_path / "s")]) == [f"do not trust agn here: {HERE}"]


def test_the_half_is_that_of_the_smaller_training_losses(tmp_path: Path) -> None:
    """And of an odd number the middle one is in neither."""
    trials = [
        Made(1.0 + i, metrics={"train_loss": float(N - i), "agn": turns(i)}) for i in range(N + 1)
    ]
    assert found(search(tmp_path / "s", trials, objective=AGN)) == []
    assert found(search(tmp_path / "t", trials[::-1], objective=AGN)) == []
    (own,) = found(planted(tmp_path / "odd", n=N + 1))
    assert own.trials == N + 1 and own.on_half == pytest.approx(-1.0)


def test_no_audit_figure_is_read(tmp_path: Path) -> None:
    blind = found(planted(tmp_path / "none", trials={"audit": None}))
    assert blind == found(planted(tmp_path / "all")) != []


def test_the_measure_of_a_selection_is_named_too(tmp_path: Path) -> None:
    (own,) = found(planted(tmp_path / "s", objective="val", selection="one_se_margin"))
    assert own.measure == MARGIN


@pytest.mark.parametrize(
    "keys",
    [
        {"measure": float},
        {"measure": lambda i: -float(i)},
        {"measure": lambda _: 1.0},
        {"measure": lambda i: abs(i - 7.5) + 0.1 * (i == 0)},  # τ is −0.01 on the half
        {"measure": turns_of_sixteen, "n": FEWEST - 1},
        {"objective": "val"},
        {"objective": {"terms": [{"metric": "val_loss"}, {"metric": "train_loss"}]}},
        {"objective": "val", "constraints": {"agn": "<= 1e9"}},
        {"trials": {"val_loss": None}, "objective": {**AGN, "preset": "agn+train"}},
        {"trials": {"budget": 2}},
    ],
    ids=[
        "it rises in both",
        "it falls in both",
        "it is constant",
        "it has no sign on the half",
        "too few trials",
        "the objective does not name it",
        "losses are no measures",
        "a constraint is no objective",
        "there is no validation loss",
        "of a smaller budget",
    ],
)
def test_it_is_silent(keys: dict[str, Any], tmp_path: Path) -> None:
    assert found(planted(tmp_path / "s", **keys)) == []


def test_sizes_are_aims_of_their_own(tmp_path: Path) -> None:
    terms = [{"metric": "val_loss"}, {"metric": "parameters"}]
    task = {"measures": ["parameters"]}
    trials = [
        Made(1.0 + i, metrics={"train_loss": float(i), "parameters": turns(i)}) for i in range(N)
    ]
    directory = search(tmp_path / "s", trials, objective={"terms": terms}, task=task)
    assert read(directory).spec.objective.metrics == {"val_loss", "parameters"}
    assert found(directory) == []


def test_sixteen_trials_are_enough(tmp_path: Path) -> None:
    assert found(planted(tmp_path / "s", turns_of_sixteen, FEWEST)) != []


def test_the_verdict_best_and_the_notebook_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = planted(tmp_path / "s", trials={"audit": None})
    before = (directory / LEDGER).read_bytes()
    sentence = f"Do not trust agn here: {HERE}."
    assert f" {sentence}" in verdict(read(directory), "finished", [], 300)
    assert sentence.replace("'", "&#x27;") in result_page(read(directory))
    assert typed("best", directory) == 0
    assert f"cautions: {json.dumps([sentence], ensure_ascii=False)}\n" in capsys.readouterr().out
    assert typed("best", directory, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cautions"] == [sentence]
    assert (directory / LEDGER).read_bytes() == before  # nobody has looked at audit


def test_best_asks_the_selection_that_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = planted(tmp_path / "s", objective="val")
    (directory / TRIALS).mkdir()
    for i in range(N):
        np.save(trial_stem(directory, i).with_suffix(f".{LOSSES}"), [1.0 + i, 1.1 + i])
    for rule, names in {"val_loss": [], "one_se_margin": [MARGIN]}.items():
        assert typed("best", directory, "--selection", rule, "--json") == 0
        said = json.loads(capsys.readouterr().out).get("cautions", [])
        assert [text.split()[3] for text in said] == names


@pytest.mark.slow
def test_the_report_says_it_once(tmp_path: Path) -> None:
    page = write_report([planted(tmp_path / "s")], tmp_path / "report.html").read_text()
    assert page.count("Do not trust agn here: its sign is not the same") == 1


def test_compare_counts_the_searches(tmp_path: Path) -> None:
    folders = [planted(tmp_path / f"agn-{seed}", seed=seed) for seed in range(4)]
    folders.append(planted(tmp_path / "agn-4", float, seed=4))
    others = [planted(tmp_path / f"val-{seed}", objective="val", seed=seed) for seed in range(5)]
    comparison = compare([*folders, *others])
    named = ", ".join(map(str, folders[:3]))
    clause = (
        f"do not trust agn in 4 of 5 searches with it ({named}, …): its sign is not the same on "
        "all trials and on the better-fitted half"
    )
    assert clause in comparison.notes
    assert f" {clause}" in compare_page(comparison, 1000)
    assert clause in comparison_data(comparison)["notes"]
    assert cautions([read(path) for path in others]) == []
