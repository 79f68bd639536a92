"""When a study ends before its trials: by its hours, or for want of a better score."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, StopsAfter, essence, study_file, typed

from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.report.live import Pace
from hpogen.report.picture import picture, used_up
from hpogen.report.planned import check_matrix_page, check_page
from hpogen.report.verdict import verdict
from hpogen.running.drive import Drive
from hpogen.running.runner import run
from hpogen.spec import Stop, load_study
from hpogen.study import ending
from hpogen.study.read import read
from hpogen.study.rehearsal import COSTS, plan
from hpogen.study.standing import standing
from hpogen.study.study import Study
from hpogen.trial import Outcome

BEST = [{"x": 0.3, "y": 10}, {"x": 0.3, "y": 11}]


def ends(directory: Path) -> list[str]:
    return [event["why"] for event in ledger.read(directory) if event["kind"] == "ended"]


def toy(directory: Path, **keys: Any) -> Path:
    return study_file(directory, **{"stop": {"trials": 100, "no_improvement": 7}, **keys})


def finished(path: Path, directory: Path, executor: Any = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


def test_without_improvement(tmp_path: Path) -> None:
    """Seven trials in a row that are no better than the best before them."""
    events = finished(toy(tmp_path), tmp_path / "run")
    scores = [event["score"] for event in events if event["kind"] == "told"]
    assert len(scores) < 100 and ends(tmp_path / "run") == ["no_improvement"]
    assert min(scores[:-7]) < min(scores[-7:])
    assert all(min(scores[:n]) > min(scores[n : n + 7]) for n in range(1, len(scores) - 7))
    with Study(load_study(toy(tmp_path)), tmp_path / "run") as study:
        assert study.next() is None
    assert essence(ledger.read(tmp_path / "run")) == essence(events)
    assert read(tmp_path / "run").history.ended == "no_improvement"


def test_interrupted_it_ends_at_the_same_trial(tmp_path: Path) -> None:
    path = toy(tmp_path, searcher={"name": "cmaes", "population": 4})
    whole = finished(path, tmp_path / "whole")
    end = ""
    while end != "finished":
        with Study(load_study(path), tmp_path / "run") as study:
            end = run(study, observer=StopsAfter(11)).end
    assert essence(ledger.read(tmp_path / "run")) == essence(whole)


def test_a_better_trial_that_ends_later_does_not_take_it_back(tmp_path: Path) -> None:
    """With several workers some run while it ends; what is recorded counts."""
    path = toy(tmp_path, enqueue=[BEST[1], *[{"x": 0.9, "y": y} for y in range(1, 9)], BEST[0]])
    with Study(load_study(path), tmp_path / "run") as study:
        trials = [study.next() for _ in range(10)]
        for trial in trials[:9]:
            assert trial is not None
            study.record(Outcome(trial.id, {"val_loss": 1.0 + trial.id, "agn": 1, "gap_loss": 0}))
        assert study.next() is None
        assert trials[9] is not None
        study.record(Outcome(trials[9].id, {"val_loss": 0.5, "agn": 1, "gap_loss": 0}))
        assert study.next() is None
    before = (tmp_path / "run" / ledger.LEDGER).read_bytes()
    with Study(load_study(path), tmp_path / "run") as study:
        assert study.next() is None
    assert (tmp_path / "run" / ledger.LEDGER).read_bytes() == before


def test_raised_it_goes_on(tmp_path: Path) -> None:
    few = len(finished(toy(tmp_path), tmp_path / "run"))
    raised = toy(tmp_path, stop={"trials": 100, "no_improvement": 30})
    assert len(finished(raised, tmp_path / "run")) > few + 20
    with pytest.raises(UserError, match=r"stop\.no_improvement: 3, but .* has 30; stop can only"):
        Study(
            load_study(toy(tmp_path, stop={"trials": 100, "no_improvement": 3})), tmp_path / "run"
        )


@pytest.mark.parametrize("seed", range(2))
def test_several_workers(seed: int, tmp_path: Path) -> None:
    events = finished(toy(tmp_path), tmp_path / "run", ShuffledExecutor(seed))
    assert ends(tmp_path / "run") == ["no_improvement"]
    asked = sum(event["kind"] == "asked" for event in events)
    assert asked == sum(event["kind"] == "told" for event in events) < 100


def test_the_hours_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a run that was interrupted counts, the time between two runs does not."""
    monkeypatch.setattr(ending, "HOUR", 1.0)
    task = {"name": "bowl", "epochs": 2, "pause": 0.02}
    path = study_file(tmp_path, task=task, stop={"trials": 1000, "hours": 0.6})
    with Study(load_study(path), tmp_path / "run") as study:
        assert run(study, seconds=0.35).end == "time"
    first = read(tmp_path / "run").history
    assert 0.3 < first.ran < 0.6 and not first.ended
    time.sleep(0.3)
    begin = time.monotonic()
    events = finished(path, tmp_path / "run")
    assert time.monotonic() - begin < 0.6
    assert events[-2]["kind"] == "ended" or events[-1]["kind"] in ("ran", "ended")
    history = read(tmp_path / "run").history
    assert history.ended == "hours" and 0.6 <= history.ran < 0.9
    trials = len(history.records)
    finished(path, tmp_path / "run")
    assert len(read(tmp_path / "run").history.records) == trials < 1000


