"""The texts of `status`, `show`, `best`, `check` and `fork`.

Their data come from `study/status.py`, `study/rehearsal.py` and `running/fork.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hpogen.report.picture import picture
from hpogen.report.table import Column, grid, is_whole, left_out, table
from hpogen.report.text import (
    WARM,
    count,
    duration,
    folder_and_next,
    number,
    paragraph,
    rung,
    rung_cell,
    size_of,
    tally,
    words,
)
from hpogen.report.verdict import command
from hpogen.spec import StudySpec
from hpogen.spec.pruning import OF_TRAININGS, Prune
from hpogen.study.read import Folder
from hpogen.study.rehearsal import COSTS
from hpogen.study.standing import commonest, rule, standing
from hpogen.study.status import advice, memory, state, under_way
from hpogen.trial import Keep, Rung, plain

if TYPE_CHECKING:
    from hpogen.running.fork import Fork

CURVE_ROWS = 20
LOG_LINES = 20
REHEARSED = "more depends on the scores; the searcher was rehearsed for half a second"
AGAIN = "trained again by the study itself, replicate"
UNFINISHED = {"running": "not finished", "held": "waiting for its score"}


def status_page(study: Folder, width: int, program: str) -> tuple[Text, bool]:
    """The live table's picture of a folder and what to do next; whether it runs now."""
    directory, runs = study.directory, study.process is not None
    notes = {
        "running": f"running: {study.process}",
        "stopped": f"stopped; go on with: {command(program, 'resume', str(directory))}",
        "finished": f"finished; the answer: {command(program, 'best', str(directory))}",
    }
    before = [advice(found)] if (found := memory(study)) else []
    if (reason := commonest(study.history)) is not None and reason.every:
        see = command(program, "show", str(directory), str(reason.trial))
        notes["finished"] = f"finished without an answer; see: {see}"
        before.append(str(reason))
    note = "\n ".join([*before, notes[state(study)]])
    label = "running" if runs else "stopped"
    text = picture(study, standing(study), under_way(study), width=width, note=note, label=label)
    return text, runs


def show_page(
    trial: Mapping[str, Any], log_name: str, width: int, first: Sequence[str] = ()
) -> list[str]:
    """One trial: how it ended, its configuration, its numbers, its curve, the end of its log.

    The columns of its curve begin with the metrics `first`.
    """
    failure, score = trial["failure"], trial["score"]
    ended = f"{failure['kind']}: {failure['text']}" if failure else f"score {score}"
    lines = [f"trial {trial['trial']}: {UNFINISHED.get(trial['state'], ended)}"]
    if trial["duplicate_of"] is not None:
        lines.append(f"duplicate of trial {trial['duplicate_of']}: nothing was trained")
    if trial["repeat"] is not None:
        what = "trained again as a finalist, seed" if "finalist" in trial else AGAIN
        lines.append(f"{what} {trial['repeat']}")
    if trial["trained_as"]:
        lines.append(f"trained as {trial['trained_as']}, whose outcome it has")
    lines += [f"budget: {rung(Rung(trial['budget'], trial.get('data')))}", f"seed: {trial['seed']}"]
    for key in ("config", "metrics", "audit"):
        if trial[key]:
            lines += [f"{key}:", *yaml_lines(trial[key], "  ")]
    lines += _parts(trial, first)
    if trial["seconds"]:
        times = ", ".join(f"{name} {duration(s)}" for name, s in trial["seconds"].items())
        lines.append(f"time: {times}")
    lines += _curve(trial["curve"], width, first)
    if trial["log"]:
        lines += ["", f"{log_name}:", *_tail(trial["log"].splitlines(), width)]
    return lines


def _parts(trial: Mapping[str, Any], first: Sequence[str]) -> list[str]:
    """The trainings that a trial is, a line each, and how far they spread; else nothing."""
    word = next((word for word in ("fold", "repeat") if f"{word}s" in trial), "")
    if not word:
        return []
    lines = [f"{word}s:"]
    for part in trial[f"{word}s"]:
        failure, shown = part["failure"], _figures(part["metrics"], first)
        text = f"{failure['kind']}: {failure['text']}" if failure else shown
        lines.append(f"  {part['number']}: {text}")
    return [*lines, *([f"  sd: {_figures(trial['sd'], first)}"] if trial["sd"] else [])]


def _figures(metrics: Mapping[str, float], first: Sequence[str]) -> str:
    return ", ".join(f"{words(name)} {number(metrics[name])}" for name in first if name in metrics)


def _tail(lines: Sequence[str], width: int) -> list[str]:
    if is_whole(width):
        return [f"  {line}" for line in lines]
    hidden = len(lines) - LOG_LINES
    return ([f"  … {count(hidden, 'line')} before"] if hidden > 0 else []) + [
        f"  {line}" for line in lines[-LOG_LINES:]
    ]


