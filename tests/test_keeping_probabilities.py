"""`task.keep: probabilities`: what stands beside a trial's curve, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept import DIGITS, KEYS, TASK, audit_images, finished, records, written
from test_before import called
from toys import ShuffledExecutor, StopsAfter, study_file

import hpogen
from hpogen.errors import UserError
from hpogen.record import folder
from hpogen.running.fork import fork
from hpogen.running.runner import run
from hpogen.selection.evidence import HITS, LOSSES, kept_array
from hpogen.spec import load_study
from hpogen.study.study import Study

KEEP: dict[str, Any] = {"task": {**TASK, "keep": "probabilities"}}
NAMES = ("val_probabilities.npy", "val_labels.npy", "audit_probabilities.npy", "audit_labels.npy")


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("trials/*_*.npy")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoints = {"keep": "best", "top": 4}
    return finished(tmp_path_factory.mktemp("done"), **KEEP, checkpoints=checkpoints)


def test_they_are_those_of_the_losses_and_hits(done: Path) -> None:
    for trial in range(4):
        shares, labels = (kept_array(done, trial, name) for name in NAMES[:2])
        assert (shares.dtype, shares.shape) == (np.dtype("float16"), (100, 10))
        assert (labels.dtype, labels.shape) == (np.dtype("int32"), (100,))
        losses, hits = (kept_array(done, trial, name) for name in (LOSSES, HITS))
        of_label = shares[np.arange(100), labels].astype(np.float64)
        np.testing.assert_allclose(of_label, np.exp(-losses), rtol=2**-10, atol=2**-24)
        exact = shares.argmax(1) == labels
        assert (exact == hits).mean() > 0.98  # float16 makes ties


def test_they_are_those_of_the_kept_network(done: Path) -> None:
    images, labels = audit_images(load_study(done.parent / "study.yaml"))
    for trial in range(4):
        net = hpogen.load(done, trial=trial)
        expected = net(images).double().softmax(1).numpy().astype(np.float16)
        np.testing.assert_array_equal(kept_array(done, trial, NAMES[2]), expected)
        np.testing.assert_array_equal(kept_array(done, trial, NAMES[3]), labels.numpy())


def test_metrics_are_the_same_and_nothing_is_kept_unless_it_is_asked_for(
    done: Path, tmp_path: Path
) -> None:
    directory = finished(tmp_path)
    assert [(r.score, r.outcome.metrics) for r in records(directory) if r.outcome] == [
        (r.score, r.outcome.metrics) for r in records(done) if r.outcome
    ]
    assert not [name for name in content(directory) if name.partition(".")[2] in NAMES]


def test_lower_rungs_keep_none(tmp_path: Path) -> None:
    task = {**TASK, "epochs": 4, "keep": "probabilities"}
    searcher = {"name": "asha", "sampler": "random"}
    rungs = {"task": task, "searcher": searcher, "budgets": {"min": 1, "max": 4, "eta": 2}}
    directory = finished(tmp_path, **rungs, stop={"trials": 7})
    budgets = {record.trial.id: record.trial.budget for record in records(directory)}
    assert {*budgets.values()} > {4}
    kept = folder.trials_with(directory, NAMES[0])
    assert kept == {trial for trial, budget in budgets.items() if budget == 4}


def test_without_validation_or_audit_there_are_the_others(tmp_path: Path) -> None:
    dataset = {**DIGITS, "audit": 0}
    directory = finished(tmp_path, task={**KEEP["task"], "dataset": dataset}, stop={"trials": 1})
    assert {name[6:] for name in content(directory)} & {*NAMES} == {*NAMES[:2]}


def test_a_study_that_was_stopped_has_the_same_files(tmp_path: Path) -> None:
    task = {**KEEP["task"], "epochs": 2}
    whole = finished(tmp_path / "whole", task=task)
    spec = written(tmp_path / "stopped", task=task)
    for _ in range(3):
        with Study(spec, tmp_path / "stopped" / "run") as study:
            run(study, ShuffledExecutor(1, slots=2), observer=StopsAfter(1))
    with Study(spec, tmp_path / "stopped" / "run") as study:
        assert run(study).end == "finished"
    assert content(tmp_path / "stopped" / "run") == content(whole)


def test_a_fork_that_keeps_them_trains_what_has_none(tmp_path: Path) -> None:
    old = finished(tmp_path / "old")
    (tmp_path / "new").mkdir()
    path = study_file(tmp_path / "new", **{**KEYS, **KEEP})
    assert fork(old, path, tmp_path / "new" / "run").reused == 0


def test_check_says_what_they_take(tmp_path: Path) -> None:
    path = study_file(tmp_path, **{**KEYS, **KEEP})
    assert "probabilities on validation and audit samples; about 9.60 kB of each trial" in called(
        "check", str(path)
    )
    plan = json.loads(called("check", str(path), "--json"))
    assert plan["disk"]["probabilities"] == 400 * (2 * 10 + 4)
    test_set = {**KEEP["task"], "dataset": {**DIGITS, "audit": "test"}}
    study_file(tmp_path, **{**KEYS, "task": test_set})
    assert "samples; their size is known once the data have been read" in called("check", str(path))


def test_redrawn_validation_has_none_to_add(tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.1, "validation": {"size": 100, "redraw": True}}
    with pytest.raises(UserError, match=r"keep: probabilities: validation\.redraw gives each"):
        written(tmp_path, task={**KEEP["task"], "dataset": dataset})
