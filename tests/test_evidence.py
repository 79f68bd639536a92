"""The evidence: its data, its arms, its statistics, and a run of the script from end to end."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hpogen.selection import Evidence
from hpogen.spec.form import StudyForm
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.parts import searcher_of
from hpogen.spec.source import Source
from hpogen.trial import Rung

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def arms() -> ModuleType:
    return _module("evidence_arms")


@pytest.fixture(scope="module")
def verdict() -> ModuleType:
    return _module("evidence_verdict")


def _module(name: str, folder: str = "scripts") -> ModuleType:
    sys.path.insert(0, str(ROOT / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / folder))


def searched(arms: ModuleType, losses: np.ndarray, **metrics: list[float]) -> object:
    """A search of trials with those losses (n, N) on the validation rows."""
    n = len(losses)
    rows = [{name: values[i] for name, values in metrics.items()} for i in range(n)]
    for row, own in zip(rows, losses, strict=True):
        row["val_loss"] = float(own.mean())
    evidence = Evidence(Rung(10), tuple(rows), {}, lambda: losses, lambda: [])
    keys = [f"config {i}" for i in range(n)]
    every = np.arange(losses.shape[1])
    return arms.Search(keys, {}, evidence, every, [0.0] * n, list(range(n)))


def test_auto_makes_agn_a_quarter_of_the_spread(arms):
    loss = [1.0, 2.0, 3.0, 4.0, 5.0]
    agn = [10 * np.exp(x) for x in (9.0, 7.0, 5.0, 3.0, 1.0)]  # its logarithm spreads twice as far
    found = searched(arms, np.array(loss)[:, None], agn=agn)
    scores = arms.RULES["agn+val auto"](found.evidence)
    assert scores == pytest.approx([1 + 9 / 8, 2 + 7 / 8, 3 + 5 / 8, 4 + 3 / 8, 5 + 1 / 8])


def test_the_shorter_search_has_the_finalists(arms):
    losses = np.linspace(2, 1, 47)[:, None]  # ever better
    found = searched(arms, losses)
    assert found.ranked(arms.RULES["val"], 47)[0] == "config 46"
    assert arms.finalists(found, "val") == [f"config {i}" for i in (31, 30, 29, 28, 27)]


def test_a_finalist_that_does_worse_on_more_data_never_wins(arms):
    random = np.random.default_rng(0)
    before = np.array([1.0, 1.1, 1.2, 1.3, 1.4])[:, None] + random.normal(0, 0.01, (5, 400))
    found = searched(arms, before)
    few = [f"config {i}" for i in range(5)]
    high = dict(zip(few, before * 0.8, strict=True))
    assert arms.winner(found, few, high) == "config 0"
    high["config 0"] = before[0] * 0.8 + 0.5
    assert arms.winner(found, few, high) == "config 1"
    del high["config 1"]  # it failed
    assert arms.winner(found, few, high) == "config 2"


def test_a_measure_that_turns_round_is_warned_of(arms):
    loss = np.arange(20.0)
    found = searched(arms, loss[:, None], train_loss=[*loss], up=[*loss], bent=[*np.abs(loss - 6)])
    assert not arms.warned(found, "up")
    assert arms.warned(found, "bent")


def test_signed_rank_says_better_equal_and_worse(verdict):
    for shift, expected in ((-1.0, 0), (0.0, 1), (1.0, 2)):
        means = shift + np.linspace(-0.05, 0.05, 12)
        found = verdict.signed_rank(means)
        assert sum(found) == pytest.approx(1)
        assert found[expected] > 0.99
    assert max(verdict.signed_rank(np.array([-1.0, 1.0]))) < 0.7  # two tasks tell nothing


def test_the_searchers_of_the_arms_are_there():
    for searcher, _ in _module("evidence_trials").LEARNING.values():
        keys = {"task": {}, "search_space": {}, "searcher": searcher, "stop": {"trials": 1}}
        mistakes = Mistakes(Source(keys, "an arm"))
        assert searcher_of(StudyForm.model_validate(keys).searcher, mistakes) is not None


def test_labels_and_classes_are_made_as_registered():
    load = _module("data", "studies/evidence").evidence
    plain, noisy = (load(Path(), table="digits", noise=noise) for noise in (0.0, 0.2))
    uneven = load(Path(), table="digits", unbalanced=True)
    assert len(plain.train.targets) == 1348
    assert len(plain.test.targets) == 449
    assert (plain.train.targets != noisy.train.targets).sum() == round(0.2 * 1348)
    assert (plain.test.targets == noisy.test.targets).all()
    train, test = (np.bincount(part.targets, minlength=10) for part in (uneven.train, uneven.test))
    assert (train + test)[9] / (train + test)[0] == pytest.approx(0.1, abs=0.01)
    assert test / (train + test) == pytest.approx(np.full(10, 0.25), abs=0.15)  # in both alike


def test_the_verdict_is_that_of_the_answers(verdict, tmp_path, capsys):
    """Twelve tasks, on which the first arm is better by half a point, and one where it is worse."""
    random = np.random.default_rng(0)
    paths = {}
    for i in range(13):
        val = random.normal(0.1, 0.005, 20)
        gain = random.normal(0.006 if i else -0.02, 0.002, 20)
        rows = {"val,250": val, "val + finalists,250": val - gain, "default,none": val + 0.3}
        rows |= {
            "oracle (subset),250": val - 0.01,
            "agn+val auto,250": val,
            "one_se_margin,250": val,
        }
        rows |= {"warned of agn,250": np.ones(20), "warned of margin_q50,250": np.zeros(20)}
        paths[f"task {i}"] = tmp_path / f"{i}.csv"
        lines = [f"{name},{','.join(f'{x:.5f}' for x in values)}" for name, values in rows.items()]
        head = ",".join(["arm", "labels", *map(str, range(20))])
        paths[f"task {i}"].write_text("\n".join([head, *lines]))
    answers = verdict.read(paths, dict.fromkeys(paths, ""))
    verdict.show(answers, verdict.read({}, {}), ("val + finalists", "val"), "250")
    said = capsys.readouterr().out
    assert "First block, val + finalists − val, 250 labels: -0.38 points [-0.4" in said
    assert "p < 0.001" in said
    assert "worse by more than 0.1 on 1 tasks (worst: task 0, +1.9" in said
    assert "the target is reached" in said
    assert "| 0.0% | task 0 +1.9" in said
    assert "| val + finalists | -0.38 [-0.4" in said
    assert "| 1 of 13 |  | above |" in said
    assert "Second block" not in said
    assert "Both blocks" not in said
    assert "- agn (agn+val auto against val): warned: 0 worse and 0 better of 260;" in said


def test_the_second_block_stands_beside_the_first(verdict, tmp_path, capsys):
    """Two tasks, a search of which collapses: in the first block without finalists, then with."""
    arms = {"val + finalists": [10.0, 11.0, 10.0], "val": [11.0, 11.0, 95.0]}
    default, names, primary = [90.0] * 3, ("ring", "magic", "ring, kin"), ("val + finalists", "val")

    def block(first, rows, tasks):
        cells = {(arm, "250"): row for arm, row in rows.items()}
        cells |= {("oracle (subset)", "250"): default, ("default", "none"): default}
        seeds = range(first, first + 3)
        errors = {k: {t: dict(zip(seeds, r, strict=True)) for t in tasks} for k, r in cells.items()}
        return verdict.Answers(errors, {"ring": "", "magic": "", "ring, kin": "ring"})

    turned = dict(zip(arms, [*arms.values()][::-1], strict=True))
    first, second = block(0, arms, names), block(100, turned, names[:2])
    against = verdict.show(first, second, primary, "250")
    said = capsys.readouterr().out
    assert "First block, val + finalists − val, 250 labels: -28.67 points" in said
    assert "Second block, val + finalists − val, 250 labels: +28.67 points" in said
    assert "Both blocks (not registered), val + finalists − val, 250 labels: +0.00 points" in said
    assert "2 tasks, 12 pairs, 4/4/4;" in said
    assert "| ring | 10.33 | 39.00 | -28.67 | 90.00 | 90.00 | 39.00 | 10.33 | +28.67 |" in said
    assert "| ring, kin | 10.33 | 39.00 | -28.67 | 90.00 | 90.00 |  |  |  |" in said
    more = "val + finalists better by more than 5 points in"
    assert f"First block, 6 searches: {more} 2, worse in 0; disasters 0, of val 2." in said
    assert f"Second block, 6 searches: {more} 0, worse in 2; disasters 2, of val 0." in said
    pictures = _module("evidence_pictures")
    pictures.draw_tasks(first, second, primary, "250", tmp_path)
    pictures.draw_arms(first, against, tmp_path)
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in ("primary", "arms"))


def test_an_arm_is_a_default_where_it_meets_the_registered_rule(verdict):
    """Twelve tasks of which `many` are worse by half a point, and a difference with all labels."""
    val = {f"task {i}": dict.fromkeys(range(20), 10.0) for i in range(12)}

    def against_val(gain: float, many: int = 0) -> dict[str, dict[int, float]]:
        tasks = [*val]
        random = np.random.default_rng(0)
        noise = {task: random.normal(0, 0.05, 20) for task in tasks}
        shift = {task: 0.5 if i < many else -gain for i, task in enumerate(tasks)}
        return {t: {s: 10 + shift[t] + float(noise[t][s]) for s in range(20)} for t in tasks}

    def becomes(few: object, whole: object) -> str:
        rows = {("val", "250"): val, ("val", "all"): val}
        rows |= {("arm", "250"): few, ("arm", "all"): whole, ("oracle (subset)", "250"): val}
        answers = verdict.Answers(rows, dict.fromkeys(val, ""))
        against = verdict.judged(answers, ("val + finalists", "val"), "250")
        assert against["oracle (subset)", "250"].p_holm is None  # it is no arm
        assert against["arm", "250"].p_holm == 2 * against["arm", "250"].p
        lines = [*verdict._follows(answers, against, ("val + finalists", "val"), "250")]
        assert len(lines) == 3  # no oracle
        return lines[2].split("|")[-2].strip()

    assert becomes(against_val(0.5), against_val(0.0)) == "yes"
    assert becomes(against_val(0.5, many=2), against_val(0.5)) == "yes"
    assert becomes(against_val(0.5, many=3), against_val(0.5)) == "no"
    assert becomes(against_val(0.07), against_val(0.5)) == "no"
    assert becomes(against_val(0.5), against_val(-0.5)) == "no"


@pytest.mark.slow  # one run
def test_it_runs_and_makes_the_verdict_anew(tmp_path):
    first = evidence("--runs", tmp_path)
    answers = tmp_path / "tiny" / "answers"
    assert "**First block, val + finalists − val, 250 labels:" in first
    assert "| agn+train auto |" in first
    assert (answers / "primary.png").stat().st_size > 1000
    anew = evidence("--answers", answers)
    assert anew == "".join(line for line in first.splitlines(True) if not line.endswith(" s\n"))


@pytest.mark.slow  # three more runs
def test_it_goes_on_and_looks_twice(tmp_path):
    first = evidence("--runs", tmp_path)
    kept = tmp_path / "tiny" / "answers" / "digits.csv"
    content = kept.read_bytes()
    kept.unlink()  # the studies are there: nothing is trained again
    ledgers = {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")}
    assert ledgers
    again = evidence("--runs", tmp_path)
    assert kept.read_bytes() == content
    assert ledgers == {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")}
    assert again.splitlines()[1:] == first.splitlines()[1:]
    assert "**Second block" in evidence("--runs", tmp_path, "--second")


@pytest.mark.slow  # the beginning of one run
def test_told_to_end_it_leaves_no_process_behind(tmp_path):
    process = subprocess.Popen([*SCRIPT, "--runs", tmp_path], start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not any(tmp_path.rglob("*.jsonl")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        process.terminate()  # not its workers
        assert process.wait(30) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_task_that_fails_stops_no_other(monkeypatch, tmp_path, capsys):
    script = _module("evidence")
    monkeypatch.setattr(script, "run", _fails_on_ring)
    monkeypatch.setattr(script, "ProcessPoolExecutor", ThreadPoolExecutor)
    tasks = [task for task in script.TASKS if task.name in ("ring", "digits")]
    with pytest.raises(SystemExit):
        script._run_all(tasks, tmp_path, script.SCALES["tiny"], False, 1)
    assert sorted(capsys.readouterr().out.splitlines()) == ["digits: 7 s", "ring: failed: no rows"]


def _fails_on_ring(task, *_):
    if task.name == "ring":
        raise ValueError("no rows")
    return 7.0


SCRIPT = [sys.executable, ROOT / "scripts" / "evidence.py", "--scale", "tiny"]
SCRIPT += ["--tasks", "digits", "--workers", "1"]


def evidence(*arguments: object) -> str:
    """What the script prints."""
    command = [*SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
