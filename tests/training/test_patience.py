"""Trials that end when their validation loss has not fallen for some epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from training.features import resumed
from training.runs import SMALL, epochs, task, trial

from hpogen import run
from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.running.drive import Result
from hpogen.spec import StudySpec
from hpogen.study.open import open_study
from hpogen.study.read import read
from hpogen.study.retrained import plan
from hpogen.tasks.base import Epoch

SPLIT = {"subset": 0.1, "validation": 60, "audit": 60}
UNSTEADY = {"lr": 0.2, "batch_size": 32}  # the loss falls for some epochs, and rises again
BUDGET = 12


def numbers(told: list[Epoch]) -> list[Any]:
    return [(e.epoch, dict(e.metrics), dict(e.audit), {**e.files}) for e in told]


def end(losses: list[float], patience: int) -> int:
    """By its definition: the first epoch with so many before it since a smaller loss."""
    best, since = float("inf"), 0
    for epoch, loss in enumerate(losses, 1):
        best, since = (loss, 0) if loss < best else (best, since + 1)
        if since >= patience:
            return epoch
    return len(losses)


@pytest.mark.parametrize("patience", [1, 2, 4, BUDGET])
def test_it_is_a_trial_of_that_many_epochs(tmp_path: Path, patience: int) -> None:
    """The same in all that it tells, with what only a last epoch has, and that is found out late:
    kept losses, the audit, and a measure of the last epoch."""
    keys: dict[str, Any] = {"dataset": SPLIT, "epochs": BUDGET, "measures": ["zeta"]}
    whole = epochs(task(**keys), trial(tmp_path / "whole", UNSTEADY, BUDGET))
    last = end([e.metrics["val_loss"] for e in whole], patience)
    assert 1 < last < BUDGET or patience == BUDGET
    found = epochs(
        task(**keys, patience=patience), trial(tmp_path / "found", UNSTEADY, BUDGET, keep="best")
    )
    short = epochs(task(**keys), trial(tmp_path / "short", UNSTEADY, last, keep="best"))
    weights = [dict(told[-1].files).pop("weights.safetensors") for told in (found, short)]
    assert all(weights)
    for told in (found, short):
        del told[-1].files["weights.safetensors"]  # type: ignore[attr-defined]
    assert numbers(found) == numbers(short) and "zeta" in found[-1].metrics
    assert [e.final for e in found] == [False] * (last - 1) + [last < BUDGET]


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    settings = task(dataset=SPLIT, patience=1, epochs=3)
    whole, parts = resumed(settings, tmp_path, {"lr": 0.8, "batch_size": 64})
    assert whole == parts and len(whole) < 3


def study(directory: Path, **keys: Any) -> Result:
    record = {
        "name": "patient",
        "task": {
            "dataset": {"name": "digits", **SPLIT},
            "model": SMALL,
            "epochs": BUDGET,
            "patience": 1,
        },
        "search_space": {
            "lr": {"float": [0.1, 0.4], "log": True},
            "batch_size": {"choice": [16, 32]},
        },
        "objective": "val",
        "searcher": "random",
        "stop": {"trials": 4},
        **keys,
    }
    with open_study(StudySpec.from_record(record), directory) as opened:
        return run(opened)


def test_a_study_charges_what_was_trained(tmp_path: Path) -> None:
    assert study(tmp_path / "s").end == "finished"
    found = read(tmp_path / "s")
    lengths = [len(found.curve(record.trial.id)) for record in found.history.records]
    assert found.history.charged == sum(lengths) < 4 * BUDGET
    assert [r.outcome.epochs for r in found.history.told() if r.outcome] == lengths
    written = (tmp_path / "s" / ledger.LEDGER).read_text()
    assert study(tmp_path / "s").trials == 0  # and reads as it was written
    assert (tmp_path / "s" / ledger.LEDGER).read_text() == written


def test_rungs_that_go_on_end_where_the_one_below_has(tmp_path: Path) -> None:
    keys = {
        "searcher": {"name": "hyperband", "brackets": 4},
        "budgets": {"min": 6, "max": BUDGET, "eta": 2},
    }
    assert study(tmp_path, **keys, rungs="continue", stop={"trials": 12}).end == "finished"
    found = read(tmp_path)
    records = found.history.records
    assert not any(r.failure for r in records)
    ended = 0
    for record in records:
        if record.trial.parent is not None and record.outcome is not None:
            parent = found.curve(record.trial.parent)
            own = found.curve(record.trial.id)
            assert [r["metrics"] for r in own[: len(parent)]] == [r["metrics"] for r in parent]
            if len(parent) < records[record.trial.parent].trial.budget:
                ended += 1
                assert (len(own), record.outcome.epochs) == (len(parent), 0)
    assert ended


def test_what_is_retrained_on_all_has_no_validation_to_be_patient_by(tmp_path: Path) -> None:
    study(tmp_path, stop={"trials": 2})
    specs = plan(read(tmp_path), 1).values()
    assert [spec.task.record()["patience"] for spec in specs] == [None] * len(specs) != []


def test_sums_over_the_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'agn' is a sum over the epochs, of which task\.patience"):
        study(tmp_path, objective={"preset": "agn+val", "alpha": 0.1, "scale": "log"})
    mean = {"terms": [{"metric": "agn_mean"}, {"metric": "val_loss"}]}
    assert study(tmp_path, objective=mean).end == "finished"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"patience": 0}, "greater than or equal to 1"),
        ({"patience": 2, "dataset": {**SPLIT, "validation": 0}}, "validation is 0: drop one"),
    ],
)
def test_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        task(**keys)
