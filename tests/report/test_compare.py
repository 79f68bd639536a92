"""The page of `compare`: its verdict in every case, its tables, what it says to type, its JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from analysis.searches import AGN, Made, matrix, random_trials, search

from hpogen.analysis.comparison import Comparison, compare
from hpogen.analysis.contrasts import fewest_pairs
from hpogen.report.compare import compare_page, comparison_data
from hpogen.report.compare_figures import difference, p_value
from hpogen.report.compare_verdict import verdict

FOUR: dict[str, Any] = {
    "cmaes__agn": {"searcher": "cmaes", "objective": AGN},
    "cmaes__val": {"searcher": "cmaes"},
    "random__agn": {"objective": AGN},
    "random__val": {},
}


def pairs(home: Path, *differences: float, base: float = 0.9) -> Comparison:
    """Two arms with one trial each; the second's audit accuracy is that much lower."""
    for seed, gap in enumerate(differences):
        search(home / f"A__seed-{seed}", [Made(0.5, base)], seed=seed, objective=AGN)
        search(home / f"B__seed-{seed}", [Made(0.5, round(base - gap, 6))], seed=seed)
    return compare([home], "A - B")


def test_what_is_not_separable_is_called_so_with_the_evidence(tmp_path: Path) -> None:
    found = pairs(tmp_path, 0.01, -0.01, 0.02, -0.015, 0.0, 0.005, 0.001, -0.003)
    assert verdict(found) == (
        "A: audit error 10.0 %; B: audit error 10.1 %; baseline 'default' 10.0 %. "
        "Over 8 search seeds the two are not separable (difference −0.1 points, "
        "95 % interval −1.1 to +0.8, p 0.812)."
    )


def test_what_is_separable_is_named(tmp_path: Path) -> None:
    found = pairs(tmp_path, 0.01, 0.02, 0.03, 0.01, 0.02, 0.04, 0.01, 0.02)
    assert verdict(found).endswith(
        "Over 8 search seeds A is better (difference −2.0 points, 95 % interval −3.0 to −1.3, "
        "p 0.008)."
    )


def test_too_few_seeds_are_said_to_be_too_few(tmp_path: Path) -> None:
    assert verdict(pairs(tmp_path, 0.01, 0.02, 0.03, 0.01)).endswith(
        "Over 4 search seeds the two are not separable (difference −1.8 points, p 0.125). "
        "So few cannot be: 0.125 is the smallest p they can give. "
        "6 search seeds or more can be separable."
    )


def test_equal_answers_are_said_to_be_equal(tmp_path: Path) -> None:
    assert verdict(pairs(tmp_path, 0.0, 0.0, 0.0)).endswith(
        "Over 3 search seeds the two are not separable: their answers are equally good in each."
    )


def test_arms_that_share_no_seed_are_said(tmp_path: Path) -> None:
    search(tmp_path / "A__seed-0", [Made()], seed=0, objective=AGN)
    search(tmp_path / "B__seed-1", [Made()], seed=1)
    text = verdict(compare([tmp_path]))
    assert text.endswith("No two arms share a search seed: nothing can be paired.")


def test_one_seed_shows_nothing_but_what_was_chosen(tmp_path: Path) -> None:
    assert verdict(pairs(tmp_path, 0.02)) == (
        "A: chose lr 0.01, momentum 0.6: audit error 10.0 %; B: chose lr 0.01, momentum 0.6: "
        "audit error 12.0 %; baseline 'default' 11.0 %. "
        "One search seed does not show which of them is better. "
        "6 search seeds or more can be separable."
    )


def test_so_many_seeds_as_are_said_to_be_enough_are_enough(tmp_path: Path) -> None:
    assert [fewest_pairs(n) for n in (1, 3, 6, 28)] == [6, 7, 8, 11]
    assert verdict(pairs(tmp_path / "6", *[0.01] * 6)).startswith("A: ")
    assert "Over 6 search seeds A is better" in verdict(pairs(tmp_path / "6", *[0.01] * 6))
    assert "not separable" in verdict(pairs(tmp_path / "5", *[0.01] * 5))
    tied = verdict(pairs(tmp_path / "7", *[0.01] * 5, 0.0, 0.0))
    assert tied.endswith("6 search seeds or more with unequal answers can be separable.")


