"""Several budgets through the whole machine: promotion, continued training, scales per budget."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, StopsAfter, by_trial, study_file

from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, ledger
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

BUDGETS = {"min": 2, "max": 8, "eta": 2}
IMAGES: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": 100, "augment": "standard"},
        "model": {"name": "mlp", "width": 16, "depth": 1},
        "epochs": 8,
        "schedule": {"name": "cosine", "warmup": 1},
        "measures": ["agn_online", {"name": "gn", "every": "iteration"}],
    },
    "search_space": {
        "lr": {"float": [0.001, 1.0], "log": True, "default": 0.1},
        "optimizer": {"choice": ["sgd", "adamw"]},
    },
    "searcher": {"name": "hyperband", "brackets": 3},
    "budgets": BUDGETS,
    "objective": {"preset": "agn+val", "alpha": 0.1, "scale": "log"},
    "stop": {"epochs": 1000},
    "plugins": [],
}
BOWL: dict[str, Any] = {
    "task": {"name": "bowl", "epochs": 8},
    "searcher": {"name": "bohb", "brackets": 9},
    "budgets": BUDGETS,
    "objective": {
        "terms": [{"metric": "val_loss"}, {"metric": "agn", "weight": 0.3, "scale": "standard"}],
        "standard_after": 5,
    },
    "stop": {"epochs": 1000},
}


def finished(path: Path, directory: Path, executor: Any = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


def interrupted(path: Path, directory: Path, seed: int) -> list[dict[str, Any]]:
    """The study, stopped after a few epochs again and again."""
    chance = random.Random(seed)
    for _ in range(300):
        with Study(load_study(path), directory) as study:
            stop = StopsAfter(chance.randrange(1, 9))
            if run(study, InlineExecutor(), observer=stop).end == "finished":
                return ledger.read(directory)
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize(
    "place", ["", pytest.param("{}/elsewhere", marks=pytest.mark.slow), "file://{}/at-a-url"]
)
def test_continued_rungs_give_the_metrics_of_retrained_ones(place: str, tmp_path: Path) -> None:
    keys = {**IMAGES, "checkpoints": {"path": place.format(tmp_path) or None}}
    retrain, go_on = (
        study_file(tmp_path / rungs, **keys, rungs=rungs) for rungs in ("retrain", "continue")
    )
    whole = finished(retrain, tmp_path / "retrained")
    told = by_trial(whole, "told")
    asked = by_trial(whole, "asked")
    assert any(event["parent"] is not None for event in asked.values())
    for events in (finished(go_on, tmp_path / "a"), interrupted(go_on, tmp_path / "b", seed=0)):
        assert by_trial(events, "asked") == asked
        for trial, event in by_trial(events, "told").items():
            parent = asked[trial]["parent"]
            below = 0 if parent is None else asked[parent]["budget"]
            assert event["epochs"] == asked[trial]["budget"] - below
            assert {**event, "epochs": told[trial]["epochs"]} == told[trial]
    assert [*tmp_path.rglob("checkpoint-*")] == []


def test_nothing_is_left_of_the_checkpoints(tmp_path: Path) -> None:
    finished(study_file(tmp_path, **IMAGES, rungs="continue"), tmp_path / "q")
    assert [path for path in (tmp_path / "q" / "trials").rglob("*") if path.is_dir()] == []
    assert list((tmp_path / "q").rglob("*.pt")) == []


def test_a_continued_trial_has_the_whole_curve(tmp_path: Path) -> None:
    for rungs in ("continue", "retrain"):
        path = study_file(tmp_path / rungs, **IMAGES, rungs=rungs)
        events = finished(path, tmp_path / rungs / "q")
    for trial in by_trial(events, "asked"):
        curves = [
            [(row["epoch"], row["metrics"]) for row in folder.read_curve(directory, trial)]
            for directory in (tmp_path / "continue" / "q", tmp_path / "retrain" / "q")
        ]
        assert curves[0] == curves[1]


@pytest.mark.parametrize("searcher", ["bohb", "hyperband", "asha"])
def test_every_budget_has_its_own_frozen_scale(searcher: str, tmp_path: Path) -> None:
    options = {} if searcher == "asha" else {"brackets": 9}
    keys = {**BOWL, "searcher": {"name": searcher, **options}, "stop": {"epochs": 150}}
    events = finished(study_file(tmp_path, **keys), tmp_path / "q")
    scales = {
        event["budget"]: event["metrics"]["agn"]
        for event in events
        if "budget" in event and event["kind"] == "scale"
    }
    assert sorted(scales) == [2, 4, 8]
    asked, told = by_trial(events, "asked"), by_trial(events, "told")
    for trial, event in told.items():
        agn = scales[asked[trial]["budget"]]
        z = (event["metrics"]["agn"] - agn["center"]) / agn["spread"]
        assert event["score"] == pytest.approx(event["metrics"]["val_loss"] + 0.3 * z)


DEALER = """
import numpy as np
from hpogen.plugins import searcher
from hpogen.trial import Proposal

@searcher("dealer")
class Dealer:
    enqueues_default = ranks_only = False
    multi_fidelity = True

    def __init__(self, space, budgets, seed, *, enqueue=()):
        generator = np.random.default_rng(seed)
        dealt = [budgets[0]] * 20 + [budgets[1]] * 12 + [budgets[2]] * 4
        self._left = [Proposal(space.sample(generator), b) for b in generator.permutation(dealt)]
        self._left = [Proposal(p.config, int(p.budget)) for p in self._left]

    def ask(self):
        return self._left.pop() if self._left else None

    def tell(self, trial, score):
        pass
"""


def test_the_order_of_arrival_changes_neither_scales_nor_scores(tmp_path: Path) -> None:
    """36 trials of three budgets, of the largest too few for a scale of its own."""
    keys = {**BOWL, "searcher": "dealer", "plugins": ["bowl.py", "dealer.py"]}
    path = study_file(tmp_path, **keys)
    (tmp_path / "dealer.py").write_text(DEALER)
    results = []
    for seed in range(8):
        events = finished(path, tmp_path / str(seed), ShuffledExecutor(seed, slots=36))
        scales = {e["budget"]: e["metrics"] for e in events if e["kind"] == "scale"}
        arrived = [event["trial"] for event in events if event["kind"] in ("held", "told")]
        results.append((scales, by_trial(events, "told"), arrived))
    assert results[0][0].keys() == {2, 4, 8}
    assert results[0][0][8] == results[0][0][4]  # the nearest lower one serves
    for scales, told, arrived in results[1:]:
        assert arrived != results[0][2]
        assert (scales, told) == results[0][:2]


@pytest.mark.parametrize("searcher", ["bohb", "asha"])
def test_learning_one_by_one_is_replayed_from_the_record(searcher: str, tmp_path: Path) -> None:
    """What depends on the order of completion is recorded, so a cut study goes on from there."""
    options = {} if searcher == "asha" else {"brackets": 6}
    keys = {**BOWL, "searcher": {"name": searcher, **options}, "stop": {"epochs": 120}}
    path = study_file(tmp_path, **keys)
    finished(path, tmp_path / "whole", ShuffledExecutor(1))
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines), 7):
        directory = tmp_path / f"cut{cut}"
        (directory / "trials").mkdir(parents=True)
        (directory / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        events = finished(path, directory, ShuffledExecutor(cut))
        assert (directory / ledger.LEDGER).read_bytes().startswith(b"".join(lines[:cut]))
        assert by_trial(events, "asked").keys() == by_trial(events, "told").keys()
