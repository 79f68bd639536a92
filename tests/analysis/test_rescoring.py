"""What other rules would have chosen, against brute force; what cannot be asked, in one line."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.rescored import EPOCHS, IMAGES, made_study, made_trials

from hpogen.analysis.choices import Choice
from hpogen.analysis.rescoring import ALPHAS, Rescoring, at_alpha, rescore
from hpogen.errors import UserError
from hpogen.objective import Objective, Term
from hpogen.selection.choosing import one_se_margin
from hpogen.selection.shrinking import shrunk
from hpogen.study.read import read
from hpogen.study.restate import objective_form, restated
from hpogen.study.status import best

Metrics = list[dict[str, float]]
LOG = "{terms: [{metric: val_loss}, {metric: agn, weight: 2, scale: log}]}"


def least(values: Sequence[float]) -> int:
    return min(range(len(values)), key=values.__getitem__)


def trial_of(choice: Choice | None) -> int:
    assert choice is not None and choice.trial is not None
    return choice.trial


def test_the_grid_of_alphas() -> None:
    assert len(ALPHAS) == 25
    assert (ALPHAS[0], ALPHAS[16], ALPHAS[-1]) == pytest.approx((1e-4, 1.0, 100.0))
    steps = {round(b / a, 9) for a, b in pairwise(ALPHAS)}
    assert steps == {round(10**0.25, 9)}


@pytest.mark.parametrize("seed", range(3))
def test_each_alpha_chooses_the_least_score(seed: int, tmp_path: Path) -> None:
    metrics, _, audits = made_trials(seed, 30, 20)
    home = made_study(tmp_path, metrics, audits=audits)
    found = rescore(read(home), "agn+val", scale="log", alpha=0.3)
    assert [at.alpha for at in found.alphas] == [0.0, *ALPHAS]
    for at in found.alphas:
        scores = [m["val_loss"] + at.alpha * math.log(m["agn"] / EPOCHS) for m in metrics]
        i = least(scores)
        assert at.choice.trial == i
        assert at.choice.val_loss == metrics[i]["val_loss"]
        assert at.choice.held_out == 1 - audits[i]["accuracy"]
    assert len({at.choice.trial for at in found.alphas}) > 1  # alpha matters here
    own = least([m["val_loss"] + 0.3 * math.log(m["agn"] / EPOCHS) for m in metrics])
    assert trial_of(found.asked) == own
    assert trial_of(found.own) == trial_of(found.validation) == found.alphas[0].choice.trial
    assert trial_of(found.oracle) == least([-a["accuracy"] for a in audits])
    assert found.judged_by == "audit error" and found.weighed == "agn+val (α 0.3, log)"


SELECTIONS = {
    "val_accuracy": lambda metrics, losses: [-m["val_accuracy"] for m in metrics],
    "one_se_margin": lambda metrics, losses: one_se_margin(
        [m["margin_q50"] for m in metrics], losses
    ),
    "shrunk": lambda metrics, losses: list(shrunk(metrics, losses)),
    "noise_cut": lambda metrics, losses: [m["val_loss"] for m in metrics],  # there are no curves
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_another_selection_chooses_as_best_would(selection: str, tmp_path: Path) -> None:
    metrics, losses, audits = made_trials(4, 20, 30)
    home = made_study(tmp_path, metrics, losses, audits)
    found = rescore(read(home), selection=selection)
    assert trial_of(found.asked) == least(SELECTIONS[selection](metrics, losses))
    study = read(home)
    other = restated(study, selection=selection)
    assert best(study, other)["trial"] == trial_of(found.asked)


def test_an_objective_is_scored_whatever_the_study_selects_by(tmp_path: Path) -> None:
    metrics, losses, audits = made_trials(4, 20, 30)
    home = made_study(tmp_path, metrics, losses, audits, selection="val_accuracy")
    found = rescore(read(home), "train")
    assert trial_of(found.asked) == least([m["train_loss"] for m in metrics])
    assert trial_of(found.own) == least([-m["val_accuracy"] for m in metrics])
    assert found.own.rule == "selection val_accuracy"
    assert found.weighed == "" and found.alphas == ()


def test_a_standard_scale_is_that_of_the_first_trials(tmp_path: Path) -> None:
    metrics, _, _ = made_trials(2, 30, 20)
    home = made_study(tmp_path, metrics)
    terms = "[{metric: val_loss}, {metric: agn, scale: standard}]"
    first = [m["agn"] for m in metrics[:8]]
    center = statistics.median(first)
    spread = 1.4826 * statistics.median(abs(x - center) for x in first)
    found = rescore(read(home), terms, alphas=[0.1])
    for at in found.alphas:
        scores = [m["val_loss"] + at.alpha * (m["agn"] - center) / spread for m in metrics]
        assert at.choice.trial == least(scores)


def test_alpha_keeps_signs_and_proportions() -> None:
    terms = (Term("margin_q50", -2.0), Term("val_loss", 3.0), Term("agn", 4.0, "log"))
    weighed = at_alpha(Objective(terms, "x"), 0.5)
    assert [term.weight for term in weighed.terms] == [-0.5, 3.0, 1.0]
    assert [term.metric for term in at_alpha(Objective(terms, "x"), 0).terms] == ["val_loss"]


def test_a_measure_alone_has_no_alpha_of_zero(tmp_path: Path) -> None:
    home = made_study(tmp_path, made_trials(0, 9, 20)[0])
    assert [at.alpha for at in rescore(read(home), "[{metric: agn}]", alphas=[0, 2]).alphas] == [2]


# fewer labels


def by_all_subsamples(metrics: Metrics, losses: Any, truths: list[float], size: int) -> list[float]:
    """What validation loss alone, and with the median margin, choose on every sub-sample."""
    alone, with_margin = [], []
    for drawn in combinations(range(losses.shape[1]), size):
        part = [statistics.fmean(float(own[i]) for i in drawn) for own in losses]
        margins = [m["margin_q50"] for m in metrics]
        alone.append(truths[least(part)])
        with_margin.append(truths[least([a - 0.2 * b for a, b in zip(part, margins, strict=True)])])
    return [statistics.fmean(alone), statistics.fmean(with_margin)]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_mean_over_random_subsamples_is_that_over_all(size: int, tmp_path: Path) -> None:
    metrics, losses, audits = made_trials(7, 8, 7)
    home = made_study(tmp_path, metrics, losses, audits)
    terms = "[{metric: val_loss}, {metric: margin_q50, weight: -0.2}]"
    found = rescore(read(home), terms, validation=[size], subsamples=1500)
    truths = [1 - audit["accuracy"] for audit in audits]
    expected = by_all_subsamples(metrics, losses, truths, size)
    spread = statistics.pstdev(truths)
    alone, with_margin = found.labels
    assert alone.rule == "validation loss alone"
    for row, mean in zip((alone, with_margin), expected, strict=True):
        assert row.subsamples == 1500 and row.images == size
        assert row.held_out == pytest.approx(mean, abs=4 * spread / math.sqrt(1500))
    assert abs(expected[0] - expected[1]) > 4 * spread / math.sqrt(1500)  # they can be told apart


@pytest.mark.parametrize("selection", ["one_se_margin", "shrunk", "score"])
def test_a_row_of_labels_by_hand(selection: str, tmp_path: Path) -> None:
    metrics, losses, audits = made_trials(9, 12, 40)
    home = made_study(tmp_path, metrics, losses, audits)
    objective = "[{metric: gap_loss}]" if selection == "score" else None
    found = rescore(read(home), objective, selection, validation=[10], subsamples=60, seed=5)
    alone, row = found.labels
    generator = np.random.default_rng([5, 10])
    chosen, by_loss = [], []
    for _ in range(60):
        drawn = np.sort(generator.choice(40, 10, replace=False))
        part = losses[:, drawn]
        means = part.mean(axis=1, dtype=np.float64)
        if selection == "score":
            values = [loss - m["train_loss"] for loss, m in zip(means, metrics, strict=True)]
        else:
            values = SELECTIONS[selection](metrics, part)
        chosen.append(least(values))
        by_loss.append(int(means.argmin()))
    truths, others = (
        np.array([1 - audits[i]["accuracy"] for i in numbers]) for numbers in (chosen, by_loss)
    )
    assert row.held_out == pytest.approx(truths.mean())
    assert row.interval is not None
    low, high = np.percentile(truths, [2.5, 97.5])
    assert (row.interval.low, row.interval.high) == pytest.approx((low, high))
    assert (row.better, row.worse) == ((truths < others).mean(), (truths > others).mean())
    assert row.share == chosen.count(row.trial) / 60
    assert row.share == max(chosen.count(i) for i in chosen) / 60
    assert alone.held_out == pytest.approx(others.mean())
    assert alone.better is None


def test_all_labels_choose_what_the_study_would(tmp_path: Path) -> None:
    metrics, losses, audits = made_trials(1, 12, 40)
    home = made_study(tmp_path, metrics, losses, audits)
    found = rescore(read(home), selection="one_se_margin", validation=[40, 40, 3])
    assert [row.images for row in found.labels] == [3, 3, 40, 40]
    full = {row.rule: row for row in found.labels if row.images == 40}
    for choice in (found.own, found.validation, found.asked):
        assert choice is not None
        row = full[choice.rule]
        assert (row.trial, row.share, row.subsamples) == (choice.trial, 1.0, 1)
        assert row.held_out == choice.held_out
    assert rescore(read(home), selection="one_se_margin", validation=[40, 3]) == found  # seeded


def test_nothing_is_chosen_by_the_audit(tmp_path: Path) -> None:
    """Whatever the audit says, every choice is the same; without it there is nothing to judge."""
    metrics, losses, audits = made_trials(3, 15, 25)
    turned = [{"accuracy": 1 - a["accuracy"], "loss": 9 * a["loss"]} for a in audits]
    found = [
        rescore(
            read(made_study(tmp_path / str(i), metrics, losses, audit)),
            LOG,
            validation=[5],
            subsamples=40,
        )
        for i, audit in enumerate((audits, turned, None))
    ]

    def choices(one: Rescoring) -> list[Any]:
        rules = [trial_of(choice) for choice in (one.own, one.validation, one.asked)]
        labels = [(row.rule, row.trial, row.share) for row in one.labels]
        return [rules, [at.choice.trial for at in one.alphas], labels]

    assert choices(found[0]) == choices(found[1]) == choices(found[2])
    assert trial_of(found[0].oracle) != trial_of(found[1].oracle)
    assert (found[2].oracle, found[2].judged_by) == (None, "")
    assert {row.held_out for row in found[2].labels} == {None}


def test_without_accuracies_the_audit_loss_judges(tmp_path: Path) -> None:
    metrics, _, audits = made_trials(3, 15, 25)
    home = made_study(tmp_path, metrics, audits=[{"loss": a["loss"]} for a in audits])
    found = rescore(read(home))
    assert found.judged_by == "audit loss"
    assert found.own.held_out == audits[trial_of(found.own)]["loss"]


@pytest.mark.parametrize(
    ("searcher", "adaptive"),
    [("random", False), ("grid", False), ({"name": "cmaes", "population": 4}, True)],
)
def test_what_an_adaptive_searcher_proposed_is_marked(
    searcher: Any, adaptive: bool, tmp_path: Path
) -> None:
    space = {n: {"float": [0.001, 100.0], "log": True} for n in ("lr", "weight_decay")}
    home = made_study(tmp_path, made_trials(0, 5, 9)[0], searcher=searcher, search_space=space)
    assert rescore(read(home)).adaptive == adaptive


@pytest.mark.parametrize(
    ("typed", "form"),
    [
        (("val",), {"preset": "val"}),
        (("agn+val", 2), {"preset": "agn+val", "alpha": 2.0}),
        (("agn+val",), {"preset": "agn+val", "alpha": 1.0}),
        (("agn+train", 0.5, "log"), {"preset": "agn+train", "alpha": 0.5, "scale": "log"}),
        (("[{metric: agn}]",), {"terms": [{"metric": "agn"}]}),
        (("{preset: val}",), {"preset": "val"}),
    ],
)
def test_an_objective_as_it_is_typed(typed: tuple[Any, ...], form: dict[str, Any]) -> None:
    assert objective_form(*typed) == form


def test_the_studys_own_alpha_and_scale_serve_where_none_is_typed(tmp_path: Path) -> None:
    own = {"preset": "agn+val", "alpha": 0.07, "scale": "log"}
    home = made_study(tmp_path, made_trials(0, 5, 9)[0], objective=own)
    found = rescore(read(home), "agn+train")
    assert found.asked is not None and found.asked.rule == "agn+train (α 0.07, log)"
    other = rescore(read(home), alpha=3)
    assert other.asked is not None and other.asked.rule == "agn+val (α 3, log)"
    assert rescore(read(home)).weighed == "agn+val (α 0.07, log)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "vall"}, "--objective: 'vall' is unknown; did you mean 'val'"),
        ({"objective": "["}, r"--objective: got '\['"),
        ({"objective": "agn+val", "scale": "ln"}, "--scale: scale 'ln' is unknown"),
        ({"objective": "val", "alpha": 2}, "objective.alpha: preset 'val' has no AGN term"),
        ({"objective": "[{metric: audit_loss}]"}, "audit is for analysis only"),
        ({"objective": "[{metric: audit_accuracy}]"}, "audit is for analysis only"),
        ({"selection": "audit_error"}, "audit is for analysis only"),
        ({"selection": "best"}, "selection: 'best' is unknown"),
        ({"alphas": [-1.0]}, "--alphas: got -1.0, expected a finite number of at least 0"),
        ({"alphas": [math.nan]}, "--alphas: got nan"),
        ({"objective": "[{metric: brier}]"}, "9 of 9 trials .* hpogen measure .* --add brier"),
        ({"objective": "[{metric: margin_q10}]"}, "the metric margin_q10: .* --add margin"),
        ({"objective": "[{metric: tse}]"}, r"while training: .* task\.measures: \[tse\]"),
        ({"objective": "[{metric: agn_mean}]"}, r"task\.measures: \[agn_mean\]"),
        ({"validation": [0]}, "--validation: got 0, expected 1 to 20"),
        ({"validation": [5, 21]}, "--validation: got 21, expected 1 to 20"),
        ({"validation": [5], "selection": "noise_cut"}, "needs the curves of fewer images"),
        ({"validation": [5], "selection": "val_accuracy"}, "needs val_accuracy of fewer images"),
        (
            {"validation": [5], "objective": "[{metric: gap_accuracy}]"},
            "needs gap_accuracy of fewer images",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    metrics, losses, audits = made_trials(0, 9, 20)
    for i, own in enumerate(metrics):
        own["gap_accuracy"] = i / 10
    home = made_study(tmp_path, metrics, losses, audits)
    with pytest.raises(UserError, match=said) as caught:
        rescore(read(home), **options)
    assert "\n" not in str(caught.value)


def test_some_trials_without_a_metric_are_counted(tmp_path: Path) -> None:
    metrics = made_trials(0, 9, 20)[0]
    del metrics[4]["margin_q50"], metrics[7]["margin_q50"]
    with pytest.raises(UserError, match=r"2 of 9 trials \(the first: 4\) do not have .*margin_q50"):
        rescore(read(made_study(tmp_path, metrics)), "[{metric: margin_q50}]")


def test_losses_that_are_not_there(tmp_path: Path) -> None:
    home = made_study(tmp_path, made_trials(0, 9, 20)[0])
    assert rescore(read(home)).validation_images is None
    with pytest.raises(UserError, match=r"00000\.val_losses\.npy: is missing"):
        rescore(read(home), validation=[5])


def test_folders_that_cannot_be_rescored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        rescore(read(tmp_path / "nothing"))
    empty = made_study(tmp_path / "a", [])
    with pytest.raises(UserError, match="no trial has finished at the largest budget: nothing"):
        rescore(read(empty))
    with pytest.raises(UserError, match="studies of a matrix"):
        rescore(read(tmp_path / "a"))


def test_sums_are_refused_where_trials_had_patience(tmp_path: Path) -> None:
    """As a study refuses them: trials of different numbers of epochs have other sums."""
    metrics, _, audits = made_trials(0, 5, 20)
    task = {**IMAGES["task"], "patience": 2}
    home = made_study(tmp_path, metrics, audits=audits, task=task)
    with pytest.raises(
        UserError, match=r"objective: 'agn' is a sum over the epochs, of which task"
    ):
        rescore(read(home), "agn+val", alpha=0.3)
    assert rescore(read(home), "val").asked is None
