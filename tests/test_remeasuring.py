"""More measures on kept final weights: the numbers that training itself would have given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import by_trial, study_file

from hpogen.errors import UserError
from hpogen.plugins import Measured
from hpogen.record import history, ledger
from hpogen.running.measure import add_measures, measures_named
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

KEYS: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": 100},
        "model": {"name": "mlp", "width": 16, "depth": 1},
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [0.01, 0.5], "log": True, "default": 0.1}},
    "stop": {"trials": 3},
    "plugins": [],
}
NAMES = ["osgr_head", "margin", "zeta", "param_norm"]


def trained(directory: Path, *, measures: list[str], keep: str) -> Path:
    task = {**KEYS["task"], "measures": measures}
    path = study_file(directory, **{**KEYS, "task": task, "checkpoints": {"keep": keep}})
    with Study(load_study(path), directory / "q") as study:
        assert run(study).end == "finished"
    return path


def test_what_is_added_is_what_training_would_have_given(tmp_path: Path) -> None:
    trained(tmp_path / "with", measures=NAMES, keep="none")
    path = trained(tmp_path / "without", measures=[], keep="final")
    before = ledger.read(tmp_path / "without" / "q")
    found = list(add_measures(load_study(path), tmp_path / "without" / "q", NAMES, "cpu"))
    assert len(found) == 3 and all(isinstance(measured, Measured) for _, measured in found)
    told = by_trial(ledger.read(tmp_path / "with" / "q"), "told")
    past = history.read(tmp_path / "without" / "q")
    for record in past.told():
        assert record.outcome is not None
        assert dict(record.outcome.metrics) == told[record.trial.id]["metrics"]
    assert ledger.read(tmp_path / "without" / "q")[: len(before)] == before
    assert (tmp_path / "without" / "q" / "trials" / "00000.ablation.json").exists()
    assert list(add_measures(load_study(path), tmp_path / "without" / "q", NAMES, "cpu")) == []
    with Study(load_study(path), tmp_path / "without" / "q") as study:
        assert study.next() is None  # and the study can still be opened


def test_no_weights_were_kept(tmp_path: Path) -> None:
    path = trained(tmp_path, measures=[], keep="none")
    with pytest.raises(UserError, match=r"q: final weights were not kept: train with checkpoints"):
        list(add_measures(load_study(path), tmp_path / "q", ["osgr_head"], "cpu"))


@pytest.mark.parametrize("name", ["agn", "agn_online", "tse"])
def test_what_is_collected_while_training_is_refused(name: str, tmp_path: Path) -> None:
    path = trained(tmp_path, measures=[], keep="final")
    before = (tmp_path / "q" / ledger.LEDGER).read_bytes()
    if name == "agn":
        name = measures_named(["agn"])[0]
    with pytest.raises(UserError, match=r"q: measure .* is collected over the epochs"):
        list(add_measures(load_study(path), tmp_path / "q", [name], "cpu"))
    assert (tmp_path / "q" / ledger.LEDGER).read_bytes() == before


def test_names_are_those_of_measures_or_of_their_metrics() -> None:
    assert measures_named(["kappa", "zeta", "margin_q50"]) == ["zeta", "margin"]
    with pytest.raises(UserError, match="--add: measure 'zetta' is unknown; did you mean 'zeta'"):
        measures_named(["zetta"])


def test_a_task_without_weights(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    with Study(load_study(path), tmp_path / "q") as study:
        run(study)
    with pytest.raises(UserError, match="task 'bowl' keeps no weights"):
        list(add_measures(load_study(path), tmp_path / "q", ["osgr_head"], "cpu"))
