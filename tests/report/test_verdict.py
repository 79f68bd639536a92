"""The last lines of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import as_read, replay, study_file

from hpogen.errors import UserError
from hpogen.record.events import asked, told
from hpogen.record.history import History
from hpogen.report.matrix import endings
from hpogen.report.pages import status_page
from hpogen.report.verdict import choice, ending, next_commands, verdict
from hpogen.spec import StudySpec, load_study
from hpogen.study.standing import standing
from hpogen.study.status import best
from hpogen.trial import Failure, Outcome, Trial

OBJECTIVE = {"preset": "agn+val", "alpha": 0.05}


def a_study(
    directory: Path, *trials: tuple[float, float, float | None] | Failure, **keys: Any
) -> tuple[StudySpec, History]:
    """A finished study; a trial is (val_loss, agn, audit accuracy). Trial 0 is the default."""
    spec = load_study(study_file(directory, **{"objective": OBJECTIVE, "name": "s", **keys}))
    events: list[dict[str, Any]] = [{"kind": "study", "spec": spec.record()}]
    for number, given in enumerate(trials):
        config = {"x": 0.5, "y": 30 + number}
        events.append(asked(Trial(config, spec.budgets[-1], id=number, seed=0)))
        if isinstance(given, Failure):
            events.append(told(Outcome(number, {}, epochs=0, failure=given), float("inf")))
            continue
        val_loss, agn, accuracy = given
        metrics = {"val_loss": val_loss, "agn": agn}
        audit = {} if accuracy is None else {"loss": 1.0, "accuracy": accuracy}
        score = spec.objective.score(metrics, spec.budgets[-1])
        events.append(told(Outcome(number, metrics, audit, epochs=2), score))
    return spec, replay(events)


def sentence(directory: Path, *trials: Any, **keys: Any) -> str:
    spec, history = a_study(directory, *trials, **keys)
    return choice(spec, standing(as_read(spec, history, directory)))


def test_choice_rival_and_baseline_stand_side_by_side(tmp_path: Path) -> None:
    trials = [(0.52, 9.0, 0.9), (0.391, 9.0, 0.909), (0.4, 1.0, 0.911)]
    assert sentence(tmp_path, *trials) == (
        "agn+val (α 0.05) chose trial 2 (val loss 0.400, audit error 8.9 %); "
        "validation loss alone would have chosen trial 1 (val loss 0.391, audit error 9.1 %); "
        "the baseline 'default' is trial 0 (val loss 0.520, audit error 10.0 %). "
        "One search does not show which of them is better."
    )


def test_the_same_choice_is_said_and_nothing_about_better(tmp_path: Path) -> None:
    assert sentence(tmp_path, (0.5, 1.0, 0.9), (0.4, 1.0, 0.91)) == (
        "agn+val (α 0.05) chose trial 1 (val loss 0.400, audit error 9.0 %); "
        "validation loss alone would have chosen the same; "
        "the baseline 'default' is trial 0 (val loss 0.500, audit error 10.0 %)."
    )


def test_a_baseline_that_was_chosen_is_named_once(tmp_path: Path) -> None:
    text = sentence(tmp_path, (0.5, 1.0, None), (0.4, 9.0, None))
    assert text.startswith(
        "agn+val (α 0.05) chose trial 0, the baseline 'default' (val loss 0.500);"
    )
    assert text.count("default") == 1


def test_without_audit_there_is_no_audit_error(tmp_path: Path) -> None:
    assert "audit" not in sentence(tmp_path, (0.5, 1.0, None), (0.4, 9.0, None))


def test_another_selection_is_named(tmp_path: Path) -> None:
    text = sentence(tmp_path, (0.5, 1.0, 0.9), selection="val_loss")
    assert text.startswith("agn+val (α 0.05), selected by val_loss chose trial 0")
    assert "alone" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_sentences_are_wrapped_commands_are_not(tmp_path: Path, width: int) -> None:
    spec, history = a_study(tmp_path, (0.52, 9.0, 0.9), (0.391, 9.0, 0.909), (0.4, 1.0, 0.911))
    commands = next_commands(
        history, "runs/a folder with spaces in its long name", "time", "hpogen"
    )
    lines = verdict(as_read(spec, history, Path("runs/s")), "s finished", commands, width)
    *others, last = lines
    assert last == " next     hpogen resume 'runs/a folder with spaces in its long name'"
    assert max(map(len, others)) <= width
    assert " best     trial 2: score 0.450, val loss 0.400" in others
    assert " folder   runs/s" in others


def test_when_nothing_succeeded_the_commonest_failure_is_shown(tmp_path: Path) -> None:
    failures = [Failure("error", f"ValueError: no {i}") for i in range(2)]
    spec, history = a_study(tmp_path, *failures, Failure("oom", "full"))
    study = as_read(spec, history, Path("runs/s"))
    lines = verdict(study, "s finished", [], 80)
    assert lines[1].startswith(" s finished: 3 of 12 trials (2 with an error, 1 out of memory)")
    assert " why      2 of 3 failures: error: ValueError: no 1 (trial 1)" in lines
    assert next_commands(history, "runs/s", "finished", "hpogen") == ["hpogen show runs/s 1"]
    page, _ = status_page(study, 80, "hpogen")
    assert "\n 2 of 3 failures: error: ValueError: no 1 (trial 1)\n" in page.plain
    with pytest.raises(UserError, match=r"no 1 \(trial 1\); see: hpogen show runs/s 1"):
        best(study)


def test_a_failure_beside_a_success_takes_no_command_away(tmp_path: Path) -> None:
    _, history = a_study(tmp_path, Failure("error", "ValueError: no"), (0.5, 1.0, 0.9))
    assert next_commands(history, "runs/s", "finished", "hpogen") == ["hpogen best runs/s"]


def test_a_matrix_without_any_answer_says_why(tmp_path: Path) -> None:
    spec, history = a_study(tmp_path, Failure("error", "ValueError: no"), stop={"trials": 1})
    study = as_read(spec, history, Path("runs/m/s"))
    lines = endings(Path("runs/m"), [study], [], True, 80, "hpogen")
    assert " s: 1 of 1 failures: error: ValueError: no (trial 0)" in lines
    assert lines[-1] == " next     hpogen show runs/m/s 0"
    assert endings(Path("runs/m"), [study], [], False, 80, "hpogen")[-1].endswith("resume runs/m")


def test_a_study_that_stopped_itself_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    spec, history = a_study(tmp_path, Failure("error", "ValueError: no"))
    assert ending(spec, "errors", 1, "trial 0: ValueError: no") == (
        "s stopped itself after 10 errors in a row, trial 0: ValueError: no"
    )
    assert next_commands(history, "runs/s", "errors", "hpogen") == [
        "hpogen show runs/s 0",
        "hpogen resume runs/s",
    ]


def test_a_choice_that_hardly_learned_is_said(tmp_path: Path) -> None:
    trials = [(0.6, 1500.0, 0.77), (0.34, 63.0, 0.874), (2.31, 10.5, 0.1)]
    assert sentence(tmp_path, *trials).endswith(
        "On the audit images the first of them is far worse. "
        "A small AGN can also mean that a network has hardly learned: see scale: log."
    )
    log = {**OBJECTIVE, "alpha": 5.0, "scale": "log"}
    assert sentence(tmp_path / "log", *trials, objective=log).endswith(
        "first of them is far worse."
    )
    close = [(0.6, 9.0, 0.77), (0.34, 9.0, 0.9), (0.35, 1.0, 0.81)]
    assert sentence(tmp_path / "close", *close).endswith("does not show which of them is better.")
