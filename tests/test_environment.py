"""Variables of the environment in a study's YAML: what stands for them, and where none does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import study_file, typed

from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.running.runner import run
from hpogen.spec import load_studies, load_study
from hpogen.spec.environment import escaped, expanded
from hpogen.spec.positions import Unreadable, parse
from hpogen.study.study import Study


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"N": "3", "RATE": "1e-3", "WORD": "no", "FLAG": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NOTHING", "")
    monkeypatch.setenv("CODE", "${env:N}")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:N}", 3),
        ("'${env:N}'", 3),
        ('"${oc.env:N}"', 3),
        ("${ env:N}", "${ env:N}"),
        ("${env:RATE}", 1e-3),
        ("${env:WORD}", "no"),
        ("${env:FLAG}", True),
        ("${env:NOTHING}", None),
        ("${env:UNSET,7}", 7),
        ("${oc.env:UNSET, 7}", 7),
        ("${env:UNSET,}", None),
        ("${env:UNSET,a, b}", "a, b"),
        ("${env:N,7}", 3),
        ("run-${env:N}-${env:UNSET,x}", "run-3-x"),
        ("${env:N}${env:N}", "33"),
        ("$${env:N}", "${env:N}"),
        ("$$${env:UNSET}", "$${env:UNSET}"),
        ("${env:CODE}", "${env:N}"),
        ("$env:N {env:N} ${HOME}", "$env:N {env:N} ${HOME}"),
        ("['${env:N}', {a: '${env:N}'}]", [3, {"a": 3}]),
    ],
)
def test_what_stands_for_it(text: str, value: Any) -> None:
    found = parse(f"a: {text}").data["a"]
    assert found == value and type(found) is type(value)


def test_keys_and_comments_are_as_they_are() -> None:
    assert parse("'${env:UNSET}': 1  # ${env:UNSET}").data == {"${env:UNSET}": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${env:UNSET}", "${env:UNSET}: the environment has no UNSET: export UNSET=…, or give a"),
        ("a${oc.env:UNSET}b", "${oc.env:UNSET}: the environment has no UNSET"),
        ("${env:}", "got '${env:}', expected ${env:NAME} or ${env:NAME,default}"),
        ("${env:2}", "got '${env:2}', expected"),
        ("${env:UNSET,${env:N}}", "got '${env:UNSET,${env:N}}', expected ${env:NAME} or ${env:NA"),
        ("'${env:N'", "got '${env:N', expected"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as refused:
        parse(f"a: 1\nb:\n  c: {text}")
    assert said in str(refused.value)
    assert refused.value.position is not None
    assert (refused.value.position.line, refused.value.position.column) == (3, 6)


def test_what_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"BYTES", b"\xff")
    with pytest.raises(ValueError, match="what BYTES holds is not UTF-8 text"):
        expanded("${env:BYTES}")


@given(st.text("ab${}:,env.oc N", max_size=30))
def test_texts_of_its_letters(text: str) -> None:
    """Whatever is written, it is one line that is told, or a text; escaped, it is itself."""
    try:
        expanded(text)
    except ValueError as error:
        assert "\n" not in str(error)
    assert expanded(escaped(text)) == text


def test_a_study_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded is what was meant: it goes on from its folder without the variables."""
    task = {"name": "bowl", "epochs": "${env:N}"}
    space = {"x": {"float": [0.0, "${env:RATE}"]}, "y": 10}
    path = study_file(tmp_path, task=task, stop={"trials": "${env:UNSET,4}"}, search_space=space)
    spec = load_study(path)
    assert (spec.task.epochs, spec.stop.trials) == (3, 4)
    assert spec.record()["search_space"]["x"]["float"] == [0.0, 1e-3]
    with Study(spec, tmp_path / "run") as study:
        run(study)
    before = (tmp_path / "run" / ledger.LEDGER).read_bytes()
    assert b"env:" not in before
    monkeypatch.delenv("N")
    monkeypatch.delenv("RATE")
    assert typed("resume", tmp_path / "run") == 0
    assert (tmp_path / "run" / ledger.LEDGER).read_bytes() == before
    with pytest.raises(UserError, match=r"study\.yaml:1:\d+: \$\{env:N\}: the environment has no"):
        load_study(path)
    monkeypatch.setenv("N", "2")
    monkeypatch.setenv("RATE", "1e-3")
    with pytest.raises(UserError, match=r"task\.epochs: 2, but the study in .* was begun with 3"):
        Study(load_study(path), tmp_path / "run")


def test_in_overrides_and_in_the_file_of_a_space(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("x: {float: [0.0, 1.0]}\ny: ${env:N}\n")
    path = study_file(tmp_path, search_space="${env:UNSET,space.yaml}")
    spec = load_study(path, ["task.epochs=${env:N}"])
    assert spec.task.epochs == 3 and spec.space.default["y"] == 3
    with pytest.raises(UserError, match=r"--set seed: \$\{env:UNSET\}: the environment has no"):
        load_study(path, ["seed=${env:UNSET}"])
    (tmp_path / "space.yaml").write_text("x: {float: [0.0, 1.0]}\ny: ${env:UNSET}\n")
    with pytest.raises(UserError, match=r"space\.yaml:2:4: \$\{env:UNSET\}: the environment has"):
        load_study(path)


def test_in_a_matrix(tmp_path: Path) -> None:
    path = study_file(tmp_path, matrix={"seed": [1, "${env:N}"]})
    assert [spec.seed for spec in load_studies(path).specs] == [1, 3]


def test_a_wrong_value_is_told_where_it_is_written(tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"trials": "${env:WORD}"})
    with pytest.raises(UserError, match=r"stop\.trials: got 'no', expected an integer"):
        load_study(path)


def test_a_text_with_a_reference_goes_through_a_ledger(tmp_path: Path) -> None:
    """It is no reference there: what is recorded is not read from the environment again."""
    space = {"x": {"choice": ["$${env:UNSET}", "b"]}, "y": 10}
    command = {"name": "command", "command": "true {x} {y}", "metrics": ["val_loss"], "epochs": 1}
    path = study_file(tmp_path, task=command, plugins=[], search_space=space)
    spec = load_study(path)
    assert spec.record()["search_space"]["x"]["choice"][0] == "${env:UNSET}"
    assert spec.from_record(spec.record()).space == spec.space
    again = tmp_path / "again.yaml"
    again.write_text(escaped(json.dumps(spec.record())))
    assert load_study(again).record() == spec.record()
