"""ASHA promotes what is among the best 1/η of its rung, as soon as it is, and never waits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hpogen.errors import Refusal
from hpogen.searchers.asha import AshaSearcher
from hpogen.space import Space
from hpogen.trial import Proposal

SPACE = Space.parse({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
BUDGETS = (10, 20, 40)


def ask(searcher: AshaSearcher) -> Proposal:
    proposal = searcher.ask()
    assert proposal is not None
    return proposal


def test_a_worked_example() -> None:
    searcher = AshaSearcher(SPACE, BUDGETS, 0)
    first = [ask(searcher) for _ in range(4)]
    assert [p.budget for p in first] == [10] * 4
    searcher.tell(2, 0.5)
    assert ask(searcher).budget == 10  # trial 4: of one, none is among the best half
    searcher.tell(0, 0.3)
    up = ask(searcher)  # trial 5: of two, trial 0 is
    assert (up.config, up.budget, up.parent) == (first[0].config, 20, 0)
    assert ask(searcher).budget == 10  # trial 6: trial 0 is not promoted twice
    searcher.tell(1, 0.1)
    searcher.tell(3, 0.2)
    assert [ask(searcher).parent for _ in range(3)] == [1, 3, None]  # trials 7, 8, 9
    searcher.tell(5, 0.4)
    searcher.tell(7, 0.6)
    searcher.tell(4, 0.0)  # now both rungs have one to promote
    top = ask(searcher)  # the highest comes first
    assert (top.config, top.budget, top.parent) == (first[0].config, 40, 5)
    assert ask(searcher).parent == 4


def test_failures_count_but_are_never_promoted() -> None:
    searcher = AshaSearcher(SPACE, BUDGETS, 0)
    for trial in range(6):
        assert ask(searcher).budget == 10
        searcher.tell(trial, math.inf)
    ask(searcher)
    searcher.tell(6, 1.0)
    assert ask(searcher).parent == 6


@pytest.mark.parametrize("slots", [1, 7, 64])
def test_no_slot_ever_waits_and_rungs_keep_their_shares(slots: int) -> None:
    searcher = AshaSearcher(SPACE, BUDGETS, 0)
    generator = np.random.default_rng(slots)
    asked: list[Proposal] = []
    running: list[int] = []
    while len(asked) < 600:
        while len(running) < slots:
            running.append(len(asked))
            asked.append(ask(searcher))
        trial = running.pop(generator.integers(len(running)))
        searcher.tell(trial, float(asked[trial].config["x"]))
    counts = [sum(p.budget == budget for p in asked) for budget in BUDGETS]
    for below, above in itertools.pairwise(counts):  # a promoted one may be overtaken later
        assert (below - slots) / 2 - slots <= above <= 2 / 3 * below
    best = np.quantile([float(p.config["x"]) for p in asked if p.budget == 10], 0.4)
    assert np.mean([float(p.config["x"]) for p in asked if p.budget == 40]) < best


def test_an_optuna_sampler_learns_from_the_lowest_rung() -> None:
    searcher = AshaSearcher(SPACE, BUDGETS, 0, sampler="TPESampler", n_startup_trials=5)
    asked: list[Proposal] = []
    for trial in range(90):
        asked.append(ask(searcher))
        x, y = (float(asked[-1].config[name]) for name in "xy")
        searcher.tell(trial, (x - 0.2) ** 2 + (y - 0.7) ** 2 + asked[-1].budget)
    drawn = [p.config for p in asked if p.budget == 10]
    distances = [math.hypot(float(c["x"]) - 0.2, float(c["y"]) - 0.7) for c in drawn]
    assert np.mean(distances[-15:]) < 0.6 * np.mean(distances[:10])


def test_options_belong_to_the_sampler() -> None:
    with pytest.raises(Refusal, match="asha: sampler 'random' has no options, got popsize"):
        AshaSearcher(SPACE, BUDGETS, 0, popsize=3)
    with pytest.raises(Refusal, match="asha: sampler 'Tpe' is unknown"):
        AshaSearcher(SPACE, BUDGETS, 0, sampler="Tpe")
