"""The picture of a study that runs: header, running trials, the best so far.

The live table and `status` draw it. Column widths follow from the study alone, so that nothing
jumps about, and at any width no line is wrapped by the terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.text import Text

from hpogen.record.history import History, Record
from hpogen.report import race
from hpogen.report.table import Column, Row, table
from hpogen.report.text import INDENT, bar, count, number, percent, rung_cell, value, words
from hpogen.space.parameters import Choice, Constant, Number, Parameter
from hpogen.spec import StudySpec
from hpogen.study.read import AnyStudy
from hpogen.study.standing import Standing, rule
from hpogen.trial import Progress, Trial, plain

BAR = 20
WIDEST = 120  # columns from the name to the end of the bar
TITLES = {"val_loss": "val", "train_loss": "train"}
TRAIN = ("train_loss", "train_loss_online")
LONGEST = "23 h 59 min left"


def picture(
    study: AnyStudy,
    standing: Standing,
    running: Sequence[tuple[Trial, Progress | None]],
    *,
    width: int,
    left: str | None = None,
    note: str = "",
    label: str = "running",
) -> Text:
    """All lines. `running` are the trials under way, each with its last epoch; `left` is the time.

    The place of `left` is kept free when it is empty; None leaves it out.
    """
    spec = study.spec
    names = metric_names(spec)
    rows = [_row(spec, trial, progress, names) for trial, progress in running]
    best = [_row(spec, r.trial, _ended_as(r), names) for r in filter(None, [standing.best])]
    where = max((len(row[-1]) for row in rows), default=0)
    titles, *cells = table(_columns(spec, names, where), rows + best, width - INDENT)
    lines = _header(study, width, left)
    for i, title in enumerate(titles.splitlines()):
        last = i == len(titles.splitlines()) - 1
        lines.append(_line(label if last and running else "", title, "dim"))
    lines += [_line("", cell, "") for cell in cells[: len(rows)]]
    lines += [_line("best", cell, "bold") for cell in cells[len(rows) :]]
    for text in summary(standing):
        lines += [_line("", part, "") for part in textwrap.wrap(text, max(width - INDENT, 20))]
    if note:
        lines.append(Text(f" {note}"))
    return Text("\n").join(lines)


def summary(standing: Standing) -> list[str]:
    """What stands below the best trial: its score among how many, the rival's choice."""
    if standing.best is None:
        return [f"none yet of {_ended(standing)}"] if standing.told or standing.held else []
    lines = [f"of {_ended(standing)}: {results(standing.best)}"]
    rival = standing.by_validation
    if rival is not None and rival is not standing.best:
        loss = number(rival.outcome.metrics["val_loss"]) if rival.outcome else ""
        lines.append(f"val loss alone would choose trial {rival.trial.id} (val loss {loss})")
    elif rival is not None:
        lines.append("val loss alone would choose the same")
    return lines if standing.race is None else [*lines, *race.sentences(standing.race)]


def _ended(standing: Standing) -> str:
    return f"{standing.told} finished{mishaps(standing)}"


def mishaps(standing: Standing) -> str:
    """` (1 diverged, 3 pruned, 2 infeasible, 1 duplicate)`, or nothing."""
    parts = [f"{n} {FAILED[kind]}" for kind, n in sorted(standing.failures.items())]
    if standing.pruned:
        parts.append(f"{standing.pruned} {FAILED['pruned']}")
    if standing.infeasible:
        parts.append(f"{standing.infeasible} infeasible")
    if standing.duplicates:
        parts.append(count(standing.duplicates, "duplicate"))
    if standing.held:
        parts.append(f"{standing.held} waiting for their score")
    return f" ({', '.join(parts)})" if parts else ""


FAILED = {
    "diverged": "diverged",
    "oom": "out of memory",
    "timeout": "timed out",
    "error": "with an error",
    "lost": "lost",
    "pruned": "pruned",
}


def results(record: Record) -> str:
    """`score 0.412, val loss 0.398, val accuracy 86.1 %`: what can be had of a finished trial."""
    parts = [f"score {number(record.score)}"]
    for name in ("val_loss", "val_accuracy"):
        if record.outcome is not None and name in record.outcome.metrics:
            x = record.outcome.metrics[name]
            shown = percent if name == "val_accuracy" else number
            parts.append(f"{words(name)} {shown(x)}{_spread(record, name)}")
    return ", ".join(parts)


def _spread(record: Record, name: str) -> str:
    """` (5 folds: 0.29 to 0.35)`: between which figures a loss is the mean; else nothing."""
    each = [outcome.metrics[name] for outcome in record.parts.values()]
    if name != "val_loss" or not each:
        return ""
    what = count(len(each), record.trainings.word)
    return f" ({what}: {number(min(each))} to {number(max(each))})"