def test_a_killed_run_has_written_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the last note of it; what it lost is run again."""
    monkeypatch.setattr(ending, "HOUR", 1.0)
    monkeypatch.setattr(ending, "OFTEN", 0.05)
    task = {"name": "bowl", "epochs": 2, "pause": 0.01}
    path = study_file(tmp_path, task=task, stop={"trials": 1000, "hours": 60.0})
    child = os.fork()
    if child == 0:
        with Study(load_study(path), tmp_path / "run") as study:
            run(study)
        os._exit(0)
    time.sleep(1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert 0.1 < read(tmp_path / "run").history.ran < 1.5


def test_its_record(tmp_path: Path) -> None:
    """A study without these keys records what it always has, and writes no such lines."""
    assert Stop(trials=3).record() == {"epochs": None, "trials": 3}
    assert Stop(trials=3, hours=8.0).record() == {"epochs": None, "trials": 3, "hours": 8.0}
    path = study_file(tmp_path)
    kinds = {event["kind"] for event in finished(path, tmp_path / "run")}
    assert kinds == {"study", "asked", "told"}
    spec = load_study(toy(tmp_path, stop={"epochs": 40, "hours": 8}))
    assert spec.with_record(spec.record()) == spec


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"stop": {"no_improvement": 8}}, "stop: needs epochs, trials or hours"),
        ({"stop": {"trials": 9, "hours": 0}}, "stop.hours: got 0, expected more than 0"),
        ({"stop": {"trials": 9, "no_improvement": 0}}, "stop.no_improvement: got 0, expected at"),
        (
            {
                "searcher": "cmaes",
                "objective": {"terms": [{"metric": "agn", "scale": "rank"}]},
            },
            "stop.no_improvement: a score by rank is of its cohort alone, and none is better",
        ),
    ],
)
def test_what_is_refused(keys: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_study(toy(tmp_path, **keys))
    assert re.match(rf".*study\.yaml:\d+:\d+: {re.escape(told)}", str(error.value))


def test_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy(tmp_path)
    assert typed("run", path, "--dir", tmp_path / "run") == 0
    shown = capsys.readouterr()
    assert "study finished" in shown.out + shown.err
    assert typed("status", tmp_path / "run", "--json") == 0
    assert '"state": "finished"' in capsys.readouterr().out


HOURS = {"hours": 8}
ENDLESS = [
    "random",
    {"name": "cmaes", "population": 4},
    {"name": "pso", "population": 4},
    {"name": "optuna", "sampler": "TPESampler"},
]


@pytest.mark.parametrize("searcher", ENDLESS, ids=str)
def test_hours_alone(searcher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked on until the time has passed, that before an interruption included."""
    monkeypatch.setattr(ending, "HOUR", 1000.0)
    task = {"name": "bowl", "epochs": 2, "pause": 0.01}
    path = study_file(tmp_path, task=task, stop={"hours": 0.5}, searcher=searcher)
    with Study(load_study(path), tmp_path / "run") as study:
        assert run(study, observer=StopsAfter(4)).end == "interrupted"
    first = read(tmp_path / "run").history
    assert first.ran > 0 and not first.ended
    monkeypatch.setattr(ending, "HOUR", 2 * first.ran + 0.5)  # a half of which it has had
    finished(path, tmp_path / "run")
    history = read(tmp_path / "run").history
    assert ends(tmp_path / "run") == ["hours"] and history.ran >= first.ran + 0.25
    assert len(history.records) > len(first.records)
    before = (tmp_path / "run" / ledger.LEDGER).read_bytes()
    finished(path, tmp_path / "run")
    assert (tmp_path / "run" / ledger.LEDGER).read_bytes() == before


