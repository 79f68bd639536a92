"""BOHB and Hyperband are HpBandSter's: same brackets, same model, same proposals."""

from __future__ import annotations

import math
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpogen.errors import Refusal
from hpogen.searchers.base import Searcher
from hpogen.searchers.bohb import BohbSearcher, Model
from hpogen.searchers.brackets import Rung, plan
from hpogen.searchers.hyperband import Contender, Halving, HyperbandSearcher
from hpogen.space import Space
from hpogen.trial import Config, Proposal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # invalid escape sequences
    from hpbandster.core.dispatcher import Job
    from hpbandster.optimizers.bohb import BOHB as Master
    from hpbandster.optimizers.config_generators.bohb import BOHB
    from hpbandster.optimizers.iterations import SuccessiveHalving

FLOATS = Space.parse({name: {"float": [0, 1]} for name in "abcd"})
WITH_CHOICES = Space.parse(
    {"a": {"float": [0, 1]}, "n": {"int": [1, 9]}, "k": {"choice": ["x", "y"]}}
)
BUDGETS = (40, 80, 160)


def score(config: Config, budget: int) -> float:
    numbers = [float(value) for value in config.values() if isinstance(value, float)]
    return sum((value - 0.3) ** 2 for value in numbers) + 1 / budget


def run_in_turn(searcher: Searcher) -> list[Proposal]:
    """One trial at a time until the searcher is exhausted."""
    asked: list[Proposal] = []
    while (proposal := searcher.ask()) is not None:
        searcher.tell(len(asked), score(proposal.config, proposal.budget))
        asked.append(proposal)
    return asked


def bare_hpbandster(space: Space, brackets: int, seed: int) -> list[tuple[dict[str, Any], int]]:
    """The package's own generator and brackets, without its master and workers."""
    np.random.seed(seed)
    configspace = space.configspace()
    configspace.seed(seed)
    generator = BOHB(configspace)
    budgets = 160 * np.power(2.0, -np.linspace(2, 0, 3))
    master = SimpleNamespace(max_SH_iter=3, eta=2, budgets=budgets, config_generator=generator)
    evaluated = []
    for i in range(brackets):
        iteration = Master.get_next_iteration(master, i)
        while (run := iteration.get_next_run()) is not None:
            identity, values, budget = run
            config = {
                name: p.values[int(values[name])] if hasattr(p, "values") else values[name]
                for name, p in space.parameters.items()
            }
            job = Job(identity, config=values, budget=budget)
            job.result = {"loss": score(config, int(budget))}
            iteration.register_result(job)
            generator.new_result(job)
            evaluated.append((config, int(budget)))
    return evaluated


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # HpBandSter calls ConfigSpace's old names
@pytest.mark.filterwarnings("ignore::FutureWarning")  # statsmodels announces a generator
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # and divides by zero, see Model
@pytest.mark.parametrize(("space", "seed"), [(FLOATS, 4), (WITH_CHOICES, 1)])
def test_proposes_what_hpbandster_proposes(space: Space, seed: int) -> None:
    # the second seed is one at which every category occurs among the good and among the bad
    expected = bare_hpbandster(space, 15, seed)
    asked = run_in_turn(BohbSearcher(space, BUDGETS, seed, brackets=15))
    assert [p.budget for p in asked] == [budget for _, budget in expected]
    for proposal, (config, _) in zip(asked, expected, strict=True):
        assert dict(proposal.config) == pytest.approx(config)


SCORES = st.sampled_from([0.0, 1.0, 2.0, math.inf])  # ties and failures
RUNGS = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.data(), RUNGS)
def test_a_bracket_runs_what_hpbandsters_does(data: st.DataObject, numbers: list[int]) -> None:
    """Whatever the order in which its trials end, with ties, and where whole rungs fail."""
    configs = [{"number": i} for i in range(sum(numbers))]
    draw, drawn = iter(configs).__next__, iter(configs)
    budgets = [*range(len(numbers))]
    theirs = SuccessiveHalving(0, numbers, budgets, lambda _: (next(drawn), {}))
    ours = Halving(0, tuple(Rung(i, n) for i, n in enumerate(numbers)), draw)
    running: list[tuple[Contender, Job]] = []
    while True:
        expected, run = theirs.get_next_run(), ours.next()
        assert expected is None if run is None else expected[1:] == (run[0].config, run[1])
        if run is not None:
            running.append((run[0], Job(expected[0], config=expected[1], budget=expected[2])))
        elif not running:
            break
        if running and (run is None or data.draw(st.booleans())):
            contender, job = running.pop(data.draw(st.integers(0, len(running) - 1)))
            score = data.draw(SCORES)
            ours.tell(contender, score)
            job.result = {"loss": score}
            theirs.register_result(job)
    assert ours.is_finished and theirs.is_finished


