"""Whole comparisons: every figure of the table again from the ledgers, and what may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analysis.searches import AGN, Made, matrix, random_trials, search
from scipy import stats

from hpogen.analysis.answers import tests as retrainings_of
from hpogen.analysis.comparison import Comparison, compare
from hpogen.analysis.statistics import holm
from hpogen.analysis.tables import Row
from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.study.read import read

TESTED = (0.90, 0.92, 0.97)


def rows(found: Comparison) -> dict[str, Row]:
    [task] = found.tasks
    return {row.arm: row for row in task.rows}


def table(home: Path, weights: Mapping[str, float]) -> pd.DataFrame:
    """A line for each search: its answer has the least val_loss + weight · agn; read anew."""
    lines = []
    for folder in sorted(home.iterdir()):
        arm, _, seed = folder.name.partition("__seed-")
        told = [event for event in ledger.read(folder) if event["kind"] == "told"]
        trials = pd.DataFrame([event["metrics"] for event in told])
        trials["error"] = [1 - event["audit"]["accuracy"] for event in told]
        at = (trials.val_loss + weights[arm] * trials.agn).idxmin()
        spent = pd.DataFrame([event["seconds"] for event in told])
        figures = {"val_loss": trials.val_loss[at], "error": trials.error[at], "trial": at}
        lines.append(
            {
                "arm": arm,
                "seed": int(seed),
                **figures,
                "validation": 1 - trials.val_accuracy[at],
                "regret": trials.error[at] - trials.error.min(),
                "seconds": spent.total.sum(),
                "measures": spent.measures.sum(),
                "epochs": sum(event["epochs"] for event in told),
            }
        )
    return pd.DataFrame(lines)


def test_every_figure_again_from_the_ledgers(tmp_path: Path) -> None:
    found = compare([matrix(tmp_path, 6)])
    expected = table(tmp_path, {"val": 0.0, "agn": 0.1})
    assert found.arms == ("agn", "val") and found.judged_by == "audit error"
    for arm, group in expected.groupby("arm"):
        row = rows(found)[str(arm)]
        assert [given.trial for given in row.answers] == [*group.trial]
        assert [given.truth for given in row.answers] == pytest.approx([*group.error])
        pairs = {
            "truth": group.error,
            "val_loss": group.val_loss,
            "trained": group.epochs,
            "charged": group.epochs,
            "seconds": group.seconds,
        }
        for name, values in pairs.items():
            summary = getattr(row, name)
            assert summary.n == 6
            assert summary.mean == pytest.approx(values.mean())
            assert summary.sd == pytest.approx(values.std())
        assert row.measures_share == pytest.approx(group.measures.sum() / group.seconds.sum())
        assert row.regret is not None and row.meta_overfitting is not None
        assert row.regret.mean == pytest.approx(group.regret.mean())
        assert row.meta_overfitting.mean == pytest.approx((group.error - group.validation).mean())
        assert {c.axis for c in row.curves} == {"epochs", "seconds"}
        assert row.curves[0].median[-1] == pytest.approx(group.error.median())


def test_the_contrast_again_from_the_ledgers(tmp_path: Path) -> None:
    found = compare([matrix(tmp_path, 6)], "val - agn")
    pivot = table(tmp_path, {"val": 0.0, "agn": 0.1}).pivot(
        index="seed", columns="arm", values="error"
    )
    [contrast] = found.contrasts
    d = (pivot.val - pivot.agn).to_numpy()
    assert (contrast.first, contrast.second, contrast.primary) == ("val", "agn", True)
    assert contrast.difference == pytest.approx(d.mean())
    assert contrast.effect == pytest.approx(d.mean() / d.std(ddof=1))
    flips = np.array(np.meshgrid(*[[1, -1]] * 6)).reshape(6, -1)
    means = np.abs(flips.T @ d) / 6
    assert contrast.p == pytest.approx((means >= abs(d.mean()) - 1e-12).mean())
    assert contrast.p_holm is None and contrast.smallest_p == 2 / 64


def test_without_a_primary_contrast_holm_is_over_all_pairs(tmp_path: Path) -> None:
    more = {"objective": {**AGN, "alpha": 1.0}}
    arms: dict[str, Any] = {"val": {}, "agn": {"objective": AGN}, "more": more}
    found = compare([matrix(tmp_path, 3, arms)])
    assert found.primary is None and len(found.contrasts) == 3
    assert [c.p_holm for c in found.contrasts] == holm([c.p for c in found.contrasts])
    assert compare([tmp_path], "more - val").contrasts[0].primary


def test_validity_is_averaged_over_seeds(tmp_path: Path) -> None:
    found = compare([matrix(tmp_path, 3)])
    [task] = found.tasks
    rules = {rule.rule: rule for rule in task.validity}
    assert [rule.rule for rule in task.validity] == [
        "agn+val (α 0.1)",
        "val",
        "val_loss",
        "agn",
        "val_accuracy",
    ]
    by_seed = []
    for seed in range(3):
        values = []
        for arm in ("agn", "val"):
            told = ledger.read(tmp_path / f"{arm}__seed-{seed}")[13:]
            values.append(
                stats.spearmanr(
                    [event["metrics"]["val_loss"] for event in told],
                    [-event["audit"]["accuracy"] for event in told],
                ).statistic
            )
        by_seed.append(np.mean(values))
    spearman = rules["val"].spearman
    assert spearman is not None and spearman.n == 3
    assert spearman.mean == pytest.approx(np.mean(by_seed))
    assert set(task.validity_by_arm) == {"agn", "val"}


def test_ten_tasks_have_a_critical_difference(tmp_path: Path) -> None:
    bad = {"objective": {**AGN, "alpha": 0.2}}
    arms: dict[str, Any] = {"agn": {"objective": AGN}, "bad": bad, "val": {}}
    for t in range(10):
        task = {"dataset": {"name": "digits", "validation": 400, "seed": t}}
        for i, (arm, keys) in enumerate(arms.items()):
            trials = random_trials(100 * t + 10 * i, 4, shift=0.1 * (arm == "bad"))
            search(tmp_path / f"{arm}__t{t}", trials, task=task, **keys)
    found = compare([tmp_path], "bad - val")
    critical = found.critical_difference
    assert critical is not None and critical.tasks == 10 and len(found.tasks) == 10
    means = {
        arm: [
            row.truth.mean
            for task in found.tasks
            for row in task.rows
            if row.arm == arm and row.truth
        ]
        for arm in found.arms
    }
    ranks = stats.rankdata(np.column_stack([*means.values()]), axis=1).mean(0)
    assert critical.ranks == pytest.approx(dict(zip(means, ranks, strict=True)))
    primary = found.contrasts[0]
    assert primary.separable and primary.difference > 0.05
    assert primary.wilcoxon_p == pytest.approx(stats.wilcoxon(means["bad"], means["val"]).pvalue)
    fewer = [path for path in tmp_path.iterdir() if not path.name.endswith("__t9")]
    assert compare(fewer, "bad - val").critical_difference is None


def test_retrainings_are_averaged_never_counted(tmp_path: Path) -> None:
    matrix(tmp_path, 2)
    for folder in tmp_path.iterdir():
        assert retrainings_of(read(folder)) == []
        [row] = compare([folder]).tasks[0].rows
        config = dict(row.answers[0].config)
        label = f"trial-{row.answers[0].trial}" if row.answers[0].trial else "baseline-default"
        search(folder / "retrain" / label, [Made(audit=a, config=config) for a in TESTED])
        if label != "baseline-default":  # whose figures are not the answer's
            search(folder / "retrain" / "baseline-default", [Made(audit=0.5)])
        replicate(folder / "retrain" / label)
        assert [run.error for run in retrainings_of(read(folder))] == pytest.approx(
            [0.10, 0.08, 0.03]
        )
    found = compare([tmp_path])
    assert found.not_retrained == ()
    for row in rows(found).values():
        assert row.test is not None and row.test.n == 2
        assert row.test.mean == pytest.approx(0.07) and row.test.sd == pytest.approx(0)
    assert found.judged_by == "audit error"


def replicate(directory: Path) -> None:
    """Make the trials of one configuration its replicates."""
    events = ledger.read(directory)
    for event in events:
        if event["kind"] == "asked":
            event["replicate"] = event["trial"]
    lines = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (directory / ledger.LEDGER).write_bytes(b"".join(lines))


def without_audit(home: Path, loss: float | None = None) -> Path:
    for arm, objective in {"val": "val", "agn": AGN}.items():
        for seed in (0, 1, 2):
            shift = 0.1 * (arm == "agn") + 0.01 * seed
            own = None if loss is None else loss + shift
            trials = [Made(0.5 + shift, None, audit_loss=own), Made(0.9, None, audit_loss=own)]
            search(home / f"{arm}__seed-{seed}", trials, seed=seed, objective=objective)
    return home


def test_the_audit_loss_serves_where_there_is_no_accuracy(tmp_path: Path) -> None:
    found = compare([without_audit(tmp_path, loss=0.6)])
    assert found.judged_by == "audit loss"
    assert found.contrasts[0].difference == pytest.approx(0.1)
    row = rows(found)["val"]
    assert row.truth is not None and row.truth.mean == pytest.approx(0.61)
    assert row.meta_overfitting is not None and row.meta_overfitting.mean == pytest.approx(0.1)


def test_without_audit_and_test_nothing_is_judged(tmp_path: Path) -> None:
    found = compare([without_audit(tmp_path)])
    assert found.judged_by is None and found.contrasts == ()
    row = rows(found)["val"]
    assert row.truth is None and row.overtuning is None and row.curves == ()
    assert row.val_loss is not None and row.val_loss.mean == pytest.approx(0.51)
    assert len(found.not_retrained) == 6 and found.tasks[0].validity == ()


def test_without_audit_the_retrained_nets_judge(tmp_path: Path) -> None:
    without_audit(tmp_path)
    for folder in tmp_path.iterdir():
        accuracy = 0.9 if folder.name.startswith("val") else 0.8
        config = {"lr": 0.01, "momentum": 0.6}  # the default is the answer
        search(folder / "retrain" / "baseline-default", [Made(audit=accuracy, config=config)])
    found = compare([tmp_path], "agn - val")
    assert found.judged_by == "test error"
    assert found.contrasts[0].difference == pytest.approx(0.1)


def test_a_study_without_an_answer_is_left_out_and_named(tmp_path: Path) -> None:
    matrix(tmp_path, 3)
    nothing = search(tmp_path / "agn__seed-3", [], seed=3, objective=AGN, stop={"trials": 12})
    small = [Made(budget=2)] * 12
    low = search(tmp_path / "val__seed-3", small, seed=3, stop={"trials": 12})
    found = compare([tmp_path])
    assert found.unanswered == (nothing, low) and found.unfinished == (nothing,)
    assert found.contrasts[0].pairs == 3 and len(found.studies) == 8


def test_searches_without_a_partner_are_said(tmp_path: Path) -> None:
    matrix(tmp_path, 3)
    search(tmp_path / "val__seed-7", random_trials(1), seed=7)
    found = compare([tmp_path], "agn - val")
    assert found.contrasts[0].pairs == 3
    assert found.notes == ("searches of the primary contrast without a partner, left out: 1",)


def test_a_study_that_is_still_written_is_compared_so_far(tmp_path: Path) -> None:
    matrix(tmp_path, 3)
    path = tmp_path / "val__seed-1" / ledger.LEDGER
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 40])  # a torn last line
    found = compare([tmp_path])
    assert found.unfinished == (tmp_path / "val__seed-1",)
    assert rows(found)["val"].answers[1].trained == 44


def test_a_primary_contrast_of_no_arm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"arm 'vol' is unknown; did you mean 'val'\? \(agn, val\)"):
        compare([matrix(tmp_path, 1)], "vol - agn")
