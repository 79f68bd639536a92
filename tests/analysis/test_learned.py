"""Objectives that are learned from planted studies, against slow twins and scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from analysis.learned import LABELS, planted, task, trials, without
from analysis.rescored import IMAGES, made_study, made_trials
from analysis.searches import Made, search
from numpy.typing import NDArray
from scipy import stats

from hpogen.analysis.learned import (
    PENALTIES,
    SPARSITY,
    Fitted,
    _rows,
    boosted,
    equation_7,
    learn,
    regressor,
)
from hpogen.analysis.learned_trials import Ranked, collect
from hpogen.analysis.rescoring import ALONE, rescore
from hpogen.errors import UserError
from hpogen.spec.learned import Boosted, LearnedObjective, scaled
from hpogen.study.read import Folder, read, read_all

Array = NDArray[np.float64]


def test_the_planted_sign_comes_back(tmp_path: Path) -> None:
    studies = planted(tmp_path)
    found = learn(studies)
    assert found.measures == ["agn", "kappa", "train_accuracy", "train_loss", "zeta"]
    assert found.clear("agn") == {"+": found.tasks} and found.turning() == []
    ridge = Fitted(collect(studies)).model("ridge, penalty 1", ())
    assert not isinstance(ridge, Boosted)
    assert ridge.coefficients["agn"] > 4 * max(
        abs(x) for name, x in ridge.coefficients.items() if name != "agn"
    )
    for one in found.left_out:
        assert one.told is not None and one.told > 0.8
        assert [*one.validation] == [LABELS] and one.trials == 24
    assert found.beats(LABELS) and found.beats(0) and not found.beats(LABELS + 1)


def test_a_measure_that_turns_round_is_told(tmp_path: Path) -> None:
    found = learn(planted(tmp_path, (1, -1, 1)))
    first, second, third = found.tasks
    assert found.clear("agn") == {"+": [first, third], "-": [second]}
    assert found.turning() == ["agn"]
    assert found.left_out[1].told is not None and found.left_out[1].told < 0


def closed_form(tasks: list[Ranked], penalty: float) -> tuple[Array, float]:
    """Ridge with an intercept that is not penalised, each task of the same weight."""
    x = np.concatenate([one.ranks for one in tasks])
    y = np.concatenate([one.target - one.target.mean() for one in tasks])
    w = np.concatenate([np.full(len(one), 1 / len(one)) for one in tasks])
    w = w / w.mean()
    xm, ym = (w @ x) / w.sum(), (w @ y) / w.sum()
    gram = (w[:, None] * (x - xm)).T @ (x - xm) + penalty * np.eye(x.shape[1])
    coefficients = np.linalg.solve(gram, (w * (y - ym)) @ (x - xm))
    return coefficients, float(ym - xm @ coefficients)


def twin(tasks: list[Ranked], penalty: float, judged: Ranked) -> tuple[float, Array]:
    """The rank correlation with a task's target of a ridge fitted to the others."""
    coefficients, intercept = closed_form(tasks, penalty)
    predicted = judged.ranks @ coefficients + intercept
    return float(stats.spearmanr(predicted, judged.target).statistic), predicted


def test_leaving_tasks_out_is_what_a_slow_twin_does(tmp_path: Path) -> None:
    studies = planted(tmp_path, (1, -1, 1, 1), n=15)
    found, trials = learn(studies), collect(studies)
    groups = [group[0] for group in trials.tasks.values()]
    for k, out in enumerate(groups):
        rest = [one for i, one in enumerate(groups) if i != k]
        inner = {
            penalty: np.mean([twin([o for o in rest if o is not r], penalty, r)[0] for r in rest])
            for penalty in PENALTIES
        }
        penalty = max(PENALTIES, key=lambda p: inner[p])
        _, predicted = twin(rest, penalty, out)
        own = found.left_out[k].others["ridge"]
        assert own.correlation == pytest.approx(stats.spearmanr(predicted, out.truth).statistic)
        assert own.error == out.truth[np.argmin(predicted)]
        assert own.regret == own.error - out.truth.min()


def test_the_trees_are_scikit_learns(tmp_path: Path) -> None:
    trials = collect(planted(tmp_path, (1, -1, -1)))
    studies = [one for group in trials.tasks.values() for one in group]
    model = boosted(studies, trials.measures)
    theirs = regressor([*model.signs.values()]).fit(*_rows(studies))
    ranks = np.random.default_rng(0).random((500, len(trials.measures)))
    ranks = np.concatenate([ranks, *(one.ranks for one in studies)])  # at thresholds, too
    again = Boosted.model_validate_json(model.model_dump_json())
    assert again == model and len(model.trees) == 60
    np.testing.assert_allclose(again.predict(ranks, ()), theirs.predict(ranks), atol=1e-12)
    assert model.signs["agn"] == -1
    risen = ranks.copy()
    risen[:, trials.measures.index("agn")] += 0.3
    assert (model.predict(risen, ()) <= model.predict(ranks, ()) + 1e-12).all()


def test_equation_7_is_least_squares(tmp_path: Path) -> None:
    studies = planted(tmp_path)
    trials = collect(studies, "gap")
    rows = [one for group in trials.tasks.values() for one in group]
    found = equation_7(rows, trials.measures)
    zeta, kappa = (trials.measures.index(name) for name in ("zeta", "kappa"))
    x = np.concatenate([one.ranks[:, [zeta, kappa]] for one in rows])
    y = np.concatenate([one.target - one.target.mean() for one in rows])
    a, b, _ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    assert found.coefficients == pytest.approx({"zeta": a, "kappa": b})
    assert SPARSITY in learn(studies, "gap").left_out[0].others


