"""`asynchronous`: the next generation begins early, and the engine still learns by generations."""

from __future__ import annotations

import math
import random
from collections import deque
from pathlib import Path

import cma
import numpy as np
import pytest
from toys import study_file

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.searchers.base import Searcher
from hpogen.searchers.cmaes import CmaesSearcher
from hpogen.searchers.pso import PsoSearcher
from hpogen.space import Space
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import Outcome, Proposal, Trial

SPACE = Space.parse({name: {"float": [0, 1]} for name in "abcd"})
POPULATION = 6
LEFT = {"cmaes": 2, "pso": 1}  # points of a generation that are never early
ENGINES = pytest.mark.parametrize("name", ["cmaes", "pso"])


def make(name: str, *, asynchronous: bool = True, seed: int = 5, space: Space = SPACE) -> Searcher:
    options = {"population": POPULATION, "asynchronous": asynchronous}
    searcher: Searcher = plugins.searchers.get(name)(space, (9,), seed, **options)
    return searcher


def score(proposal: Proposal | Trial) -> float:
    return float(np.sum((SPACE.encode(proposal.config) - 0.7) ** 2))


def asked(searcher: Searcher) -> Proposal:
    proposal = searcher.ask()
    assert proposal is not None
    return proposal


@ENGINES
def test_one_worker_sees_no_difference(name: str) -> None:
    exact, early = make(name, asynchronous=False), make(name)
    for trial in range(40):
        proposal = asked(early)
        assert proposal == asked(exact)
        exact.tell(trial, score(proposal))
        early.tell(trial, score(proposal))


@ENGINES
def test_a_straggler_holds_up_nobody_for_nearly_a_generation(name: str) -> None:
    searcher = make(name)
    first = [asked(searcher) for _ in range(POPULATION)]
    for trial in range(1, POPULATION):
        searcher.tell(trial, score(first[trial]))
    early = [asked(searcher) for _ in range(POPULATION - LEFT[name])]
    assert {proposal.cohort for proposal in early} == {1}
    assert searcher.ask() is None
    searcher.tell(POPULATION, score(early[0]))  # of the next generation: the engine waits on
    assert searcher.ask() is None
    searcher.tell(0, score(first[0]))
    rest = [asked(searcher).cohort for _ in range(LEFT[name])]
    assert {*rest} == {1}  # drawn from what was learnt
    assert asked(searcher).cohort == 2


def test_a_swarm_moves_no_particle_whose_score_is_not_known() -> None:
    searcher = make("pso")
    first = [asked(searcher) for _ in range(POPULATION)]
    assert searcher.ask() is None
    searcher.tell(4, score(first[4]))
    moved = asked(searcher)
    step = SPACE.encode(moved.config) - SPACE.encode(first[4].config)
    assert 0 < np.max(np.abs(step)) <= 0.5
    assert searcher.ask() is None


def test_cmaes_is_told_early_points_with_their_generation() -> None:
    """The same calls by hand on the engine, two points of each generation being early."""
    searcher = CmaesSearcher(SPACE, (9,), 5, population=POPULATION, asynchronous=True)
    generator = np.random.RandomState(5)
    bare = cma.CMAEvolutionStrategy(
        SPACE.encode(SPACE.default),
        0.25,
        {
            "bounds": [0, 1],
            "popsize": POPULATION,
            "randn": generator.randn,
            "seed": math.nan,
            "minstd": np.zeros(4),
            "verbose": -9,
        },
    )
    early: list[np.ndarray] = []
    trials: deque[tuple[int, Proposal]] = deque()
    trial = 0
    for _ in range(10):
        points = [*early, *bare.ask(POPULATION - len(early))]
        while len(trials) < POPULATION:
            trials.append((trial, asked(searcher)))
            trial += 1
        early = []
        for _ in range(2):
            early.append(bare.ask(1)[0])
            trials.append((trial, asked(searcher)))
            trial += 1
        told = [trials.popleft() for _ in range(POPULATION)]
        for point, (_, proposal) in zip(points, told, strict=True):
            np.testing.assert_allclose(SPACE.encode(proposal.config), point, atol=1e-12)
        for number, proposal in reversed(told):
            searcher.tell(number, score(proposal))
        bare.tell(points, [score(proposal) for _, proposal in told])


