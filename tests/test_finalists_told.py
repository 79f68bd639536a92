"""What is kept, loaded, said, drawn and retrained of a study with finalists; their stability."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import study_file

import hpogen
from hpogen.errors import UserError
from hpogen.record import folder
from hpogen.report.html.page import write_report
from hpogen.report.live import line
from hpogen.report.race import sentences
from hpogen.report.retrain import worse_than_before
from hpogen.report.verdict import verdict
from hpogen.running.runner import run
from hpogen.selection.stability import worse
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.finalists import Final, final
from hpogen.study.read import Folder, read
from hpogen.study.rehearsal import plan
from hpogen.study.retrained import Choice, Retrained, Run, fallback
from hpogen.study.study import Study
from hpogen.tasks.errors import ERRORS
from hpogen.trial import WEIGHTS

KEYS: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.1, "validation": 100, "audit": 100},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [0.05, 0.2], "log": True, "default": 0.1}},
    "finalists": {"count": 3, "data": 0.4, "seeds": 2},
    "stop": {"trials": 10},
    "plugins": [],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    directory = tmp_path_factory.mktemp("done")
    with Study(load_study(study_file(directory, **KEYS)), directory / "q") as study:
        assert run(study).end == "finished"
    return read(directory / "q")


@pytest.fixture
def race(done: Folder) -> Final:
    found = final(done)
    assert found is not None
    return found


def test_the_network_kept_is_the_best_run_of_the_leader(done: Folder, race: Final) -> None:
    assert race.leader is not None and race.leader.network is not None
    losses = [run.outcome.metrics["val_loss"] for run in race.leader.runs if run.outcome]
    best = race.leader.runs[int(np.argmin(losses))].trial.id
    assert folder.trials_with(done.directory, WEIGHTS) == {best}
    assert status.best(done)["race"]["network"] == best
    kept = hpogen.load(done.directory).state_dict()
    named = hpogen.load(done.directory, trial=best).state_dict()
    assert all(bool((kept[name] == named[name]).all()) for name in kept)


def test_the_answer_is_the_search_s_trial_of_the_leader(done: Folder, race: Final) -> None:
    found = status.best(done)
    assert race.leader is not None and found["trial"] == race.leader.record.trial.id
    assert [f["trial"] for f in found["race"]["finalists"]] == [
        f.record.trial.id for f in race.finalists
    ]
    assert status.status(done)["race"] == found["race"]
    assert "finalist" in status.trial(done, 9) and "finalist" not in status.trial(done, 0)
    assert "finalist, seed 2" in line(done.history.records[9], finalist=True)


def test_the_verdict_says_how_the_race_ended(done: Folder) -> None:
    text = " ".join(" ".join(verdict(done, "ended", [], 200)).split())
    assert re.search("won the race of 3 finalists|does not separate trial|was taken of", text)
    assert "then a race of 3 finalists chose trial" in text


def test_what_went_wrong_with_a_finalist_is_said(race: Final) -> None:
    broken = replace(race.finalists[0], fault="diverged")
    jumped = replace(race.finalists[1], fault="worse")
    text = " ".join(sentences(replace(race, finalists=(broken, jumped, race.finalists[2]))))
    first, second = broken.record.trial.id, jumped.record.trial.id
    assert f"Trial {first} diverged when it was trained again: it is never chosen" in text
    assert f"Trial {second} does worse on more data (val loss" in text
    more = replace(race, rules=race.rules.model_copy(update={"count": 4}))
    text = " ".join(sentences(more))
    assert "There were 3 finalists: 4 were wanted and no more trials could be chosen" in text
    assert "The race ended early: 2 trials kept for it were not trained" in text


def test_a_race_under_way_says_its_round(race: Final) -> None:
    due = tuple(run.trial for finalist in race.finalists for run in finalist.runs[1:])
    (said,) = sentences(replace(race, due=due))
    assert said == "The race goes on: seed 2 of at most 2, 3 finalists left"


def test_the_report_draws_the_race(done: Folder, tmp_path: Path) -> None:
    text = write_report([done.directory], tmp_path / "r.html").read_text()
    assert '<section id="t1-finalists">' in text
    assert "rank of the mean as finalist" in text and "validation loss as finalist" in text


def test_the_plan_says_what_is_kept_for_finalists(done: Folder) -> None:
    planned = plan(load_study(study_file(done.directory.parent / "plan", **KEYS)))
    assert (planned["evaluations"], planned["epochs_charged"]) == (10, 4 * 2 + 6 * 8)


def test_the_next_finalist_is_the_second_of_the_race(done: Folder, race: Final) -> None:
    assert fallback(done, 1) == race.order()[1].record.trial.id
    plain = replace(done, spec=replace(done.spec, finalists=None))
    with pytest.raises(UserError, match="--fallback: got no race, expected a study with finalists"):
        fallback(plain, 1)


@pytest.mark.parametrize(("accuracy", "said"), [(0.01, True), (1.0, False)])
def test_an_answer_that_is_worse_on_all_data_is_said(
    accuracy: float, said: bool, done: Folder
) -> None:
    answer = status.best(done)
    choice = Choice("trial", answer["config"], True, ())
    found = Retrained(
        choice,
        done.directory,
        (Run(0, 0, ERRORS["accuracy"], {"accuracy": accuracy, "loss": 1.0}, ()),),
        1,
        {},
    )
    texts = [*worse_than_before(done, [found], "hpogen")]
    assert bool(texts) == said
    if said:
        assert f"hpogen retrain {done.directory} --fallback" in texts[0]


def losses(means: list[float], seeds: int, seed: int) -> list[Any]:
    """(seeds, 200) each: samples that are hard for all, and seeds that change a mean by 2 %."""
    generator = np.random.default_rng(seed)
    hard = np.random.default_rng(9).exponential(size=200)
    return [
        np.stack(
            [
                mean * (1 + 0.02 * generator.standard_normal()) * hard
                + 0.02 * generator.standard_normal(200)
                for _ in range(seeds)
            ]
        )
        for mean in means
    ]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_jump_is_seen_and_gains_and_luck_are_not(seeds: int) -> None:
    before = [own[0] for own in losses([0.3, 0.31, 0.32, 0.33, 0.34], 1, 0)]
    jumps = losses([0.25, 0.9, 0.27, 0.26, 0.28], seeds, 1)
    assert worse(before, jumps, 32, 0.05) == [False, True, False, False, False]


def test_equal_finalists_are_seldom_said_to_jump() -> None:
    """Of 200 searches without any gain, whose 5 finalists are the luckiest of 32."""
    false = 0
    for k in range(200):
        search = losses([0.3] * 32, 1, 2 * k)
        best = sorted(search, key=lambda own: float(own.mean()))[:5]
        after = losses([0.3] * 5, 2, 2 * k + 1)
        false += any(worse([own[0] for own in best], after, 32, 0.05))
    assert false <= 20


def test_of_one_sample_or_one_finalist_nothing_is_said() -> None:
    assert worse([np.ones(9)], [np.full((1, 9), 5.0)], 32, 0.05) == [False]
    assert worse([np.ones(1)] * 3, [np.full((1, 1), 5.0)] * 3, 32, 0.05) == [False] * 3