def test_without_hpbandster_it_is_one_line_and_hyperband_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "hpbandster"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hpbandster", None)
    with pytest.raises(Refusal, match=r"bohb: .*pip install 'hpogen\[bohb\]'"):
        BohbSearcher(FLOATS, BUDGETS, 0, brackets=1)
    assert run_in_turn(HyperbandSearcher(FLOATS, BUDGETS, 0, brackets=1))


def test_the_papers_brackets() -> None:
    table = plan(BUDGETS, 12)
    assert sum(bracket[0].configurations for bracket in table) == 36
    assert sum(rung.configurations for bracket in table for rung in bracket) == 52
    assert sum(r.configurations * r.budget for bracket in table for r in bracket) == 5120
    assert BohbSearcher.plan(BUDGETS, brackets=12) == table


@pytest.mark.parametrize("cls", [BohbSearcher, HyperbandSearcher])
def test_the_brackets_that_are_run_are_those_of_the_plan(cls: Any) -> None:
    asked = run_in_turn(cls(FLOATS, BUDGETS, 0, brackets=12))
    assert len(asked) == 52
    assert sum(p.budget for p in asked) == 5120
    assert (
        sum(p.budget - (asked[p.parent].budget if p.parent is not None else 0) for p in asked)
        == 4160
    )
    assert len({tuple(p.config.items()) for p in asked}) == 36
    promoted = [p for p in asked if p.parent is not None]
    assert len(promoted) == 16
    for proposal in promoted:
        rivals = [p for p in asked if p.cohort == asked[proposal.parent or 0].cohort]
        better = [p for p in rivals if score(p.config, p.budget) < score(proposal.config, p.budget)]
        assert len(better) < len(rivals) / 2


def test_budgets_in_powers_of_three_lose_no_bracket() -> None:
    table = plan((1, 3, 9, 27, 81, 243), 6)
    assert [[rung.configurations for rung in bracket] for bracket in table] == [
        [243, 81, 27, 9, 3, 1],
        [81, 27, 9, 3, 1],
        [27, 9, 3, 1],
        [18, 6, 2],
        [9, 3],
        [6],
    ]


def test_brackets_open_while_slots_are_free() -> None:
    searcher = HyperbandSearcher(FLOATS, BUDGETS, 0, brackets=3)
    asked = [*iter(searcher.ask, None)]
    assert [p.budget for p in asked] == [40] * 4 + [80] * 2 + [160] * 3
    for trial in (0, 1, 2):
        searcher.tell(trial, 0.1 * trial)
    assert searcher.ask() is None  # the rung is not complete
    searcher.tell(3, 1.0)
    promoted = [searcher.ask(), searcher.ask()]
    assert [(p.parent, p.budget) for p in promoted if p] == [(0, 80), (1, 80)]


def test_a_failed_rung_begins_anew_above() -> None:
    searcher = HyperbandSearcher(FLOATS, BUDGETS, 0, brackets=1)
    for trial in range(4):
        searcher.ask()
        searcher.tell(trial, math.inf)
    above = searcher.ask()
    assert above is not None
    assert (above.budget, above.parent) == (80, None)


def test_a_category_that_no_good_configuration_has_does_not_win() -> None:
    space = Space.parse({"a": {"float": [0, 1]}, "k": {"choice": ["x", "y", "z"]}})
    model = Model(space, 0, random_fraction=0.0)
    for i in range(40):  # "z" never occurs, and of the others only "x" is good
        config = {"a": i / 40, "k": "xy"[i % 2]}
        model.learn(config, 9, float(i % 2))
    drawn = [model.draw()["k"] for _ in range(40)]
    assert drawn.count("x") == 40


def test_all_draws_are_from_the_model_once_there_is_one() -> None:
    searcher = BohbSearcher(FLOATS, BUDGETS, 2, brackets=40, random_fraction=0.0)
    asked = run_in_turn(searcher)
    distances = [score(p.config, 160) for p in asked if p.parent is None]
    assert np.median(distances[-30:]) < 0.5 * np.median(distances[:10])


@pytest.mark.parametrize(
    ("budgets", "text"),
    [((10,), "two budgets"), ((10, 30, 60), "each η times"), ((5, 5), "each η")],
)
def test_budgets_without_a_ratio_are_refused(budgets: tuple[int, ...], text: str) -> None:
    with pytest.raises(Refusal, match=f"bohb: .*{text}"):
        BohbSearcher(FLOATS, budgets, 0, brackets=1)


def test_too_few_points_for_a_model_are_refused() -> None:
    with pytest.raises(Refusal, match="bohb: min_points_in_model: got 4, expected at least 5"):
        BohbSearcher(FLOATS, BUDGETS, 0, brackets=1, min_points_in_model=4)


def test_a_range_that_configspace_would_lose_is_refused() -> None:
    space = Space.parse({"x": {"float": [1e-20, 1e-15], "log": True}})
    with pytest.raises(Refusal, match=r"bohb: .*'x'.*13 decimals"):
        BohbSearcher(space, BUDGETS, 0, brackets=1)
