"""What an answer is worth: intervals, the correction for the choice, and what is not known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from analysis.studies import made, study
from numpy.typing import NDArray
from scipy import stats

from hpogen.analysis.figure import Figure, bias_corrected, figure, wilson
from hpogen.analysis.statistics import Interval
from hpogen.record import folder, ledger
from hpogen.record.looks import count_looks
from hpogen.report.figure import figure_text, looks_text
from hpogen.selection.evidence import HITS, LOSSES
from hpogen.study.read import read
from hpogen.study.standing import chosen

Array = NDArray[np.float64]
ROOT = Path(__file__).parents[2]


def worth(directory: Path) -> Figure | str:
    found = read(directory)
    answer = chosen(found)
    assert answer is not None
    return figure(found, answer)


def keep(directory: Path, suffix: str, rows: Array) -> None:
    """As the training keeps it beside each trial's curve."""
    (directory / folder.TRIALS).mkdir(exist_ok=True)
    for trial, row in enumerate(rows):
        np.save(folder.trial_stem(directory, trial).with_suffix(f".{suffix}"), row)


def unaudited(directory: Path, losses: Array) -> Path:
    """A study that chooses by validation loss, without audit."""
    trials = [({"lr": float(i)}, {"val_loss": float(x)}, {}) for i, x in enumerate(losses.mean(1))]
    study(directory, trials)
    keep(directory, LOSSES, losses)
    return directory


def test_wilsons_interval_is_the_textbooks() -> None:
    """(p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)"""
    p, n, z = 0.056, 250, stats.norm.isf(0.025)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = wilson(p, n)
    assert (found.low, found.high) == pytest.approx(
        ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    )


def test_by_audit_there_is_wilsons_interval_and_the_optimism_in_words(tmp_path: Path) -> None:
    trials = [made({"lr": 0.1}, 0.99, 0.9, val_loss=0.1, val_accuracy=0.93)]
    found = worth(study(tmp_path / "s", trials, audit=200))
    assert isinstance(found, Figure)
    assert (found.by, found.samples, found.interval) == ("audit", 200, wilson(0.1, 200))
    assert found.optimism == pytest.approx(-0.03)
    assert figure_text(found) == (
        "error 10.0 % (95 %: 6.6 to 14.9 %), by 200 audit samples; validation says 7.0 %, "
        "3.0 points too good"
    )


def test_without_their_number_audit_samples_give_no_interval(tmp_path: Path) -> None:
    trials = [made({"lr": 0.1}, 0.99, 0.9, val_loss=0.1)]
    text = figure_text(worth(study(tmp_path / "s", trials)))
    assert text == "error 10.0 %, by audit; no interval: the number of audit images is not kept"
    keep(tmp_path / "s", "audit_hits.npy", np.ones((1, 50)))
    found = worth(tmp_path / "s")
    assert isinstance(found, Figure) and found.interval == wilson(0.1, 50)


def test_without_audit_validation_is_corrected_for_the_choice(tmp_path: Path) -> None:
    """The trials are equally good: the least of 20 means is too good by chance alone."""
    losses = np.random.default_rng(0).exponential(size=(20, 60))
    directory = unaudited(tmp_path / "s", losses)
    found = worth(directory)
    assert isinstance(found, Figure) and found.interval is not None
    assert (found.what, found.by, found.samples) == ("loss", "validation", 60)
    assert found.validation == pytest.approx(losses.mean(1).min())
    assert found.optimism is not None and found.optimism < -0.1
    assert found.interval.low < 1 < found.interval.high
    assert "too good; a loss: each validation sample's error is not kept" in figure_text(found)

    keep(directory, HITS, losses < 2)
    error = worth(directory)
    assert isinstance(error, Figure)
    assert (error.what, error.lacking) == ("error", "")
    assert error.validation == pytest.approx((losses[losses.mean(1).argmin()] >= 2).mean())


def test_the_estimate_is_that_of_every_bootstrap_sample() -> None:
    """Three samples have 27: all of them by hand, the estimate from many at random."""
    judged = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.9]])
    means = []
    for drawn in np.ndindex(3, 3, 3):
        outside = [k for k in range(3) if k not in drawn]
        if outside:
            best = int(judged[:, list(drawn)].mean(axis=1).argmin())
            means.append(judged[best, outside].mean())
    value, _ = bias_corrected(judged, lambda d: int(judged[:, d].mean(axis=1).argmin()), 4000)
    assert value == pytest.approx(np.mean(means), abs=4 * np.std(means) / np.sqrt(4000))