def test_a_gap_is_added_to_the_training_error(tmp_path: Path) -> None:
    studies = planted(tmp_path)
    trials = collect(studies, "gap")
    for group, study in zip(trials.tasks.values(), studies, strict=True):
        outcomes = [record.outcome for record in study.finished if record.outcome]
        unfit = [1 - outcome.metrics["train_accuracy"] for outcome in outcomes]
        audit = [1 - outcome.audit["accuracy"] for outcome in outcomes]
        np.testing.assert_allclose(group[0].unfit, unfit)
        np.testing.assert_allclose(group[0].target, np.subtract(audit, unfit))
        np.testing.assert_allclose(group[0].truth, audit)
    found = learn(studies, "gap")
    metrics = [record.outcome.metrics for record in studies[0].finished if record.outcome]
    ranks = np.column_stack([scaled([own[m] for own in metrics]) for m in found.measures])
    predicted = found.model.predict(ranks, found.measures)
    added = predicted + np.array([1 - own["train_accuracy"] for own in metrics])
    assert found.scores(metrics) == pytest.approx(added.tolist())


def test_fewer_labels_are_those_of_rescore(tmp_path: Path) -> None:
    paths = []
    for width in (8, 9):
        metrics, losses, audits = made_trials(width, 12, 100)
        given = {**IMAGES["task"], "model": {"name": "mlp", "width": width, "depth": 1}}
        paths.append(made_study(tmp_path / str(width), metrics, losses, audits, task=given))
    found = learn(read_all(paths))
    for path, one in zip(paths, found.left_out, strict=True):
        assert [*one.validation] == [50, 100]
        rows = rescore(read(path), validation=[50, 100]).labels
        expected = {row.images: row.held_out for row in rows if row.rule == ALONE.label}
        assert {n: f.error for n, f in one.validation.items()} == pytest.approx(expected)


def test_retrained_trials_are_the_rows_of_their_target(tmp_path: Path) -> None:
    studies = planted(tmp_path, (1, 1))
    for study in studies:
        configs = [record.trial.config for record in study.finished]
        home = study.directory / "retrain"
        for k, test in ((2, 0.9), (5, 0.8), (7, 0.7)):
            config = dict(configs[k])
            search(home / f"trial-{k}", [Made(audit=test, config=config)], enqueue=[config])
    again = read_all([study.directory for study in studies])
    rows = next(iter(collect(again, "retrained").tasks.values()))[0]
    every = next(iter(collect(again).tasks.values()))[0]
    np.testing.assert_allclose(rows.truth, [0.1, 0.2, 0.3])
    assert rows.target.tolist() == [0, 0.5, 1]
    np.testing.assert_array_equal(rows.ranks, every.ranks[[2, 5, 7]])  # among all trials
    assert learn(again, "retrained").judged_by == "test error"


def test_two_studies_of_a_task_are_left_out_together(tmp_path: Path) -> None:
    studies = planted(tmp_path, (1, 1))
    more = search(tmp_path / "more", trials([9], n=12), seed=1, task=task(0))
    found = learn([*studies, read(more)])
    first = found.left_out[0]
    assert (first.studies, first.trials, len(found.tasks)) == (2, 36, 2)
    grouped = collect([*studies, read(more)]).tasks.values()
    weights = _rows([one for group in grouped for one in group])[2]
    assert weights[:36].sum() == pytest.approx(30)  # 36 trials of the one task, 24 of the other
    assert weights[36:].sum() == pytest.approx(30)


def test_measures_that_are_not_shared_are_dropped_and_told(tmp_path: Path) -> None:
    first = planted(tmp_path)
    other = search(tmp_path / "other", without(trials([8]), "kappa"), task=task(9))
    found = learn([*first, read(other)])
    assert found.dropped == {"kappa": f"not in {other}"} and "kappa" not in found.measures
    assert not any("sparsity" in name for one in found.left_out for name in one.others)


def test_what_cannot_be_learned_from_is_one_line(tmp_path: Path) -> None:
    studies = planted(tmp_path)
    bare = [Made(one.val_loss, None, one.metrics) for one in trials([1])]
    unaudited = read(search(tmp_path / "bare", bare, task=task(9)))
    lacking = read(search(tmp_path / "lacking", without(trials([2]), "zeta"), task=task(8)))
    refused(r"bare: no trial can be judged \(24 without audit\)", [*studies, unaudited])
    refused(
        r"bare: no trial .*: it needs an audit \(task\.dataset\.audit\), train_loss$", [unaudited]
    )
    nothing = read(search(tmp_path / "nothing", [], task=task(7)))
    refused(r"nothing: no trial can be judged \(there are none\)", [*studies, nothing])
    refused(r"got studies of one task \(digits, mlp\)", studies[:1])
    refused("--target: target 'eror' is unknown; did you mean 'error'", studies, "eror")
    refused("--measures: val_loss reads held-out labels", studies, "error", "val_loss")
    refused("--measures: measure 'agnn' is unknown; did you mean 'agn'", studies, "error", "agnn")
    refused("no measure is left .*zeta: not in .*lacking", [*studies, lacking], "error", "zeta")
    refused("study-0: finished trials that have been retrained: got 0,", studies, "retrained")
    two = read(search(tmp_path / "two", trials([3], n=2), task=task(6)))
    refused("two: finished trials that can be judged: got 2, expected at least 3", [*studies, two])


def refused(text: str, studies: Sequence[Folder], target: str = "error", *measures: str) -> None:
    with pytest.raises(UserError, match=text) as told:
        learn(studies, target, measures)
    assert "\n" not in str(told.value)


def test_all_goes_through_json(tmp_path: Path) -> None:
    found = learn(planted(tmp_path, (1, -1)))
    assert LearnedObjective.model_validate_json(found.model_dump_json()) == found
