"""How the race of a study's finalists stands or ended, in sentences: `status`, the verdict.

Losses are mean validation losses of the runs that are counted, on the same images for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hpogen.report.text import count, number
from hpogen.study.finalists import Final, Finalist

if TYPE_CHECKING:
    from hpogen.selection.race import Separation

FAULTS = {
    "diverged": "diverged",
    "oom": "ran out of memory",
    "timeout": "timed out",
    "error": "ended with an error",
    "lost": "was lost",
}


def sentences(race: Final) -> Iterator[str]:
    """How it stands; once it is over why the winner won, or which was taken without being one."""
    rules = race.rules
    if race.due:
        yield _under_way(race)
    elif race.finalists:
        yield _ended(race)
    if len(race.finalists) < rules.count and (not race.due or race.standing):
        wanted = f"{rules.count} were wanted and no more trials could be chosen"
        yield f"There were {count(len(race.finalists), 'finalist')}: {wanted}"
    for finalist in race.finalists:
        if finalist.fault:
            yield f"Trial {finalist.record.trial.id} {fault(finalist)}: it is never chosen"
    runs = sum(len(finalist.runs) for finalist in race.finalists)
    if not race.due and (left := rules.count * rules.seeds - runs) > 0 and race.finalists:
        yield f"The race ended early: {count(left, 'trial')} kept for it were not trained"


def fault(finalist: Finalist) -> str:
    """What went wrong with it, as a clause about the trial."""
    if finalist.fault == "worse":
        outcome = finalist.record.outcome
        before = number(outcome.metrics["val_loss"]) if outcome else ""
        after = number(finalist.mean or 0.0)
        return f"does worse on more data (val loss {after}) than on the subset ({before})"
    return f"{FAULTS[finalist.fault or 'error']} when it was trained again"


def _under_way(race: Final) -> str:
    seed, left = race.due[0].replicate, count(len(race.due), "finalist")
    return f"The race goes on: seed {seed} of at most {race.rules.seeds}, {left} left"


def _ended(race: Final) -> str:
    """Who won, and how far the next one is."""
    standing, leader = race.standing, race.leader
    if standing is None or leader is None:
        return f"None of {count(len(race.finalists), 'finalist')} can be chosen"
    won = f"Trial {leader.record.trial.id}"
    means = f"mean val loss {number(leader.mean or 0.0)} over {count(len(leader.runs), 'seed')}"
    if standing.winner is not None:
        next_one = _nearest(race, {i: gap for i, gap in standing.out.items() if gap})
        beaten = f": {next_one}" if next_one else ", the only one left"
        return f"{won} won the race of {len(race.finalists)} finalists ({means}){beaten}"
    others = ", ".join(str(race.finalists[i].record.trial.id) for i in standing.behind)
    from_others = f"trial {others}" if len(standing.behind) == 1 else f"trials {others}"
    if not others:
        return f"{won} was taken of {len(race.finalists)} finalists ({means}): {standing.why}"
    gap = _nearest(race, standing.behind)
    taken = f"{won} has the least mean and was taken ({means}): {gap}"
    return f"The race does not separate trial {leader.record.trial.id} from {from_others}. {taken}"


def _nearest(race: Final, gaps: Mapping[int, Separation]) -> str:
    """`trial 3 is worse by 0.021 (95 % interval 0.004 to 0.038) after 2 seeds`."""
    if not gaps:
        return ""
    i = min(gaps, key=lambda i: gaps[i].difference)
    gap, trial = gaps[i], race.finalists[i].record.trial.id
    interval = f"{number(gap.low)} to {number(gap.high)}"
    after = f"after {count(gap.seeds, 'seed')}"
    return f"trial {trial} is worse by {number(gap.difference)} ({interval}) {after}"
