"""The preset `learned` in a study of its own: what the searcher is told, resumed, and refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from analysis.learned import LABELS, ridge
from toys import study_file, typed

from hpogen.analysis.cautions import cautions
from hpogen.analysis.rescoring import rescore
from hpogen.errors import UserError
from hpogen.record import history
from hpogen.report.verdict import verdict
from hpogen.running.fork import fork
from hpogen.running.runner import run
from hpogen.spec import StudySpec, load_studies, load_study
from hpogen.spec.learned import UNKNOWN
from hpogen.spec.schema import schema
from hpogen.study.open import open_study
from hpogen.study.read import read
from hpogen.study.study import Study


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A ridge of `agn` alone, beside the study's YAML: the bowl has this metric, too."""
    return ridge(tmp_path / "gap.json", agn=0.5)


def study(home: Path, **keys: Any) -> Path:
    form = {"preset": "learned", "model": "gap.json", "force": True, "standard_after": 5, **keys}
    return study_file(home, objective=form)


def finished(path: Path, directory: Path) -> list[tuple[int, float]]:
    with Study(load_study(path), directory) as opened:
        assert run(opened).end == "finished"
    return told(directory)


def told(directory: Path) -> list[tuple[int, float]]:
    return [(record.trial.id, record.score) for record in history.read(directory).records]


def test_a_trial_is_told_what_the_model_predicts(model: Path) -> None:
    directory = model.parent / "run"
    finished(study(model.parent), directory)
    past = read(directory).history
    records = [record for record in past.records if record.outcome]
    agn = [record.outcome.metrics["agn"] for record in records if record.outcome]
    (rung,) = past.locations
    at = past.locations[rung]["agn"]
    assert at.center == sorted(agn[:5])[2]
    for record, x in zip(records, agn, strict=True):
        rank = 0.5 * (1 + math.erf((x - at.center) / at.spread / math.sqrt(2)))
        assert record.score == pytest.approx(0.25 + 0.5 * rank, rel=1e-12)


def test_it_resumes_bit_for_bit_without_the_file(model: Path) -> None:
    path = study(model.parent)
    whole = finished(path, model.parent / "whole")
    torn = model.parent / "torn"
    finished(path, torn)
    ledger = torn / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    assert len(whole) == 12 and any(b'"scale"' in line for line in lines)
    for kept in range(2, len(lines), 5):
        ledger.write_bytes(b"".join(lines[:kept]) + lines[kept][:7])
        spec = StudySpec.from_record(read(model.parent / "whole").spec.record())
        with Study(spec, torn) as opened:
            run(opened)
        assert told(torn) == whole


def test_the_model_is_in_the_record(model: Path) -> None:
    spec = load_study(study(model.parent))
    record = json.loads(json.dumps(spec.record()))
    model.unlink()
    again = StudySpec.from_record(record)
    assert again.objective == spec.objective and again.record() == spec.record()
    assert again.objective.label == "learned" and again.objective.metrics == {"agn"}


def test_the_verdict_says_that_it_was_forced(model: Path) -> None:
    directory = model.parent / "run"
    finished(study(model.parent), directory)
    said = "a learned objective here: it cannot be told how many validation labels the study has"
    assert cautions([read(directory)]) == [f"do not trust {said}"]
    lines = verdict(read(directory), "finished", [], 200)
    assert f" Do not trust {said}." in lines
    finished(study_file(model.parent / "val"), model.parent / "val" / "run")
    assert cautions([read(model.parent / "val" / "run")]) == []


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"force": False}, "objective.model: it cannot be told how many .* force: true"),
        ({"model": None}, "objective.model: is required by preset 'learned'"),
        (
            {"model": "no.json"},
            r"objective.model: .*no\.json: there is no such file, expected one that hpogen learn "
            "has made; a study that was begun with it goes on without: hpogen resume DIR",
        ),
        ({"model": "."}, r"objective.model: .*: cannot be read: Is a directory"),
        ({"model": {"format": "optuna"}}, "objective.model: the model: got format 'optuna'"),
        ({"alpha": 0.1}, "objective.alpha: does not go together with preset 'learned'"),
        ({"preset": "val"}, "objective.model: belongs to preset 'learned' alone"),
        ({"terms": [{"metric": "val_loss"}]}, "objective.preset: does not go together with terms"),
    ],
)
def test_mistakes_are_one_line_with_their_place(
    keys: dict[str, Any], text: str, model: Path
) -> None:
    with pytest.raises(UserError, match=text) as told:
        load_study(study(model.parent, **keys))
    assert "\n" not in str(told.value)


def test_a_model_of_other_measures_is_named(model: Path) -> None:
    ridge(model, kappa=0.5, zeta=0.1)
    with pytest.raises(UserError, match=r"objective\.model: metric 'kappa' is unknown"):
        load_study(study(model.parent))


def test_a_model_of_another_version_is_one_line(model: Path) -> None:
    data = json.loads(model.read_text())
    for written in ("gap.json", {**data, "version": 2}):
        model.write_text(json.dumps({**data, "version": 2}))
        text = r"objective\.model: .*: got version 2, expected 1: make it anew with hpogen learn"
        with pytest.raises(UserError, match=text) as told:
            load_study(study(model.parent, model=written))
        assert "\n" not in str(told.value)


