"""The contract between a study and the engine that proposes configurations.

    searcher = RandomSearcher(space, budgets=(10,), seed=0)
    searcher.ask()            # Proposal(config={...}, budget=10): this is trial 0
    searcher.ask()            # trial 1; the k-th proposal is trial k
    searcher.tell(1, 0.25)    # lower is better; tells come in any order, once each
    searcher.tell(0, math.inf)   # a failed trial; NaN is never told
    searcher.ask()            # None would mean "tell me more first"; with nothing running, "done"

State depends only on (space, budgets, seed, options) and on the sequence of calls: no clock, no
file, no global random state. An `ask` that returns None changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from hpogen.space import Space
from hpogen.trial import Config, Proposal


class Searcher(Protocol):
    """An engine that proposes configurations and learns from their scores.

    The keyword arguments of `__init__` behind `enqueue` are the options of the YAML's `searcher`
    mapping, checked by name and type when the study is loaded. `__init__` raises `Refusal`, naming
    the searcher and the parameter, for a space that the engine cannot treat. `enqueue` replaces
    the engine's first draws: the engine draws, the draw is dropped, and the score is told to it
    (or the engine takes the configuration from a queue of its own).

    A searcher may have `size`, how many proposals it makes when it is asked on, infinity where it
    has no end, and `anew`, how many of these have `replicate` 0 where not all have: with one
    budget, a study is then planned without asking. `earlier` are the defaults that options had
    before they have others: a study that was begun with these goes on with them. `imports` are
    modules that it imports when it is first asked: where a study is planned by asking against the
    clock, they are imported before. `honours` are those of `forbid` and `prior` that it heeds in a
    space; without it, spaces that have one are refused. It may have `tell_pruned(trial, score,
    epochs)`: the trial was ended after so many epochs with that score, which is not to be compared
    with those of `tell`; without it such a trial is told as a failed one. And it may have
    `tell_constrained(trial, score, excess)`, called in the place of `tell` for each finished trial
    of a study with constraints: `excess` is by metric how far a bound is missed, at most 0 where
    it is satisfied. Without it the score of a trial that does not satisfy them is told as one
    behind all others (`constrained.py`).

    A searcher for Pareto fronts has `tell_scores(trial, scores, excess)`, called in the place of
    `tell` and `tell_constrained` for each finished trial of a study with several scores; `excess`
    is empty without constraints. Its `__init__` may take `scores`, how many there are.
    """

    enqueues_default: ClassVar[bool]  # whether `enqueue` is `[default]` when the study has none
    ranks_only: ClassVar[bool]  # uses nothing but ranks within a cohort (allows the scale `rank`)
    multi_fidelity: ClassVar[bool]  # proposes budgets below the largest

    def __init__(
        self, space: Space, budgets: Sequence[int], seed: int, *, enqueue: Sequence[Config] = ()
    ) -> None: ...

    def ask(self) -> Proposal | None: ...

    def tell(self, trial: int, score: float) -> None: ...