def metric_names(spec: StudySpec) -> dict[str, tuple[str, ...]]:
    """The metrics worth a column: title → the names that may give it, the first known of them.

    The validation loss and the objective's terms; beside the validation loss alone the training's.
    """
    known = spec.task.metrics()
    names = [name for name in spec.objective.shown_first if name in known]
    found: dict[str, tuple[str, ...]] = {TITLES.get(n, words(n)): (n,) for n in names}
    if names in (["val_loss"], []) and known & {*TRAIN}:
        found["train"] = TRAIN
    return found


def _columns(spec: StudySpec, names: Mapping[str, object], where: int) -> list[Column]:
    epochs = max(len(f"{rung.epochs}/{rung_cell(rung)}") for rung in spec.ladder)
    return [
        Column("trial", len("trial")),
        Column("epoch", epochs),
        *(Column(title, 6) for title in names),
        *(Column(words(name), _width(p), optional=True) for name, p in varying(spec)),
        Column("on", max(where, len("gpu 0"))),  # with the node's name where there are several
    ]


def varying(spec: StudySpec) -> list[tuple[str, Parameter]]:
    """The hyper-parameters of the space that are not constant."""
    return [(n, p) for n, p in spec.space.parameters.items() if not isinstance(p, Constant)]


def _width(parameter: Parameter) -> int:
    if isinstance(parameter, Choice):
        return min(max(len(value(x)) for x in parameter.values), 12)
    if isinstance(parameter, Number) and parameter.integer:
        return max(len(value(int(x))) for x in (parameter.low, parameter.high))
    return len("7.1e-4")


def _ended_as(record: Record) -> Progress:
    """Its last epoch, for a row of its own."""
    metrics = record.outcome.metrics if record.outcome else {}
    return Progress(record.trial.id, record.trial.budget, metrics, {}, "")


def _row(
    spec: StudySpec, trial: Trial, progress: Progress | None, names: Mapping[str, tuple[str, ...]]
) -> Row:
    config, searched = trial.config, [name for name, _ in varying(spec)]
    done, where = how_far(trial, progress)
    return (
        str(trial.id),
        done,
        *figures(names, progress.metrics if progress else {}, blank=""),
        *(value(config[name]) if name in config else "" for name in searched),
        where,
    )


def how_far(trial: Trial, progress: Progress | None) -> tuple[str, str]:
    """`88/160`, `gpu 0`: a running trial's epochs, and what it is trained on."""
    if progress is None:
        return f"0/{rung_cell(trial.rung)}", ""
    return f"{progress.epoch}/{rung_cell(trial.rung)}", progress.device.replace("cuda:", "gpu ")


def figures(
    names: Mapping[str, tuple[str, ...]], metrics: Mapping[str, float], blank: str
) -> list[str]:
    """A text for each of `metric_names`, `blank` where there is none."""
    found = ([metrics[name] for name in group if name in metrics] for group in names.values())
    return [number(values[0]) if values else blank for values in found]


def _line(label: str, text: str, style: str) -> Text:
    return Text.assemble((f" {label}".ljust(INDENT), "dim"), (text, style))


def _header(study: AnyStudy, width: int, left: str | None) -> list[Text]:
    """One line where it fits even when its numbers have grown, else two; the bar stands still."""
    spec, width = study.spec, min(width, WIDEST)
    name = f" {spec.name} · {spec.searcher.name} · {rule(spec)}"
    share, unit, done, limit = used_up(study.history)
    form = ".2f" if unit == "hours" else ","
    before = f"{unit} {f'{done:{form}}'.rjust(len(f'{limit:{form}}'))} / {limit:{form}} "
    after = f" {100 * share:3.0f} %" + (
        "" if left is None else f"   {left}".ljust(len(LONGEST) + 3)
    )
    room = width - len(before) - len(after) - 3
    beside = min(room - len(name) - 4, BAR)
    if beside >= BAR / 2:
        tail = before + bar(share, beside) + after
        return [Text.assemble((name, "bold"), tail.rjust(width - len(name)))]
    tail = before + bar(share, max(min(room, BAR), 4)) + after
    return [Text(name, "bold"), Text(f" {tail}")]


def used_up(history: History) -> tuple[float, str, float, float]:
    """How much of `stop` has ended, by the limit that is nearest: share, unit, done, limit."""
    done = {**over(history), "hours": history.hours}
    limits = {unit: x for unit, x in history.stop.items() if unit in done and x is not None}
    return max((done[unit] / limit, unit, done[unit], limit) for unit, limit in limits.items())


def over(history: History) -> dict[str, float]:
    """The epochs and the trials of `stop` that are over: those under way are not counted."""
    return {"epochs": plain(history.over), "trials": len(history.order) + len(history.held)}
