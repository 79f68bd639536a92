"""The searcher that proposes what is enqueued, round after round."""

from __future__ import annotations

from hpogen.searchers.listed import ListedSearcher
from hpogen.space import Space

SPACE = Space.parse({"x": {"float": [0.0, 1.0], "default": 0.5}})


def test_every_round_has_its_own_replicate() -> None:
    searcher = ListedSearcher(SPACE, (4, 8), 0, enqueue=[{"x": 0.1}, {"x": 0.9}])
    asked = [searcher.ask() for _ in range(5)]
    found = [(p.config["x"], p.replicate, p.budget) for p in asked if p]
    assert found == [(0.1, 0, 8), (0.9, 0, 8), (0.1, 1, 8), (0.9, 1, 8), (0.1, 2, 8)]


def test_nothing_enqueued_is_the_defaults() -> None:
    proposal = ListedSearcher(SPACE, (4,), 0).ask()
    assert proposal is not None and proposal.config == {"x": 0.5}
