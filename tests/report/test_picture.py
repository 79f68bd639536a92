"""The picture of a running study: what it says, and that it fits and stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import as_read, replay, study_file

from hpogen.record.events import asked, told
from hpogen.record.history import History
from hpogen.report.picture import picture
from hpogen.report.table import WHOLE
from hpogen.spec import StudySpec, load_study
from hpogen.study.standing import is_complete, standing
from hpogen.trial import Failure, Outcome, Progress, Trial

PAPER = {
    "batch_size": {"int": [32, 1000], "log": True, "default": 100},
    "lr": {"float": [1.0e-7, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [5.0e-7, 0.05], "log": True, "default": 5.0e-4},
}
CONFIG = {"batch_size": 212, "lr": 7.1e-4, "momentum": 0.91, "weight_decay": 2.0e-5}


def spec_of(directory: Path, **keys: Any) -> StudySpec:
    defaults: dict[str, Any] = {
        "name": "fashion",
        "task": {"name": "bowl", "epochs": 160},
        "search_space": PAPER,
        "stop": {"epochs": 5120},
        "objective": {"preset": "agn+val", "alpha": 0.05},
    }
    return load_study(study_file(directory, **{**defaults, **keys}))


def history_of(spec: StudySpec, *outcomes: dict[str, float] | Failure | None) -> History:
    """One trial each, in order: its metrics, its failure, or None while it runs."""
    events: list[dict[str, Any]] = [{"kind": "study", "spec": spec.record()}]
    for number, outcome in enumerate(outcomes):
        config = {**CONFIG, "batch_size": 100 + number}
        events.append(asked(Trial(config, spec.budgets[-1], id=number, seed=0)))
        if isinstance(outcome, Failure):
            events.append(told(Outcome(number, {}, epochs=1, failure=outcome), float("inf")))
        elif outcome is not None:
            score = spec.objective.score(outcome, spec.budgets[-1])
            events.append(told(Outcome(number, outcome, epochs=160), score))
    return replay(events)


def metrics(val_loss: float, agn: float = 1.0) -> dict[str, float]:
    return {"val_loss": val_loss, "agn": agn, "val_accuracy": 1 - val_loss}


def draw(spec: StudySpec, history: History, width: int = 120, **options: Any) -> list[str]:
    running = [
        (record.trial, Progress(record.trial.id, 88, metrics(0.47), device="cuda:0"))
        for record in history.records
        if record.state == "running"
    ]
    study = as_read(spec, history)
    text = picture(study, standing(study), running, width=width, **options)
    return text.plain.splitlines()


def test_it_shows_what_runs_the_best_and_the_rival(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    diverged = Failure("diverged", "val_loss is nan")
    history = history_of(spec, metrics(0.4, 2.0), metrics(0.398, 9.0), diverged, None)
    lines = draw(spec, history, left="2 h 10 min left")
    header, titles, running, best, of, rival = (" ".join(line.split()) for line in lines)
    assert header == (
        "fashion · random · agn+val (α 0.05) epochs 480 / 5,120 ▕█▉ ▏ 9 % 2 h 10 min left"
    )
    assert titles == "running trial epoch val agn batch size lr momentum weight decay on"
    assert running == "3 88/160 0.470 1.00 103 7.1e-4 0.91 2.0e-5 gpu 0"
    assert best == "best 0 160/160 0.400 2.00 100 7.1e-4 0.91 2.0e-5"
    assert of == ("of 3 finished (1 diverged): score 0.500, val loss 0.400, val accuracy 60.0 %")
    assert rival == "val loss alone would choose trial 1 (val loss 0.398)"


def test_the_values_stand_below_their_titles(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    _, titles, running, best, *_ = draw(spec, history_of(spec, metrics(0.4), None))
    for name in ("trial", "epoch", "val", "batch size", "momentum"):
        at = titles.index(name)
        assert (running[at - 1], best[at - 1]) == (" ", " ")
        assert running[at] != " " and best[at] != " "


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    spec = spec_of(tmp_path)
    history = history_of(spec, metrics(0.4, 2.0), metrics(0.398, 9.0), None)
    lines = draw(spec, history, width, left="2 h 10 min left")
    assert max(map(len, lines)) <= width
    assert any(line.startswith(" running") for line in lines)


def test_eighty_columns_have_room_for_the_papers_space(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    text = "\n".join(draw(spec, history_of(spec, None), 80))
    assert "momentum" in text and "decay" in text and "gpu 0" in text


def test_in_a_file_no_value_is_cut_and_no_parameter_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {f"parameter_{i}": {"float": [0.0, 1.0], "default": 0.5} for i in range(40)}
    name = "an activation of sixty letters, and that is a long name of it"
    space["activation"] = {"choice": [name, "tanh"], "default": name}
    monkeypatch.setitem(CONFIG, "activation", name)
    spec = spec_of(tmp_path, search_space=space)
    lines = draw(spec, history_of(spec, metrics(0.4)), WHOLE)
    assert sum(line.count("parameter") for line in lines) == 40
    assert name in "\n".join(lines)
    assert max(map(len, lines)) < 2000  # and nothing is pushed to a far right end


def test_parameters_without_room_are_counted(tmp_path: Path) -> None:
    space = {f"parameter_{i}": {"float": [0.0, 1.0], "default": 0.5} for i in range(20)}
    spec = spec_of(tmp_path, search_space=space)
    lines = draw(spec, history_of(spec), 80)
    shown = sum(line.count("parameter") for line in lines)
    assert f"+{20 - shown}" in "\n".join(lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_moves_when_numbers_grow(tmp_path: Path, width: int) -> None:
    spec = spec_of(tmp_path)
    early = draw(spec, history_of(spec, None), width, left="")
    late = draw(spec, history_of(spec, *[metrics(0.4)] * 30, None), width, left="23 h 59 min left")
    assert len(late) == len(early) + 3  # the best, its score, the rival
    bars = [next(line for line in lines if "▕" in line) for lines in (early, late)]
    assert bars[0].index("▕") == bars[1].index("▕")
    titles = len(early) - 2
    assert early[titles] == late[titles]


def test_a_task_with_metrics_of_its_own_shows_those_of_the_objective(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, objective={"terms": [{"metric": "gap_loss"}]}, search_space=PAPER)
    assert "gap loss" in draw(spec, history_of(spec, None))[1]


def test_the_rival_is_asked_only_of_other_objectives(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, objective="val")
    assert not any("alone" in line for line in draw(spec, history_of(spec, metrics(0.4))))


def test_the_same_choice_is_said(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    lines = draw(spec, history_of(spec, metrics(0.4), metrics(0.5)))
    assert lines[-1].strip() == "val loss alone would choose the same"


def test_a_study_is_complete_when_all_that_fits_is_told(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, stop={"epochs": 330})
    assert is_complete(as_read(spec, history_of(spec, metrics(0.4), metrics(0.5))))
    assert not is_complete(as_read(spec, history_of(spec, metrics(0.4), None)))
    assert not is_complete(as_read(spec, history_of(spec, metrics(0.4))))