def test_with_as_many_labels_as_it_beats_it_needs_no_force(model: Path) -> None:
    """And is refused with more, or where it was not better."""
    dataset = {"name": "digits", "validation": LABELS, "subset": 0.1}
    task = {"dataset": dataset, "model": "mlp", "epochs": 1, "measures": ["agn"]}
    space = {"lr": {"float": [0.01, 0.5], "log": True, "default": 0.1}}
    form = {"preset": "learned", "model": "gap.json"}
    keys = {"search_space": space, "plugins": [], "objective": form}
    spec = load_study(study_file(model.parent, task=task, **keys))
    assert spec.objective.learned is not None and spec.objective.learned.caution == ""
    dataset["validation"] = LABELS + 1
    with pytest.raises(UserError, match="nothing was measured with 401 labels or more"):
        load_study(study_file(model.parent, task=task, **keys))


def test_check_and_schema_know_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study(model.parent)
    jsonschema.validate(json.loads(path.read_text()), schema())
    assert typed("check", path) == 0
    assert "objective:  learned\n" in capsys.readouterr().out
    for form in ({"modell": "gap.json"}, {"model": 3}, {"force": "perhaps"}):
        path = study(model.parent, **form)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(path.read_text()), schema())
        assert typed("check", path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{path}:1:") and f"objective.{next(iter(form))}: " in line


@pytest.mark.parametrize("change", ["deleted", "changed"])
def test_a_study_that_was_begun_goes_on_with_the_model_that_it_recorded(
    change: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(model.parent)
    whole = finished(path, model.parent / "whole")
    torn = model.parent / "torn"
    finished(path, torn)
    lines = (torn / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (torn / "ledger.jsonl").write_bytes(b"".join(lines[:12]))
    if change == "deleted":
        model.unlink()
        text = f"objective.model: {model}: there is no such file, expected one that hpogen learn"
    else:
        ridge(model, agn=0.6)
        text = (
            f"objective.model.model.coefficients.agn: 0.6, but the study in {torn} was begun with "
            "0.5; take that back, or"
        )
    assert typed("run", path, "--dir", torn) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}:1:") and text in line
    assert (torn / "ledger.jsonl").read_bytes() == b"".join(lines[:12])
    assert typed("resume", torn, "--quiet") == 0
    assert told(torn) == whole


def test_a_fork_into_it_is_scored_by_it(model: Path) -> None:
    """Also one that goes on, and with the file of another."""
    old = model.parent / "val"
    finished(study_file(old), old / "run")
    path, new = study(model.parent), model.parent / "new"
    found = fork(old / "run", path, new, ["stop.trials=14"])
    assert (found.enqueued, found.reused, found.to_train) == (12, 12, 0)
    with open_study(path, new, ["stop.trials=14"]) as opened:
        assert run(opened).trials == 2
    direct = model.parent / "direct"
    with Study(load_study(path, ["stop.trials=14"]), direct) as opened:
        run(opened)
    assert told(new)[:12] == told(direct)[:12]
    again = model.parent / "again"
    ridge(model, agn=-0.5)
    assert fork(new, path, again, ["stop.trials=14"]).reused == 14
    pairs = zip(told(again), told(new), strict=True)
    assert all(a + b == pytest.approx(0.5) for (_, a), (_, b) in pairs)


def test_a_fork_out_of_it_needs_no_model(model: Path) -> None:
    old = model.parent / "run"
    finished(study(model.parent), old)
    model.unlink()
    new = model.parent / "new"
    assert fork(old, study_file(model.parent / "val"), new).reused == 12
    past = history.read(new)
    assert all(r.outcome and r.score == r.outcome.metrics["val_loss"] for r in past.records)


def test_its_trials_are_chosen_anew(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = model.parent / "run"
    finished(study(model.parent), directory)
    same = {"preset": "learned", "model": str(model), "force": True}
    found = rescore(read(directory), json.dumps(same))
    agn = [r.outcome.metrics["agn"] for r in read(directory).finished if r.outcome]
    assert found.asked is not None and found.asked.trial == found.own.trial
    assert found.own.trial == agn.index(min(agn))
    assert found.caution == f"Do not trust it here: {model}: {UNKNOWN}."
    other = rescore(read(directory), selection="val_loss").asked
    assert other is not None and other.trial != found.own.trial
    wrong = {
        ("--objective", json.dumps({**same, "force": False})): "write force: true",
        ("--objective", "learned"): "got model None, expected the file that hpogen learn has made",
        ("--alpha", "0.1"): "--alpha: the study's objective is learned and has none",
        ("--scale", "log"): "--scale: the study's objective is learned and has none",
    }
    for words, text in wrong.items():
        assert typed("rescore", directory, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line


def test_a_matrix_takes_it_beside_another(model: Path) -> None:
    objectives = ["val", {"label": "gap", "preset": "learned", "model": "gap.json", "force": True}]
    found = load_studies(study_file(model.parent, matrix={"objective": objectives}))
    assert [spec.objective.learned is not None for spec in found.specs] == [False, True]