def test_one_arm_has_nothing_beside_it(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        search(tmp_path / f"val__seed-{seed}", [Made(0.5, 0.9)], seed=seed)
    found = compare([tmp_path])
    assert verdict(found) == (
        "val: audit error 10.0 %; baseline 'default' 10.0 %. That is over 3 search seeds. "
        "There is no second arm to compare it with."
    )
    assert not any("contrast" in line for line in compare_page(found, 100))


def test_many_arms_without_a_declared_contrast(tmp_path: Path) -> None:
    text = verdict(compare([matrix(tmp_path, 3, FOUR)]))
    assert "Of 6 pairs of arms none is separable (p after Holm's correction above 0.05)." in text
    assert text.endswith(
        "So few search seeds cannot separate so many arms: declare a primary contrast. With one, "
        "6 search seeds or more can be separable; without, 8 search seeds or more."
    )


def test_of_many_arms_those_that_are_apart_are_named(tmp_path: Path) -> None:
    for seed in range(10):
        for arm, audit in {"good": 0.9, "also": 0.9, "bad": 0.7}.items():
            alpha = {"good": 0.1, "also": 0.2, "bad": 0.3}[arm]
            trial = Made(0.5, audit + ((seed * 7 + len(arm)) % 5) / 1000)
            objective = {**AGN, "alpha": alpha}
            search(tmp_path / f"{arm}__seed-{seed}", [trial], seed=seed, objective=objective)
    text = verdict(compare([tmp_path]))
    assert text.startswith(
        "also: audit error 9.8 %; good: audit error 9.8 %; bad: audit error 29.8"
    )
    assert text.endswith(
        "Of 3 pairs of arms 2 are separable after Holm's correction, better one first: "
        "also and bad; good and bad."
    )


def test_several_tasks_are_said(tmp_path: Path) -> None:
    for t in (0, 1):
        task = {"dataset": {"name": "digits", "validation": 400, "seed": t}}
        for seed in (0, 1):
            for arm, keys in {"A": {"objective": AGN}, "B": {}}.items():
                made = [Made(0.5, 0.9 - 0.01 * (arm == "B") * (t + 1))]
                search(tmp_path / f"{arm}__t{t}__seed-{seed}", made, seed=seed, task=task, **keys)
    found = compare([tmp_path])
    assert "Over 4 pairs of searches on 2 tasks the two are not separable" in verdict(found)
    text = "\n".join(compare_page(found, 120))
    assert "digits, mlp, seed 0: means over search seeds" in text
    assert "digits, mlp, seed 0 (−1.0)" in text  # where A gains least
    assert "below 10 tasks there are no rank statistics" in text


def test_without_audit_and_test_the_page_says_what_to_run(tmp_path: Path) -> None:
    for arm, objective in {"val": "val", "agn": AGN}.items():
        search(tmp_path / f"{arm}__seed-0", [Made(0.5, None)], objective=objective)
    lines = compare_page(compare([tmp_path]), 200, "hpogen")
    assert (
        "There are no audit or test figures: which arm generalizes better cannot be said"
        in lines[1]
    )
    assert f" next     hpogen retrain {tmp_path}" in lines
    assert any("task.dataset.audit" in line for line in lines)


def test_answers_without_figures_are_named(tmp_path: Path) -> None:
    matrix(tmp_path, 3)
    bare = search(tmp_path / "val__seed-7", [Made(0.1, None)], seed=7, stop={"trials": 12})
    lines = compare_page(compare([tmp_path]), 200)
    assert f" no audit error of {bare}: left out of the contrasts" in lines


def over_tasks(home: Path, *gaps: float) -> str:
    """What is said of the ranks of three arms on ten tasks, with errors that far apart."""
    for t in range(10):
        task = {"dataset": {"name": "digits", "validation": 400, "seed": t}}
        for i, gap in enumerate(gaps):
            made = [Made(0.5, round(0.9 - gap + 0.01 * ((t + i) % 3), 4))]
            objective = {**AGN, "alpha": 0.1 * (i + 1)}
            search(home / f"{'ABC'[i]}__t{t}", made, task=task, objective=objective)
    text = " ".join(" ".join(compare_page(compare([home]), 100)).split())
    return text[text.index("average ranks") :]


def test_ranks_over_tasks_in_words(tmp_path: Path) -> None:
    apart = over_tasks(tmp_path / "apart", 0.0, 0.1, 0.2)
    assert apart.startswith(
        "average ranks over 10 tasks: A 1.00, B 2.00, C 3.00. Friedman p 4.5e-5"
    )
    assert (
        "critical difference 1.05 (Nemenyi, 0.05): not separable from one another: A = B; B = C"
        in apart
    )
    assert "(Nemenyi, 0.05): no two are separable" in over_tasks(tmp_path / "alike", 0.0, 0.0, 0.0)


def test_no_answer_at_all_is_one_line_for_each_study(tmp_path: Path) -> None:
    folders = [search(tmp_path / f"val__seed-{s}", [], seed=s) for s in (0, 1)]
    lines = compare_page(compare([tmp_path]), 200)
    assert lines[1] == " There is no answer yet: no trial has finished at the largest budget."
    for folder in folders:
        assert f" {folder}: no trial has finished at the largest budget: left out" in lines
    assert f" next     hpogen resume {tmp_path}" in lines
    alone = compare_page(compare(folders), 200)
    assert f" next     hpogen resume {folders[0]}" in alone


def test_the_next_command_can_be_typed(tmp_path: Path) -> None:
    home = tmp_path / "a folder"
    lines = compare_page(compare([matrix(home, 2)]), 100, "hpogen")
    assert lines[-1].strip() == f"hpogen report {shlex.quote(str(home))}"


def test_the_tables_hold_what_was_found(tmp_path: Path) -> None:
    found = compare([matrix(tmp_path, 6, FOUR)], "cmaes__agn - cmaes__val")
    text = "\n".join(compare_page(found, 160))
    [task] = found.tasks
    for row in task.rows:
        assert row.truth is not None and row.truth.sd is not None
        [line] = [x for x in text.splitlines() if x.startswith(f" {row.arm} ") and "25.0 %" in x]
        assert f"  6  {100 * row.truth.mean:.1f} % ± {100 * row.truth.sd:.1f}  " in line
        assert line.split()[-5:-2] == ["48", "48", "24.0"]
    for label in ("baseline 'default'", "best of 4 restarts of random__val"):
        assert label in text
    oracles = [y.label for y in task.yardsticks if y.kind == "oracle"]
    assert len(oracles) == 2 and all(label.startswith("oracle: ") for label in oracles)
    assert all(label in text for label in oracles)
    assert "cmaes__agn − cmaes__val (primary)" in text
    [line] = [x for x in text.splitlines() if "(primary)" in x]
    primary = found.contrasts[0]
    assert f"  {primary.p:.3f}  0.031     –     " in line  # smallest of 6 pairs; no Holm
    assert f"{primary.wins}/{primary.ties}/{primary.losses}" in line
    assert "Of 5 other pairs of arms none is separable" in verdict(found)


def test_val_loss_and_the_terms_of_objectives_stand_before_other_metrics(tmp_path: Path) -> None:
    matrix(tmp_path, 2)
    [task] = compare([tmp_path]).tasks
    rules = [rule.rule for rule in task.validity]
    assert rules == ["agn+val (α 0.1)", "val", "val_loss", "agn", "val_accuracy"]


def test_the_share_of_the_best_stands_beside_chance(tmp_path: Path) -> None:
    found = compare([matrix(tmp_path, 2)])
    rule = found.tasks[0].validity[0]
    overlap = rule.overlap[10]
    assert overlap is not None
    [line] = [x for x in compare_page(found, 200) if x.startswith(f" {rule.rule}  ") and "(83" in x]
    assert f"  {100 * overlap.mean:.1f} % (83.3 %)  " in line  # of 12 trials


@pytest.mark.parametrize("width", [70, 80, 100, 140])
def test_columns_give_way_to_the_terminal(tmp_path: Path, width: int) -> None:
    lines = compare_page(compare([matrix(tmp_path, 3)]), width)
    fixed = [line for line in lines if str(tmp_path) not in line]
    assert max(map(len, fixed)) <= width


def test_what_goes_to_programs(tmp_path: Path) -> None:
    matrix(tmp_path, 3)
    search(tmp_path / "val__seed-9", [], seed=9)
    found = compare([tmp_path])
    data = json.loads(json.dumps(comparison_data(found), allow_nan=False))
    assert data["verdict"] == verdict(found)
    assert data["contrasts"][0]["separable"] is found.contrasts[0].separable
    assert data["unanswered"] == [str(tmp_path / "val__seed-9")]
    row = data["tasks"][0]["rows"][0]
    assert row["answers"][0]["config"].keys() == {"lr", "momentum"}
    assert len(row["curves"][0]["x"]) == len(row["curves"][0]["median"])
    assert data["tasks"][0]["validity"][0]["overlap"].keys() == {"5", "10"}


def test_a_loss_has_no_percents(tmp_path: Path) -> None:
    for arm, objective in {"val": "val", "agn": AGN}.items():
        for seed in (0, 1):
            made = [Made(0.5, None, audit_loss=0.412 + 0.1 * (arm == "agn"))]
            search(tmp_path / f"{arm}__seed-{seed}", made, seed=seed, objective=objective)
    text = "\n".join(compare_page(compare([tmp_path]), 120))
    assert "val: audit loss 0.412" in text and "difference +0.100" in text
    assert "points" not in text


def test_how_numbers_are_written() -> None:
    of = "audit error"
    assert [difference(x, of) for x in (-0.0123, 0.0, 0.0004, -0.0004, 0.5)] == [
        "−1.2",
        "0.0",
        "0.0",
        "0.0",
        "+50.0",
    ]
    assert difference(-0.0412, "audit loss") == "−0.0412"
    assert [p_value(p) for p in (1.0, 0.0312, 0.00005)] == ["1.000", "0.031", "5.0e-5"]


def test_running_studies_are_said(tmp_path: Path) -> None:
    for seed in (0, 1):
        for arm, keys in {"A": {"objective": AGN}, "B": {}}.items():
            trials = random_trials(seed)
            search(tmp_path / f"{arm}__seed-{seed}", trials, seed=seed, ended=False, **keys)
    text = " ".join(" ".join(compare_page(compare([tmp_path]), 100)).split())
    assert "4 of 4 studies go on or were stopped" in text and "these are the figures so far" in text


def test_of_many_arms_the_page_has_those_with_the_reference(tmp_path: Path) -> None:
    home = matrix(tmp_path / "m", 2)
    found = compare([home])
    one = found.contrasts[0]
    arms = tuple(f"arm{i}" for i in range(9))
    many = tuple(
        dataclasses.replace(one, first=a, second=b, primary=False, p_holm=1.0)
        for a, b in itertools.combinations(arms, 2)
    )
    page = compare_page(dataclasses.replace(found, arms=arms, primary=None, contrasts=many), 200)
    text = " ".join(" ".join(page).split())
    assert "28 more, between other arms than arm0, with --json" in text
    rows = [line for line in page if " − " in line]
    assert len(rows) == 8 and all(row.strip().startswith("arm0 − ") for row in rows)
    separable = tuple(dataclasses.replace(c, p_holm=0.001) for c in many[:4]) + many[4:]
    loud = compare_page(
        dataclasses.replace(found, arms=arms, primary=None, contrasts=separable), 200
    )
    assert "Of 36 pairs of arms 4 are separable after Holm's correction: see" in " ".join(loud)
