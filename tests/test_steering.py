"""The preset `learned` in a study of its own: what the searcher is told, resumed, and refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from analysis.learned import planted
from toys import study_file

from hpogen.analysis.cautions import cautions
from hpogen.analysis.learned import learn
from hpogen.errors import UserError
from hpogen.record import history
from hpogen.report.verdict import verdict
from hpogen.running.runner import run
from hpogen.spec import StudySpec, load_study
from hpogen.spec.learned import Linear, read_learned, write_learned
from hpogen.study.read import read
from hpogen.study.study import Study


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A ridge of `agn` alone, beside the study's YAML: the bowl has this metric, too."""
    found = learn(planted(tmp_path / "learned"), measures=["agn"])
    linear = Linear(kind="ridge", penalty=1.0, intercept=0.25, coefficients={"agn": 0.5})
    write_learned(found.model_copy(update={"model": linear}), tmp_path / "gap.json")
    return tmp_path / "gap.json"


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
        ({"model": "no.json"}, r"objective.model: .*no\.json: cannot be read"),
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
    found = learn(planted(model.parent / "more"), measures=["kappa", "zeta"])
    write_learned(found, model)
    assert read_learned(model).measures == ["kappa", "zeta"]
    with pytest.raises(UserError, match=r"objective\.model: metric 'kappa' is unknown"):
        load_study(study(model.parent))