def test_a_restart_learns_nothing_from_points_that_were_drawn_before_it() -> None:
    """On a constant function cma stops soon; the early points of then are trials and no more."""
    searcher = CmaesSearcher(SPACE, (9,), 0, population=4, asynchronous=True)
    sizes: dict[int, int] = {}
    running: deque[int] = deque()
    for trial in range(200):
        proposal = searcher.ask()
        while proposal is None:
            searcher.tell(running.popleft(), 1.0)
            proposal = searcher.ask()
        assert proposal.cohort is not None
        sizes[proposal.cohort] = sizes.get(proposal.cohort, 0) + 1
        running.append(trial)
        if len(running) > 3:
            searcher.tell(running.popleft(), 1.0)
    assert [*sizes.values()][:5] == [4, 2 + 8, 3 + 16, 3 + 32, 3 + 64]


@ENGINES
@pytest.mark.parametrize("cut", [7, 23, 41])
def test_a_study_goes_on_as_if_it_had_not_stopped(name: str, cut: int, tmp_path: Path) -> None:
    """Four trials run at a time and end in a random order; the recorded order is replayed."""
    path = study_file(
        tmp_path,
        searcher={"name": name, "population": 5, "asynchronous": True},
        stop={"trials": 60},
    )
    spec = load_study(path)

    def drive(study: Study, running: dict[int, Trial], chance: random.Random, ends: int) -> None:
        for _ in range(ends):
            while len(running) < 4 and (trial := study.next()) is not None:
                running[trial.id] = trial
            if not running:
                return
            trial = running.pop(chance.choice(sorted(running)))
            value = sum(float(x) for x in trial.config.values())
            metrics = dict.fromkeys(study.wanted, value)
            study.record(Outcome(trial.id, metrics))

    found = []
    for stops in (False, True):
        chance, running = random.Random(3), dict[int, Trial]()
        study = Study(spec, tmp_path / f"{stops}")
        if stops:
            drive(study, running, chance, cut)
            study.close()
            study = Study(spec, tmp_path / f"{stops}")
            again = [study.next() for _ in running]
            assert again == [running[trial] for trial in sorted(running)]
        drive(study, running, chance, 100)
        records = study.history.records
        found.append([(r.trial.config, r.trial.cohort, r.score) for r in records])
        study.close()
    assert len(found[0]) == 60
    assert found[0] == found[1]


def test_ranks_within_a_generation_are_refused(tmp_path: Path) -> None:
    path = study_file(
        tmp_path,
        searcher={"name": "cmaes", "asynchronous": True},
        objective={"terms": [{"metric": "val_loss", "scale": "rank"}]},
    )
    with pytest.raises(UserError, match="'rank' waits for a whole generation"):
        load_study(path)


def test_early_points_are_drawn_again_where_they_are_forbidden() -> None:
    space = Space.parse({**SPACE.record(), "forbid": ["a > 0.5 and b > 0.3"]})
    for made in (
        CmaesSearcher(space, (9,), 2, population=POPULATION, asynchronous=True),
        PsoSearcher(space, (9,), 2, population=POPULATION, asynchronous=True),
    ):
        running: deque[int] = deque()
        for trial in range(200):
            proposal = made.ask()
            while proposal is None:
                made.tell(running.popleft(), float(trial))
                proposal = made.ask()
            assert not space.forbids(proposal.config)
            running.append(trial)
            if len(running) > 3:
                made.tell(running.popleft(), float(trial))


@ENGINES
def test_asking_in_vain_changes_nothing_where_scores_are_equal(name: str) -> None:
    space = Space.parse({**SPACE.record(), "forbid": ["a > 0.4 and b > 0.5"]})
    chance, searcher = random.Random(1), make(name, space=space)
    calls: list[tuple[int, float] | Proposal | None] = []
    running: list[int] = []
    count = 0
    while count < 400:
        proposal = searcher.ask()
        calls.append(proposal)
        if proposal is not None:
            running.append(count)
            count += 1
        if proposal is None or len(running) == 4:
            told = running.pop(chance.randrange(len(running))), float(chance.randrange(3))
            searcher.tell(*told)
            calls.append(told)
    again = make(name, space=space)
    for call in calls:
        if isinstance(call, tuple):
            again.tell(*call)
        elif call is not None:
            assert again.ask() == call
    assert None in calls
