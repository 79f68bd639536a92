"""A study's finalists: its best trials, trained again with other seeds, in a race for the answer.

`repeats.py` asks for the trials that are due; the answer, the verdict and the report read `final`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from hpogen.record.history import History, Record, key_of
from hpogen.selection import SELECTIONS, candidates, gather
from hpogen.selection.evidence import Losses, read_losses
from hpogen.spec.choice import Finalists
from hpogen.study.read import AnyStudy
from hpogen.trial import FailureKind, Proposal

if TYPE_CHECKING:
    from hpogen.selection.race import RaceStanding

Fault = FailureKind | Literal["worse"]


@dataclass(frozen=True)
class Finalist:
    """One of the search's best trials, and its `runs` of the rounds that are whole, seed by seed.

    `fault` is why it can never be the answer: how a run failed, or that it does worse on more data
    than on the subset; None where it may be.
    """

    record: Record
    runs: tuple[Record, ...] = ()
    fault: Fault | None = None

    @property
    def mean(self) -> float | None:
        """The mean validation loss of its runs; None without any, and where one failed."""
        losses = [r.outcome.metrics["val_loss"] for r in self.runs if r.outcome and not r.failure]
        return statistics.fmean(losses) if losses and len(losses) == len(self.runs) else None

    @property
    def network(self) -> Record | None:
        """The run with the least validation loss; the first of equals."""
        good = [r for r in self.runs if r.outcome and not r.failure]
        return min(good, key=lambda r: r.outcome.metrics["val_loss"], default=None)  # type: ignore


@dataclass(frozen=True)
class Final:
    """A race. `finalists` are numbered as the search's selection ranks them, the best first.

    `standing` is that after the last whole round, None before the first. `due` are the trials of
    the round in play; empty where the race is over.
    """

    rules: Finalists
    finalists: tuple[Finalist, ...]
    standing: RaceStanding | None
    due: tuple[Proposal, ...]

    @property
    def leader(self) -> Finalist | None:
        """Who leads after the last whole round, or has won; None where all have a fault."""
        best = self.standing.best if self.standing else None
        return None if best is None else self.finalists[best]

    def order(self) -> list[Finalist]:
        """Those without a fault: the leader, then the others by number of runs and mean."""
        leader = self.leader
        good = [f for f in self.finalists if f.fault is None and f.mean is not None]
        return sorted(good, key=lambda f: (f is not leader, -len(f.runs), f.mean))


def final(study: AnyStudy) -> Final | None:
    """How the race stands: a function of what has been told, in whatever order that came.

    A round is one more seed of each finalist that is left, and counts when all of it is told. None
    where a study has no finalists, and while a trial of its search is under way. Raises UserError
    where the losses of a trial are missing.
    """
    rules = study.spec.finalists
    if rules is None or not searched(study.history):
        return None
    from hpogen.selection.race import race  # scipy, which only a race is worth

    ranked = ranking(study)
    found = [Finalist(record) for record in ranked[: rules.count]]
    known = {key_of(r.trial): r for r in study.history.records if r.repeat and r.state == "told"}
    standing, left = None, tuple(range(len(found)))
    for seed in range(1, rules.seeds + 1):
        due = {i: _run(study, found[i], seed) for i in left}
        if any(key_of(proposal) not in known for proposal in due.values()):
            return Final(rules, tuple(found), standing, tuple(due.values()))
        for i, proposal in due.items():
            found[i] = _with(found[i], known[key_of(proposal)])
        losses = _losses(study, found)
        found = _judged(study, found, losses, len(ranked))
        standing = race(
            [None if f.fault else losses[i] for i, f in enumerate(found)],
            rules.seeds,
            rules.indifference,
            rules.alpha,
        )
        left = standing.left
        if standing.why:
            break
    return Final(rules, tuple(found), standing, ())


def begun(study: AnyStudy) -> Final | None:
    """The same once the first of its trials has been asked: before, the search may go on."""
    return final(study) if study.history.repeats else None


def searched(history: History) -> bool:
    """Whether no trial of the search is under way."""
    return all(record.state == "told" for record in history.records if not record.repeat)


def ranking(study: AnyStudy) -> list[Record]:
    """The trials that may become finalists, as the selection would choose them, the best first."""
    spec, history = study.spec, study.history
    records = [r for r in candidates(history, spec.ladder[-1]) if r.trial.replicate == 0]
    if not records:
        return []
    evidence = gather(history, records, spec.ladder[-1], study.directory)
    figures = SELECTIONS[spec.selection].figures(evidence, spec.objective)
    order = sorted(range(len(records)), key=figures.__getitem__)
    return [records[i] for i in order if figures[i] < float("inf")]


def _run(study: AnyStudy, finalist: Finalist, seed: int) -> Proposal:
    rung, config = study.spec.final_rung, finalist.record.trial.config
    return Proposal(config, rung.epochs, replicate=seed, data=rung.data)


def _with(finalist: Finalist, run: Record) -> Finalist:
    fault = run.failure.kind if run.failure else finalist.fault
    return replace(finalist, runs=(*finalist.runs, run), fault=fault)


def _losses(study: AnyStudy, found: Sequence[Finalist]) -> dict[int, Losses]:
    """The losses (s, N) of the runs of each finalist without a fault."""
    return {
        i: np.stack(_read(study, finalist.runs))
        for i, finalist in enumerate(found)
        if not finalist.fault and finalist.runs
    }


def _read(study: AnyStudy, records: Sequence[Record]) -> list[Losses]:
    trials = [r.trial.id if r.twin is None else r.twin for r in records]
    return read_losses(study.directory, trials, study.history.id)


def _judged(
    study: AnyStudy, found: Sequence[Finalist], losses: Mapping[int, Losses], trials: int
) -> list[Finalist]:
    """With the fault of those that do worse on more data than on the subset."""
    rules = study.spec.finalists
    if rules is None or study.spec.final_rung == study.spec.ladder[-1]:
        return [*found]
    from hpogen.selection.stability import worse

    before = _read(study, [found[i].record for i in losses])
    bad = worse(before, [*losses.values()], trials, rules.alpha)
    faults = {i for i, is_worse in zip(losses, bad, strict=True) if is_worse}
    return [replace(f, fault="worse") if i in faults else f for i, f in enumerate(found)]
