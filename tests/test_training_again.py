"""`hpogen retrain --trial`: one configuration alone, and a trial once more as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept import TASK, audit_images, audit_of, finished, kept, records
from test_before import call, called
from toys import study_file

import hpogen
from hpogen.cli.drive import retrain, train_again
from hpogen.errors import UserError
from hpogen.executors.choice import Where
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.read import read
from hpogen.study.retrained import plan, plan_again, results
from hpogen.study.study import Study

CPU = Where("cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that normalises, measures and standardises."""
    terms = [{"metric": "val_loss"}, {"metric": "agn", "scale": "standard"}]
    task = {**TASK, "epochs": 2, "measures": ["margin"]}
    return finished(tmp_path_factory.mktemp("done"), objective={"terms": terms}, task=task)


def test_the_same_numbers_and_the_weights(done: Path) -> None:
    trial = next(iter({0, 1, 2, 3} - kept(done)))
    out = called("retrain", str(done), "--trial", str(trial), "--subset")
    assert f"trial {trial} was trained once more, with the same numbers" in out
    first = records(done)[trial].outcome
    again = read(done).again(trial)
    assert first is not None and again is not None
    outcome = again.history.records[0].outcome
    assert outcome is not None
    assert (outcome.metrics, outcome.audit) == (first.metrics, first.audit)
    net = hpogen.load(done, trial=trial)
    x, labels = audit_images(load_study(done.parent / "study.yaml"))
    assert audit_of(net(x), labels) == first.audit
    assert train_again(done, CPU, trial) == ["finished"]  # it is there already
    assert read(done).retrainings == {}  # the report shows what was trained on the full set


def test_damaged_weights_are_mended(tmp_path: Path) -> None:
    directory = finished(tmp_path, stop={"trials": 1})
    before = hpogen.load(directory)
    (path,) = directory.glob("trials/*.weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="are damaged, or another study's; train them again with"):
        hpogen.load(directory)
    assert train_again(directory, CPU, 0) == ["finished"]
    assert hpogen.load(directory).header.crc32 == before.header.crc32


def test_a_duplicate_is_its_first(tmp_path: Path) -> None:
    config = {"lr": 0.1, "batch_size": 64}
    enqueue = [config, {"lr": 0.2, "batch_size": 64}, config]
    directory = finished(tmp_path, searcher="random", enqueue=enqueue, stop={"trials": 3})
    (there,) = kept(directory)
    (directory / "trials" / f"{there:05d}.weights.safetensors").unlink()
    assert train_again(directory, CPU, 2) == ["finished"]
    for trial in (0, 2):
        assert hpogen.load(directory, trial=trial).header.config == config


def test_a_trial_of_a_rung(tmp_path: Path) -> None:
    directory = finished(
        tmp_path,
        task={**TASK, "epochs": 4, "schedule": "cosine"},
        searcher={"name": "hyperband", "brackets": 1},
        budgets={"min": 1, "max": 4, "eta": 2},
        rungs="continue",
        stop={"trials": 20},
    )
    budgets = {record.trial.budget: record for record in records(directory)}
    assert set(budgets) == {1, 2, 4}
    x, labels = audit_images(load_study(directory.parent / "study.yaml"))
    answer = records(directory)[status.best(read(directory))["trial"]].outcome  # went on twice
    assert answer is not None and audit_of(hpogen.load(directory)(x), labels) == answer.audit
    for budget in (1, 2):
        record = budgets[budget]
        trial = record.trial.id
        with pytest.raises(UserError, match=f"--trial {trial} --subset"):
            hpogen.load(directory, trial=trial)
        assert train_again(directory, CPU, trial) == ["finished"]
        assert record.outcome is not None
        assert audit_of(hpogen.load(directory, trial=trial)(x), labels) == record.outcome.audit


def test_the_full_training_set(done: Path) -> None:
    answer = status.best(read(done))["trial"]
    assert retrain(done, CPU, seeds=2, trial=answer) == ["finished"]
    (one,) = results(done)
    assert one.choice.is_answer and one.n == 2
    net = hpogen.load(done, retrained=True)
    assert net.header.config == records(done)[answer].trial.config
    spec = load_study(done.parent / "study.yaml")
    whole = spec.task.dataset.model_copy(update={"audit": "test"})  # type: ignore[attr-defined]
    x, labels = audit_images(
        spec.with_record(
            {**spec.record(), "task": {**spec.task.record(), "dataset": whole.model_dump()}}
        )
    )
    found = audit_of(net(x), labels)
    assert found["accuracy"] == one.runs[net.header.trial].accuracy
    assert found["loss"] == one.runs[net.header.trial].loss
    other = next(n for n in (1, 2, 3) if n != answer)  # 0 is the baseline
    with pytest.raises(UserError, match=f"hpogen retrain {done} --trial {other}"):
        hpogen.load(done, trial=other, retrained=True)
    assert retrain(done, CPU, seeds=1, trial=other) == ["finished"]
    assert hpogen.load(done, trial=other, retrained=True).header.seed != net.header.seed
    assert "not the answer now" in called(
        "retrain", str(done), "--seeds", "1", "--trial", str(other)
    )


def test_a_study_that_kept_nothing_keeps_what_is_retrained(tmp_path: Path) -> None:
    directory = finished(tmp_path, checkpoints={"keep": "none"}, stop={"trials": 1})
    for specs in (plan(read(directory), 1), plan_again(read(directory), 0)):
        assert {spec.checkpoints.keep for spec in specs.values()} == {"best"}


def test_what_cannot_be_trained_again(done: Path, tmp_path: Path) -> None:
    code, _, err = call("retrain", str(done), "--subset")
    assert code == 2 and "--subset: got no trial, expected --trial N" in err
    code, _, err = call("retrain", str(done), "--trial", "77", "--subset")
    assert code == 2 and "there is no trial 77" in err
    directory = finished(tmp_path, searcher="listed", enqueue=["default"], stop={"trials": 2})
    with pytest.raises(UserError, match="trial 1 has a seed of its own, as replicate 1"):
        plan_again(read(directory), 1)
    with Study(load_study(study_file(tmp_path / "bowl")), tmp_path / "bowl" / "run") as study:
        run(study)
    with pytest.raises(UserError, match="--subset: got the task 'bowl', expected one whose data"):
        plan_again(read(tmp_path / "bowl" / "run"), 0)