def _curve(rows: Sequence[Mapping[str, Any]], width: int, first: Sequence[str]) -> list[str]:
    """A table of at most CURVE_ROWS epochs, evenly spaced, the last among them; whole in a file."""
    if not rows:
        return []
    step = 1 if is_whole(width) else -(-len(rows) // CURVE_ROWS)
    chosen = rows[(len(rows) - 1) % step :: step]
    known = dict.fromkeys(name for row in rows for name in row["metrics"])
    names = [*(name for name in first if name in known), *(n for n in known if n not in first)]
    columns = [Column("epoch", 5), *(Column(name, 6, optional=True) for name in names)]
    cells = [
        [str(row["epoch"])]
        + [number(row["metrics"][name]) if name in row["metrics"] else "" for name in names]
        for row in chosen
    ]
    return ["", *table(columns, cells, width), *left_out(columns, cells, width)]


def check_page(
    spec: StudySpec, plan: Mapping[str, Any], path: str, data: Sequence[str] = ()
) -> list[str]:
    """The plan, then the effective search space; `data` are lines of what the data are."""
    known = plan["at_least"] or plan
    evaluations = count(known["evaluations"], "trial")
    charged, trained = known["epochs_charged"], known["epochs_trained"]
    epochs = f"{count(charged, 'epoch')} charged, {tally(trained)} trained"
    least = "at least " if plan["at_least"] else ""
    return [
        f"{path}: no mistakes found",
        f"task:       {spec.task.name}, {count(spec.task.epochs, 'epoch')}{_each(spec)}",
        *(f"{'' if i else 'data:':12}{line}" for i, line in enumerate(data)),
        f"searcher:   {spec.searcher.name}",
        f"objective:  {rule(spec)}",
        f"plan:       {least}{count(known['configurations'], 'configuration')}, {evaluations}, "
        + epochs,
        *([f"            {REHEARSED}"] if least else []),
        *_finalists(spec),
        *_kept(spec.checkpoints.keep, spec.checkpoints.top, plan["disk"]),
        *_probabilities(plan["disk"]["probabilities"]),
        *([f"rungs:      {WARM}"] if spec.warm else []),
        *([f"prune:      {_prunes(spec.prune)}"] if spec.prune else []),
        *_brackets(plan["brackets"] or []),
        "search_space:",
        *(f"  {name}: {json.dumps(p)}" for name, p in plan["study"]["search_space"].items()),
    ]


def _each(spec: StudySpec) -> str:
    """Where a trial is several trainings, how many."""
    number, word = spec.task.parts
    return f" for each of {number} {word}s" if number > 1 else ""


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
    known.append(("all", {key: sum(of[key] for _, of, _ in known) for key in COSTS}, rest))
    widest = max(len(name) for name, _, _ in known)
    rows = [
        {"study": name, **{words(key): f"{'≥ ' * least}{of[key]:,}" for key in COSTS}}
        for name, of, least in known
    ]
    return [
        f"{path}: no mistakes found in {count(len(plans), 'study')}",
        *grid(rows, max(80, widest + 60), indent=""),
        *([f"≥: {REHEARSED}"] if rest else []),
        *_kept_of_all([plan["disk"]["kept"] for plan in plans]),
        "a trial that several of them have in common is trained once",
    ]


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


def fork_page(
    found: Fork, study: str, program: str, width: int, overrides: Sequence[str] = ()
) -> list[str]:
    """Sentences, the folder, and the command that goes on with the study of the YAML `study`."""
    sets = (word for override in overrides for word in ("--set", override))
    text = " ".join(f"{sentence}." for sentence in _fork_sentences(found))
    goes_on = command(program, "run", study, "--dir", str(found.directory), *sets)
    return [*paragraph(text, width), *folder_and_next(found.directory, [goes_on])]


def _fork_sentences(found: Fork) -> Iterator[str]:
    reused = f"{count(found.reused, 'outcome')} reused without training"
    yield f"{count(found.enqueued, 'configuration')} enqueued, {reused}"
    if found.task:
        yield f"The task is another ({found.task} differs): all of them are to be trained"
    elif found.to_train:
        yield f"{count(found.to_train, 'trial')} to be trained: no outcome that serves"
    if found.outside:
        yield f"Left out: {found.outside} outside the new search space"
    if found.other_budgets:
        yield f"Left out: {found.other_budgets} that were trained for other budgets only"
    if found.taken:
        yield f"{found.taken} has another study: this one is in {found.directory}"
    if found.no_room:
        yield f"stop leaves no room for {found.no_room} of them: raise it"


def yaml_lines(mapping: Mapping[str, Any], indent: str = "") -> list[str]:
    """Nested mappings of plain values as block YAML that 1.1 parsers read alike."""
    lines = []
    for key, x in mapping.items():
        if isinstance(x, Mapping):
            lines += [f"{indent}{key}:", *yaml_lines(x, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {_scalar(x)}")
    return lines


def _scalar(x: object) -> str:
    """JSON is YAML, but for `1e-07`, which YAML 1.1 takes for a string."""
    text = json.dumps(x, ensure_ascii=False)
    if isinstance(x, float) and "." not in text:
        text = text.replace("e", ".0e")
    return text