def test_for_a_choice_that_validation_does_not_move_it_is_the_plain_interval() -> None:
    judged = np.random.default_rng(1).random((3, 400))
    value, interval = bias_corrected(judged, lambda _: 1, 2000)
    half = 1.96 * judged[1].std() / 20
    assert value == pytest.approx(judged[1].mean(), abs=half / 10)
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)


def test_the_corrected_interval_holds_the_truth_where_the_naive_one_does_not() -> None:
    """`scripts/bench/honest_figure.py` in small: 30 searches among 15 trials, 60 samples."""
    generator, corrected, naive = np.random.default_rng(2), 0, 0
    for _ in range(30):
        truth = 0.25 + 0.05 * np.abs(generator.standard_normal(15))
        wrong = generator.random((15, 60)) < truth[:, None]
        weights, answer = wrong.astype(float), int(wrong.mean(1).argmin())
        _, interval = bias_corrected(
            wrong, lambda d, w=weights: int((w @ np.bincount(d, np.ones(60), 60)).argmin()), 100
        )
        assert interval is not None
        corrected += holds(interval, truth[answer])
        naive += holds(wilson(float(wrong[answer].mean()), 60), truth[answer])
    assert corrected >= 27 > naive + 3


def holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    nothing = study(tmp_path / "n", [({"lr": 0.1}, {"train_loss": 0.2}, {})])
    assert str(figure(read(nothing), read(nothing).history.records[0])).startswith(
        "there is nothing to judge by: no audit, and no validation"
    )
    losses = np.random.default_rng(0).random((2, 5))
    lost = unaudited(tmp_path / "l", losses)
    folder.trial_stem(lost, 1).with_suffix(f".{LOSSES}").unlink()
    assert str(worth(lost)).endswith("the loss of each validation sample is not kept")


def test_looks_are_counted_and_said_from_the_tenth_on(tmp_path: Path) -> None:
    trials = [made({"lr": 0.1}, 0.99, 0.9, val_loss=0.1)]
    directory = known(study(tmp_path / "s", trials, audit=200))
    before = read(directory)
    for _ in range(3):
        count_looks([directory], "best")
    after = read(directory)
    assert (before.history.looks, after.history.looks) == (0, 3)
    assert after.history.records == before.history.records
    assert looks_text(9) == "" and "looked at 10 times" in looks_text(10)


def known(directory: Path) -> Path:
    """The study as one that was begun since looks are counted."""
    header, *events = ledger.read(directory)
    header["spec"]["finalists"] = None
    lines = [ledger.encode(event, seq) for seq, event in enumerate([header, *events])]
    (directory / ledger.LEDGER).write_bytes(b"".join(lines))
    return directory


def test_an_older_study_stays_one_that_an_older_hpogen_reads(tmp_path: Path) -> None:
    directory = study(tmp_path / "s", [made({"lr": 0.1}, 0.99, 0.9, val_loss=0.1)], audit=200)
    whole = (directory / ledger.LEDGER).read_bytes()
    count_looks([directory], "best")
    assert (directory / ledger.LEDGER).read_bytes() == whole
    assert [path.name for path in directory.iterdir()] == [ledger.LEDGER]


def test_a_look_disturbs_nobody(tmp_path: Path) -> None:
    """Neither a driver, nor a torn tail, nor a folder that cannot be written to."""
    trials = [made({"lr": 0.1}, 0.99, 0.9, val_loss=0.1)]
    directory = known(study(tmp_path / "s", trials, audit=200))
    path = directory / ledger.LEDGER
    whole = path.read_bytes()
    other = ledger.Ledger(directory)
    count_looks([directory], "best")
    assert path.read_bytes() == whole
    other.close()
    path.write_bytes(whole + b'{"kind":')
    count_looks([directory], "best")
    assert path.read_bytes() == whole + b'{"kind":'
    count_looks([tmp_path / "nowhere"], "best")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_the_bench_of_coverage_runs() -> None:
    command = [sys.executable, ROOT / "scripts/bench/honest_figure.py"]
    options = ["--searches", "2", "--trials", "4"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "bias corrected" in done.stdout
