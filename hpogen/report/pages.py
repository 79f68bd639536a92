"""The texts of `status`, `show`, `best` and `fork`.

Their data come from `study/status.py` and `running/fork.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hpogen.report.picture import picture
from hpogen.report.table import Column, is_whole, left_out, table
from hpogen.report.text import (
    count,
    duration,
    folder_and_next,
    number,
    paragraph,
    rung,
    words,
)
from hpogen.report.verdict import command
from hpogen.study.read import Folder
from hpogen.study.standing import commonest, standing
from hpogen.study.status import advice, memory, state, under_way
from hpogen.trial import Rung

if TYPE_CHECKING:
    from hpogen.running.fork import Fork

CURVE_ROWS = 20
LOG_LINES = 20
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