@pytest.mark.parametrize(
    ("searcher", "space", "trials"),
    [
        ("grid", {"x": {"choice": [0, 1, 2]}, "y": {"choice": [1, 10]}}, 6),
        ({"name": "hyperband", "brackets": 2}, None, 0),
    ],
)
def test_hours_alone_and_a_searcher_that_ends_before(
    searcher: Any, space: Any, trials: int, tmp_path: Path
) -> None:
    keys = {"search_space": space} if space else {"budgets": {"min": 1, "max": 3, "eta": 3}}
    task = {"name": "bowl", "epochs": 3}
    path = study_file(tmp_path, task=task, stop=HOURS, searcher=searcher, **keys)
    spec = load_study(path)
    expected = plan(spec)["evaluations"]
    assert expected and (not trials or expected == trials)
    events = finished(path, tmp_path / "run")
    assert sum(event["kind"] == "told" for event in events) == expected
    (line, after) = [
        x for x in check_page(spec, plan(spec), "a.yaml") if "trial" in x and "rungs" not in x
    ]
    assert f"{expected} trials" in line
    assert after.strip() == "no trial is asked for after 8 hours of running"


def test_what_is_planned_for_hours(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path, stop=HOURS))
    planned = plan(spec)
    assert [planned[key] for key in (*COSTS, "at_least")] == [None] * 5
    page = check_page(spec, planned, "a.yaml")
    assert "plan:       as many trials as 8 hours of running have room for" in page
    counted = load_study(study_file(tmp_path, stop={"trials": 3}))
    both = check_matrix_page([planned, plan(counted)], "a.yaml")
    assert any(line.split()[1:] == ["hours"] * 4 for line in both)
    assert both[-2].split()[:3] == ["all", "3", "3"]


def test_what_is_shown_of_hours(tmp_path: Path) -> None:
    path = study_file(tmp_path, stop=HOURS)
    with Study(load_study(path), tmp_path / "run") as study:
        pace = Pace(study, [])
        study.history.ran = 6 * 3600.0
        assert used_up(study.history) == (0.75, "hours", 6.0, 8)
        assert Drive(study, None, False).share() == 0.75
        pace._next = 0.0
        assert pace.left([]) == "2 h 0 min left"
        shown = picture(study, standing(study), [], width=120, left="2 h 0 min left", note="")
        assert "hours 6.00 / 8.00 " in shown.plain and " 75 %   2 h 0 min left" in shown.plain


def test_hours_beside_trials_are_the_nearer_limit_or_not(tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"hours": 8, "trials": 10})
    with Study(load_study(path), tmp_path / "run") as study:
        run(study, observer=StopsAfter(5))
        share, unit, done, _ = used_up(study.history)
        assert (unit, done) == ("trials", round(10 * share))
        study.history.ran = 7.9 * 3600
        assert used_up(study.history)[1] == "hours"


def test_nothing_but_duplicates_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two configurations: hours of telling the same would fill the disk."""
    monkeypatch.setattr(ending, "SAME", 20)
    space = {"x": {"choice": [0.1, 0.2]}, "y": 10}
    path = study_file(tmp_path, stop=HOURS, search_space=space)
    events = finished(path, tmp_path / "run")
    assert ends(tmp_path / "run") == ["duplicates"]
    assert 20 < sum(event["kind"] == "told" for event in events) < 60
    study = read(tmp_path / "run")
    text = " ".join(verdict(study, "study finished", [], 200))
    assert "of 8 hours; nothing new was proposed any more" in text
    finished(path, tmp_path / "run")
    assert essence(ledger.read(tmp_path / "run")) == essence(events)
    counted = study_file(tmp_path, stop={**HOURS, "trials": 70}, search_space=space)
    assert len([e for e in finished(counted, tmp_path / "two") if e["kind"] == "told"]) == 70


def test_the_time_is_written_while_a_long_trial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when a trial is asked for: what a killed run loses is about an epoch."""
    monkeypatch.setattr(ending, "OFTEN", 0.05)
    task = {"name": "bowl", "epochs": 20, "pause": 0.02}
    path = study_file(tmp_path, task=task, stop={"trials": 1, "hours": 8})
    events = finished(path, tmp_path / "run")
    told = next(i for i, event in enumerate(events) if event["kind"] == "told")
    assert sum(event["kind"] == "ran" for event in events[:told]) > 2
