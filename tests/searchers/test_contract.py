"""Every registered searcher through every clause of the searcher contract (architecture.md)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.searchers.base import Searcher
from hpogen.space import Space
from hpogen.spec.parts import SearcherSpec
from hpogen.trial import Config, Proposal

plugins.load_file(Path(__file__).parents[2] / "docs" / "examples" / "my_searcher.py")

NUMBERS = Space.parse(
    {
        "lr": {"float": [1e-7, 0.5], "log": True, "default": 0.01},
        "momentum": {"float": [0, 0.99]},
        "batch_size": {"int": [32, 1000], "log": True},
        "layers": {"int": [1, 4]},
        "epochs_of_warmup": 2,
    }
)
MIXED = Space.parse(
    {
        "lr": {"float": [1e-4, 1], "log": True},
        "optimizer": {"choice": ["sgd", "adam", "adamw"]},
        "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
        "momentum": {"float": [0, 0.99], "when": {"optimizer": "sgd", "nesterov": [True]}},
        "layers": {"int": [1, 4]},
        "width": {"choice": [64, 0.5, "all"], "when": {"layers": [2, 3, 4]}},
    }
)
NESTED = Space.parse(
    {
        "layers": {"int": [1, 4]},
        "lr": {"float": [1e-4, 1], "log": True},
        "dropout": {"float": [0, 0.5], "when": {"layers": [2, 3, 4]}},
    }
)


STEPS = Space.parse(  # what is a number to every engine, though it is none
    {
        "lr": {"float": [1e-4, 1], "log": True},
        "dropout": {"float": [0, 0.5], "step": 0.1},
        "size": {"choice": ["small", None, "large"], "ordered": True},
        "layers": {"int": [1, 4]},
        "width": {"int": [16, 64], "step": 16},
        "forbid": ["size == 'large' and lr > 0.1", "dropout >= 0.4 and size > null"],
    }
)
KINDS = Space.parse(
    {
        "lr": {"float": [1e-4, 1], "log": True},
        "dropout": {"float": [0, 0.5], "step": 0.1},
        "size": {"choice": ["small", "medium", "large"], "ordered": True},
        "layers": {"int": [1, 4]},
        "decay": {"choice": [None, 0.1, "auto"], "when": {"size": ["medium", "large"]}},
        "clip": {"int": [5, 50], "step": 5, "when": {"decay": [None]}},
        "forbid": ["decay == null and layers > 3 or clip > 25", "lr > 0.1 and size != 'small'"],
    }
)
PRIOR = Space.parse(
    {
        "lr": {"float": [1e-4, 1], "log": True, "prior": {"center": 0.03, "width": 3}},
        "momentum": {"float": [0, 0.99], "prior": {"center": 0.9, "width": 0.1}},
        "layers": {"int": [1, 9], "prior": {"center": 4, "width": 1.5}},
        "width": {"int": [16, 64], "step": 16, "prior": {"center": 64, "width": 16}},
        "optimizer": {"choice": ["sgd", "adam"]},
        "forbid": ["optimizer == 'adam' and momentum > 0.95"],
    }
)
SPACES = (NUMBERS, MIXED, NESTED, STEPS, KINDS, PRIOR)


@dataclass(frozen=True)
class Case:
    """A registered searcher with options, in a space that it takes."""

    name: str
    space: Space
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, *, seed: int = 3, enqueue: Sequence[Config] = ()) -> Searcher:
        cls = plugins.searchers.get(self.name)
        budgets = (4, 8, 16) if cls.multi_fidelity else (16,)
        made: Searcher = cls(self.space, budgets, seed, enqueue=enqueue, **self.options)
        return made


CASES = [
    Case("random", NUMBERS),
    Case("random", MIXED),
    Case("grid", NUMBERS, {"points": 3}),
    Case("grid", MIXED, {"points": {"lr": 10, "layers": [1, 3, 4]}}),
    Case("cmaes", NUMBERS),
    Case("cmaes", MIXED, {"population": 5}),
    Case("cmaes", NUMBERS, {"asynchronous": True}),
    Case("cmaes", KINDS, {"population": 4, "asynchronous": True}),
    Case("pso", NUMBERS),
    Case("pso", NESTED, {"population": 5, "asynchronous": True}),
    Case("pso", NESTED, {"topology": "ring"}),
    Case("hyperband", NUMBERS, {"brackets": 60}),
    Case("hyperband", MIXED, {"brackets": 60}),
    Case("bohb", NUMBERS, {"brackets": 60}),
    Case("bohb", MIXED, {"brackets": 60}),
    Case("bohb", NESTED, {"brackets": 60, "random_fraction": 0.0}),
    Case("asha", NUMBERS),
    Case("asha", MIXED, {"sampler": "TPESampler"}),
    Case("optuna", NUMBERS),
    Case("optuna", MIXED, {"sampler": "NSGAIISampler", "population_size": 8}),
    Case("optuna", NUMBERS, {"sampler": "QMCSampler"}),
    Case("listed", NUMBERS),
    Case("listed", MIXED),
    Case("random", KINDS),
    Case("random", PRIOR),
    Case("grid", STEPS, {"points": 4}),
    Case("grid", KINDS, {"points": {"lr": 5}}),
    Case("cmaes", STEPS),
    Case("cmaes", KINDS),
    Case("cmaes", PRIOR),
    Case("pso", STEPS),
    Case("pso", STEPS, {"population": 5, "asynchronous": True}),
    Case("hyperband", KINDS, {"brackets": 60}),
    Case("bohb", STEPS, {"brackets": 60}),
    Case("bohb", KINDS, {"brackets": 60, "random_fraction": 0.0}),
    Case("asha", KINDS),
    Case("asha", STEPS, {"sampler": "TPESampler"}),
    Case("optuna", KINDS),
    Case("optuna", PRIOR),
    Case("optuna", STEPS, {"sampler": "CmaEsSampler"}),
    Case("optuna", STEPS, {"sampler": "QMCSampler"}),
    Case("optuna", KINDS, {"sampler": "NSGAIISampler", "population_size": 8}),
    Case("listed", KINDS),
    Case("listed", PRIOR),
    Case("hill-climber", NUMBERS),
    Case("hill-climber", MIXED),
]
PLAIN = (int, float, str, bool)
# these draw nothing at random; these put a configuration beside their draws, not in one's place
NO_DRAWS = {"grid", "listed"}
OWN_QUEUE = {"optuna"}
# a particle in a forbidden place is no trial, so that the trials behind it have other numbers
SHIFTS = [("pso", STEPS)]
every_case = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join([case.name, *map(str, case.options.values())])
)

Call = tuple[str, int, Any]  # ("ask", trial, Proposal | None) or ("tell", trial, score)


def score_of(proposal: Proposal) -> float:
    """A smooth function of the configuration, with a little that depends on the budget."""
    space = next(s for s in SPACES if s.contains(proposal.config))
    point = space.encode(proposal.config)
    return float(np.sum((point - 0.4) ** 2)) + 0.1 * math.sin(7 * point[0]) / proposal.budget


def drive(searcher: Searcher, asks: int, *, slots: int = 4, chaos: int = 0) -> Iterator[Call]:
    """Ask and tell as a study with four slots would: random completion order, 10 % failures."""
    chance = random.Random(chaos)
    running: dict[int, Proposal] = {}
    asked = 0
    while asked < asks:
        proposal = searcher.ask() if len(running) < slots else None
        if len(running) < slots:
            yield ("ask", asked, proposal)
        if proposal is not None:
            running[asked] = proposal
            asked += 1
        elif not running:
            return
        if running and (proposal is None or chance.random() < 0.3):
            trial = chance.choice(sorted(running))
            told = running.pop(trial)
            score = math.inf if chance.random() < 0.1 else score_of(told)
            searcher.tell(trial, score)
            yield ("tell", trial, score)


def proposals(calls: Sequence[Call]) -> list[Proposal]:
    return [what for kind, _, what in calls if kind == "ask" and what is not None]


def replay(searcher: Searcher, calls: Sequence[Call], *, none_asks: int) -> list[Proposal]:
    """The recorded calls again; an ask that gave None is made `none_asks` times."""
    result = []
    for kind, trial, what in calls:
        if kind == "tell":
            searcher.tell(trial, what)
        elif what is None:
            assert [searcher.ask() for _ in range(none_asks)] == [None] * none_asks
        else:
            proposal = searcher.ask()
            assert proposal is not None
            result.append(proposal)
    return result


def test_every_registered_searcher_is_in_the_suite() -> None:
    ours = {name for name in plugins.searchers.names() if plugins.searchers.is_builtin(name)}
    assert {case.name for case in CASES} == ours | {"hill-climber"}


@every_case
def test_replay_reproduces_every_proposal_and_the_next_three(case: Case) -> None:
    searcher = case.make()
    calls = [*drive(searcher, 200)]
    assert any(kind == "tell" and what == math.inf for kind, _, what in calls)
    following = [searcher.ask() for _ in range(3)]
    waits = any(kind == "ask" and what is None for kind, _, what in calls)
    for none_asks in (0, 3) if waits else (0,):
        again = case.make()
        assert replay(again, calls, none_asks=none_asks) == proposals(calls)
        assert [again.ask() for _ in range(3)] == following


@every_case
def test_global_random_state_is_neither_used_nor_touched(case: Case) -> None:
    calls = [*drive(case.make(), 60)]
    np.random.seed(99)
    random.seed(99)
    expected = (np.random.get_state()[1].tolist(), random.getstate())
    assert replay(case.make(), calls, none_asks=1) == proposals(calls)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == expected
    disturbed, result = case.make(), []
    for call in calls:
        np.random.seed(call[1])
        random.seed(call[1])
        result += replay(disturbed, [call], none_asks=1)
    assert result == proposals(calls)


@every_case
def test_configurations_are_inside_the_space_and_plain(case: Case) -> None:
    for proposal in proposals([*drive(case.make(), 150)]):
        assert case.space.contains(proposal.config), proposal.config
        assert {type(value) for value in proposal.config.values()} <= {*PLAIN, type(None)}
        assert type(proposal.budget) is int
        assert type(proposal.cohort) in (int, type(None))
        assert type(proposal.parent) in (int, type(None))


@every_case
def test_the_seed_decides(case: Case) -> None:
    if case.name in NO_DRAWS:
        pytest.skip("draws nothing at random")
    runs = [proposals([*drive(case.make(seed=seed), 12)]) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@every_case
def test_enqueued_configurations_replace_the_first_draws(case: Case) -> None:
    if not case.make().enqueues_default:
        pytest.skip("takes none (see the refusals)")
    enqueue = [case.space.default, case.space.complete({"layers": 4})]
    asked = [case.make(enqueue=given).ask() for given in ([], enqueue)]
    assert asked[0] != asked[1]
    with_enqueued, without = case.make(enqueue=enqueue), case.make()
    first = [with_enqueued.ask() for _ in range(4)]
    assert [p.config for p in first[:2] if p] == enqueue
    shifts = (case.name, case.space) in SHIFTS
    if case.name not in OWN_QUEUE and case.options.get("sampler") is None and not shifts:
        assert first[2:] == [without.ask() for _ in range(4)][2:]
    assert len(proposals([*drive(case.make(enqueue=enqueue), 50)])) == 50


@every_case
def test_nothing_but_failures_is_survived(case: Case) -> None:
    searcher = case.make()
    for trial in range(60):
        proposal = searcher.ask()
        assert proposal is not None
        assert case.space.contains(proposal.config)
        searcher.tell(trial, math.inf)


@every_case
def test_an_engine_of_ranks_names_its_cohorts(case: Case) -> None:
    searcher = case.make()
    if searcher.ranks_only:
        assert all(p.cohort is not None for p in proposals([*drive(searcher, 40)]))


@every_case
def test_parents_ran_the_same_configuration_at_the_rung_below(case: Case) -> None:
    searcher = case.make()
    asked = proposals([*drive(searcher, 150)])
    assert searcher.multi_fidelity == any(p.budget < 16 for p in asked)
    for proposal in asked:
        if proposal.parent is not None:
            parent = asked[proposal.parent]
            assert (parent.config, parent.budget) == (proposal.config, proposal.budget // 2)


ONE = Space.parse({"lr": {"float": [0, 1]}})
REFUSALS = [
    ("grid", NUMBERS, {"enqueue": [NUMBERS.default]}, "grid: .*enqueue"),
    ("grid", NUMBERS, {"points": {"momentun": 3}}, "grid: .*did you mean 'momentum'"),
    ("grid", NUMBERS, {"points": {"momentum": [2.0]}}, r"grid: points.momentum: got 2.0"),
    ("grid", NUMBERS, {"points": {"momentum": []}}, r"grid: points.momentum: got \[\]"),
    ("grid", MIXED, {"points": {"optimizer": 2}}, "grid: points.optimizer: got 2, expected a list"),
    ("cmaes", ONE, {}, "cmaes: 'lr'"),
    (
        "optuna",
        MIXED,
        {"sampler": "TPEsampler"},
        "optuna: sampler 'TPEsampler' is unknown; did you mean",
    ),
    ("optuna", MIXED, {"sampler": "GridSampler"}, "optuna: sampler 'GridSampler' is unknown"),
    ("optuna", MIXED, {"n_startup": 3}, "optuna: TPESampler: .* did you mean 'n_startup_trials'"),
    ("optuna", MIXED, {"n_startup_trials": True}, "n_startup_trials: got True, expected int"),
    ("optuna", MIXED, {"gamma": 3}, "optuna: TPESampler: option 'gamma' is unknown"),
    (
        "optuna",
        MIXED,
        {"sampler": "QMCSampler"},
        "optuna: 'optimizer' is a choice without an order",
    ),
    ("optuna", NUMBERS, {"sampler": "QMCSampler", "qmc_type": "x"}, "optuna: QMCSampler: .*'x'"),
    ("asha", NUMBERS, {}, "asha: needs at least two budgets"),
    ("bohb", NUMBERS, {"brackets": 3}, "bohb: needs at least two budgets"),
    ("hyperband", NUMBERS, {"brackets": 3}, "hyperband: needs at least two budgets"),
    ("pso", MIXED, {}, "pso: 'optimizer' is a choice"),
    ("pso", NUMBERS, {"topology": "ring", "neighbours": 20}, "pso: neighbours: got 20"),
    ("pso", KINDS, {}, "pso: 'decay' is a choice without an order, .*: ordered: true, if it"),
    ("optuna", KINDS, {"sampler": "QMCSampler"}, "optuna: 'decay' is a choice without an order"),
    ("optuna", PRIOR, {"sampler": "GPSampler"}, "optuna: 'lr' has a prior, which GPSampler does"),
    *(
        (name, PRIOR, {}, f"{name}: 'lr' has a prior, which {name} does not honour")
        for name in ("grid", "pso", "hyperband", "bohb", "asha", "hill-climber")
    ),
    ("hill-climber", STEPS, {}, "hill-climber: the space has forbid, which hill-climber does not"),
]


@pytest.mark.parametrize(("name", "space", "options", "text"), REFUSALS)
def test_what_a_searcher_cannot_treat_is_refused_by_name(
    name: str, space: Space, options: dict[str, Any], text: str
) -> None:
    given = {key: value for key, value in options.items() if key != "enqueue"}
    enqueue = options.get("enqueue", ())
    with pytest.raises(Refusal, match=text):
        SearcherSpec(name, given).make(space, (16,), 0, enqueue)
