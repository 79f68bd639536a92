"""The text of `check`: what a study, or each of a matrix, will do; see `study/rehearsal.py`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpogen.report.table import grid
from hpogen.report.text import WARM, count, rung, rung_cell, size_of, tally, words
from hpogen.spec import StudySpec
from hpogen.spec.pruning import OF_TRAININGS, Prune
from hpogen.study.rehearsal import COSTS
from hpogen.study.standing import rule
from hpogen.trial import Keep, Rung, plain

REHEARSED = "more depends on the scores; the searcher was rehearsed for half a second"


def check_page(
    spec: StudySpec, plan: Mapping[str, Any], path: str, data: Sequence[str] = ()
) -> list[str]:
    """The plan, then the effective search space; `data` are lines of what the data are."""
    return [
        f"{path}: no mistakes found",
        f"task:       {spec.task.name}, {count(spec.task.epochs, 'epoch')}{_each(spec)}",
        *_together(spec.task.together),
        *(f"{'' if i else 'data:':12}{line}" for i, line in enumerate(data)),
        f"searcher:   {spec.searcher.name}{_named(spec)}",
        f"objective:  {rule(spec)}",
        *_within(spec),
        *_planned(plan, spec.stop.hours),
        *_finalists(spec),
        *_kept(spec.checkpoints.keep, spec.checkpoints.top, plan["disk"]),
        *_probabilities(plan["disk"]["probabilities"]),
        *([f"rungs:      {WARM}"] if spec.warm else []),
        *([f"prune:      {_prunes(spec.prune)}"] if spec.prune else []),
        *_brackets(plan["brackets"] or []),
        "search_space:",
        *(f"  {name}: {json.dumps(p)}" for name, p in plan["study"]["search_space"].items()),
    ]


def _named(spec: StudySpec) -> str:
    named = spec.source.data.get("searcher") is not None
    return "" if named else ", since the study names none"


def _planned(plan: Mapping[str, Any], hours: float | None) -> list[str]:
    """How many of what, and after how many `hours` it ends in any case."""
    most = f"{hours:g} {'hour' if hours == 1 else 'hours'} of running" if hours else ""
    known = plan["at_least"] or plan
    if known["evaluations"] is None:
        return [f"plan:       as many trials as {most} have room for"]
    least = "at least " if plan["at_least"] else ""
    numbers = [
        count(known["configurations"], "configuration"),
        count(known["evaluations"], "trial"),
        f"{count(known['epochs_charged'], 'epoch')} charged",
        f"{tally(known['epochs_trained'])} trained",
    ]
    return [
        f"plan:       {least}{', '.join(numbers)}",
        *([f"            {REHEARSED}"] if least else []),
        *([f"            no trial is asked for after {most}"] if most else []),
    ]


def _within(spec: StudySpec) -> list[str]:
    """What the answer must satisfy; nothing without constraints."""
    each = [f"{metric} {text}" for metric, text in (spec.constraints or {}).items()]
    return [f"within:     {', '.join(each)}"] if each else []


def _each(spec: StudySpec) -> str:
    """Where a trial is several trainings, how many."""
    number, word = spec.task.parts
    return f" for each of {number} {word}s" if number > 1 else ""


def _together(number: int) -> list[str]:
    """What is promised of trials that train together; nothing where each trains alone."""
    if number == 1:
        return []
    return [
        f"together:   on a CPU {number} trials in one process; those of one shape and batch size "
        "step as one network,",
        "            each as it does alone but for the rounding of float32, not bit for bit",
    ]


def _prunes(prune: Prune) -> str:
    """The rule, and what it does to the plan above."""
    after = "" if prune.rule == OF_TRAININGS else f" after {count(prune.after, 'epoch')}"
    return (
        f"{prune.rule}{after}; the plan is of trials that all finish, pruned ones are charged less"
    )


def _finalists(spec: StudySpec) -> list[str]:
    """What the race of the finalists takes of the plan, at most; nothing without one."""
    if (rules := spec.finalists) is None:
        return []
    kept = spec.reserve
    seeds = "one seed" if rules.seeds == 1 else f"up to {rules.seeds} seeds"
    return [
        f"finalists:  {rules.count} with {seeds} each, {rung(spec.final_rung)}: of stop "
        f"{count(kept.trials, 'trial')} and {count(plain(kept.epochs), 'epoch')} are kept for them"
    ]


def _kept(keep: Keep, top: int, disk: Mapping[str, int | None]) -> list[str]:
    """What stays of the networks, and what that takes up; nothing where nothing stays."""
    weights, kept = disk["weights"], disk["kept"]
    if kept == 0:
        return []
    what = {
        "best": f"the weights of the best {'trial' if top == 1 else f'{top} trials'}",
        "final": "the last checkpoint of each trial",
        "all": "all checkpoints",
    }[keep]
    if kept is not None:
        return [f"kept:       {what}, about {size_of(kept)}"]
    if weights is not None:
        return [f"kept:       {what}; one trial's weights take {size_of(weights)}"]
    return [f"kept:       {what}; their size is known once the data have been read"]


def _probabilities(each: int | None) -> list[str]:
    """What the probabilities of samples take up; nothing where none are kept."""
    if each == 0:
        return []
    size = "their size is known once the data have been read"
    if each is not None:
        size = f"about {size_of(each)} of each trial"
    return [f"kept:       probabilities on validation and audit samples; {size}"]


def _kept_of_all(kept: Sequence[int | None]) -> list[str]:
    """The same of a matrix, in all; nothing where that is not known of each study."""
    known = [size for size in kept if size is not None]
    if len(known) < len(kept) or not any(known):
        return []
    return [f"kept networks take about {size_of(sum(known))}"]


def check_matrix_page(plans: Sequence[Mapping[str, Any]], path: str) -> list[str]:
    """The plan of each study of a matrix, and of all together."""
    known = [(plan["name"], plan["at_least"] or plan, bool(plan["at_least"])) for plan in plans]
    rest = any(least for _, _, least in known)
    sums = {key: sum(of[key] or 0 for _, of, _ in known) for key in COSTS}
    known.append(("all", sums, rest))
    widest = max(len(name) for name, _, _ in known)
    rows = [
        {"study": name, **{words(key): _least(of[key], least) for key in COSTS}}
        for name, of, least in known
    ]
    return [
        f"{path}: no mistakes found in {count(len(plans), 'study')}",
        *grid(rows, max(80, widest + 60), indent=""),
        *([f"≥: {REHEARSED}"] if rest else []),
        *_kept_of_all([plan["disk"]["kept"] for plan in plans]),
        "a trial that several of them have in common is trained once",
    ]


def _least(number: float | None, least: bool) -> str:
    """A number of a plan; where only hours end a study there is none."""
    return "hours" if number is None else f"{'≥ ' * least}{number:,}"


def _brackets(brackets: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line for each kind of bracket, and the sums: what Hyperband's arithmetic comes to.

    `trained` is with `rungs: continue`, where a promoted configuration goes on from its checkpoint.
    """
    if not brackets:
        return []
    kinds: dict[str, Counter[str]] = {}
    for bracket in brackets:
        rungs = [(r["configurations"], r.get("charged", r["budget"])) for r in bracket]
        below = [0, *(epochs for _, epochs in rungs)]
        trained = (n * (epochs - low) for (n, epochs), low in zip(rungs, below, strict=False))
        each = (rung_cell(Rung(int(r["budget"]), r.get("data"))) for r in bracket)
        name = ", ".join(f"{n} × {text}" for (n, _), text in zip(rungs, each, strict=True))
        facts = {
            "number": 1,
            "configurations": rungs[0][0],
            "evaluations": sum(n for n, _ in rungs),
            "charged": sum(n * epochs for n, epochs in rungs),
            **({} if "data" in bracket[0] else {"trained if continued": sum(trained)}),
        }
        kinds.setdefault(name, Counter()).update(facts)
    kinds["all"] = sum(kinds.values(), Counter())
    title = "rungs: configurations × epochs"
    rows = [{title: name, **{key: tally(n) for key, n in of.items()}} for name, of in kinds.items()]
    widest = max(map(len, kinds))
    return ["brackets:", *grid(rows, max(80, widest + 60), indent="")]
