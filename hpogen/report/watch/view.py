"""What the live page shows of a study, as data that goes through JSON: `assets/watch.js` draws it.

Figures that people read are texts, rounded as everywhere; what is drawn are numbers. `server.py`
sends the `head` once, of `told` what is new, and the `state` when it has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.report.picture import (
    FAILED,
    figures,
    how_far,
    metric_names,
    summary,
    used_up,
    varying,
)
from hpogen.report.text import (
    BLANK,
    again,
    configuration,
    count,
    duration,
    number,
    rung_cell,
    tally,
    value,
    words,
)
from hpogen.report.watch.followed import Followed
from hpogen.space.parameters import Choice, Number, Parameter, height
from hpogen.study.standing import rule
from hpogen.study.status import ended, finite, last_epoch, under_way
from hpogen.trial import Config, Trial, plain

LATEST = 20  # trials in the table
MOST_CURVES = 24  # trials under way whose curves are drawn
MOST_POINTS = 200  # of a curve
LOG_LINES = 8
LOG_BYTES = 64 * 1024
KINDS_SHOWN = 3  # trials of each kind of failure, the latest


def head(study: Followed) -> dict[str, Any]:
    """What stays: names, axes of the search space, whether scores of all trials compare."""
    spec = study.spec
    return {
        "name": spec.name,
        "searcher": spec.searcher.name,
        "rule": rule(spec),
        "axes": [_axis(name, parameter) for name, parameter in varying(spec)],
        "metrics": [*metric_names(spec)],
        "curve": words(_curve_names(study)[0]),
        "budget": spec.ladder[-1].epochs,
        "compares": not spec.objective.uses("rank"),
    }


def _axis(name: str, parameter: Parameter) -> dict[str, Any]:
    """A parameter's name and what stands along its axis: its ends, or the values of a choice."""
    if isinstance(parameter, Choice):
        return {"name": words(name), "ticks": [*map(value, parameter.values)], "log": False}
    assert isinstance(parameter, Number)
    ends = (parameter.low, parameter.high)
    ticks = [value(int(x) if parameter.integer else x) for x in ends]
    return {"name": words(name), "ticks": ticks, "log": parameter.log}


class Told:
    """The trials that have been told, by column, which grow with the study.

    `budget` is what each was charged, in epochs. `heights` of each axis are 0 to 1000. `whole`: a
    trial of the largest budget, no duplicate and no repeat, so that it may be the answer.
    """

    def __init__(self) -> None:
        self._starts = 0  # of the study: see `Followed`
        self._columns: dict[str, list[Any]] = {}
        self._heights: list[list[int | None]] = []

    def since(self, study: Followed, begin: int) -> dict[str, Any]:
        """Those after the first `begin`."""
        self._add(study)
        columns = {name: column[begin:] for name, column in self._columns.items()}
        return {**columns, "heights": [column[begin:] for column in self._heights]}

    def _add(self, study: Followed) -> None:
        axes = varying(study.spec)
        if self._starts != study.starts:
            self._starts = study.starts
            self._columns = {"trial": [], "budget": [], "score": [], "whole": []}
            self._heights = [[] for _ in axes]
        records = study.told(len(self._columns["trial"]))
        new: dict[str, list[Any]] = {
            "trial": [record.trial.id for record in records],
            "budget": [plain(study.history.charge(record)) for record in records],
            "score": [finite(record.score) for record in records],
            "whole": [int(_may_be_chosen(study, record)) for record in records],
        }
        for name, column in self._columns.items():
            column += new[name]
        for (name, parameter), heights in zip(axes, self._heights, strict=True):
            heights += [_height(name, parameter, record.trial.config) for record in records]


def _may_be_chosen(study: Followed, record: Record) -> bool:
    first = record.twin is None and not record.repeat
    return first and record.failure is None and record.trial.rung == study.spec.ladder[-1]


def _height(name: str, parameter: Parameter, config: Config) -> int | None:
    """None where the parameter is not active."""
    if name not in config:
        return None
    return round(1000 * min(max(height(parameter, config[name]), 0.0), 1.0))


def state(study: Followed) -> dict[str, Any]:
    """Where the study stands now."""
    running = [*study.running()]
    last = [(trial, last_epoch(trial.id, rows)) for trial, rows in running]
    last = under_way(study) if study.history.parts.number > 1 else last
    runs = study.process is not None
    return {
        "problem": study.problem,
        "process": study.process,
        **_progress(study),
        "left": study.pace.left(last) if runs else "",
        **_answer(study),
        "running": [_running(study, trial, rows) for trial, rows in running[:MOST_CURVES]],
        "more": max(len(running) - MOST_CURVES, 0),
        "failures": _failures(study),
        "latest": [_row(study, record) for record in study.told(-LATEST)[::-1]],
    }


def _progress(study: Followed) -> dict[str, Any]:
    """Its state, and how far it is, as a share and in words."""
    history = study.history
    return {
        "state": "running" if study.process is not None else ended(study),
        "share": used_up(history)[0],
        "trials": _share(len(study.order), history.stop["trials"]),
        "epochs": _share(history.charged, history.stop["epochs"]),
    }


def _share(done: float, limit: int | None) -> str:
    return tally(done) if limit is None else f"{tally(done)} of {limit:,}"


def _answer(study: Followed) -> dict[str, Any]:
    """The answer so far with its curve, and the lines that `status` has below it."""
    now, lacks = study.standing()
    if now is None or now.best is None:
        return {"best": None, "summary": [lacks] if now is None else summary(now)}
    best = now.best
    rows = folder.read_curve(study.directory, best.trial.id, study.history.id)
    found = {
        "trial": best.trial.id,
        "score": _score(best),
        "config": configuration(best.trial.config),
        "points": _points(study, rows),
    }
    return {"best": found, "summary": summary(now)}


def _score(record: Record) -> str:
    return BLANK if finite(record.score) is None else number(record.score)


def _running(study: Followed, trial: Trial, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    progress = last_epoch(trial.id, rows)
    epoch, on = how_far(trial, progress)
    return {
        "trial": trial.id,
        "epoch": epoch,
        "metrics": _metrics(study, progress.metrics if progress else {}),
        "config": _config(study, study.history.records[trial.id]),
        "on": on,
        "points": _points(study, rows),
    }


def _metrics(study: Followed, metrics: Mapping[str, float]) -> list[str]:
    """A text for each of the head's `metrics`."""
    return figures(metric_names(study.spec), metrics, BLANK)


def _curve_names(study: Followed) -> tuple[str, ...]:
    """The metric that is drawn by epoch: validation loss, or what the objective has first."""
    names = metric_names(study.spec)
    return names["val"] if "val" in names else [*names.values()][-1]


def _points(study: Followed, rows: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Epoch and value; of a long curve every second, or every third, … from the last back."""
    names = _curve_names(study)
    found = [
        (row["epoch"], row["metrics"][name])
        for row in rows
        for name in names
        if name in row["metrics"]
    ]
    return found[:: -max(-(-len(found) // MOST_POINTS), 1)][::-1]


def _row(study: Followed, record: Record) -> dict[str, Any]:
    failure, outcome = record.failure, record.outcome
    seconds = outcome.seconds.get("total") if outcome else None
    return {
        "trial": record.trial.id,
        "failed": FAILED[failure.kind] if failure else "",
        "score": _score(record),
        "metrics": _metrics(study, outcome.metrics if outcome else {}),
        "epochs": rung_cell(record.trial.rung),
        "time": BLANK if seconds is None else duration(seconds),
        "config": _config(study, record),
    }


def _config(study: Followed, record: Record) -> str:
    """The configuration, and before it that the study itself trains it once more."""
    text = configuration(record.trial.config)
    finalist = study.spec.finalists is not None
    return f"{again(record.trial, finalist)}: {text}" if record.repeat else text


def _failures(study: Followed) -> list[dict[str, Any]]:
    """By kind: how many, and of the latest the text and the end of its log."""
    return [
        {
            "kind": kind,
            "title": f"{count(len(trials), 'trial')} {FAILED[kind]}",
            "trials": [_failed(study, trial) for trial in trials[: -KINDS_SHOWN - 1 : -1]],
        }
        for kind, trials in sorted(study.failed.items())
    ]


def _failed(study: Followed, trial: int) -> dict[str, Any]:
    record = study.history.records[trial]
    lines = (log_of(study, trial) or "").splitlines()[-LOG_LINES:]
    return {
        "trial": trial,
        "text": record.failure.text if record.failure else "",
        "log": "\n".join(lines),
    }


def log_of(study: Followed, trial: int) -> str | None:
    """The end of a trial's log; of several trainings that of the first that failed, or printed."""
    record = study.history.records[trial]
    failed = {part for part, outcome in record.parts.items() if outcome.failure}
    parts = sorted(record.trainings.each, key=lambda part: part not in failed)
    texts = (_log_end(study.directory, trial, part) for part in parts)
    return next((text for text in texts if text), None)


def _log_end(directory: Path, trial: int, part: int | None) -> str | None:
    """Its last 64 KB; None where it printed nothing."""
    try:
        with open(folder.log_path(directory, trial, part), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - LOG_BYTES, 0))
            return file.read(LOG_BYTES).decode(errors="replace")
    except OSError:
        return None


def overview(studies: Sequence[Followed]) -> dict[str, Any]:
    """A matrix: a row for each study."""
    rows = [*map(_study_row, studies)]
    finished = sum(row["state"] == "finished" for row in rows)
    return {
        "title": f"{finished} of {count(len(rows), 'study')} finished",
        "share": sum(row["share"] for row in rows) / len(rows),
        "studies": rows,
    }


def _study_row(study: Followed) -> dict[str, Any]:
    now, _ = study.standing()
    history, best = study.history, now.best if now else None
    return {
        "name": study.directory.name,
        "problem": study.problem,
        **_progress(study),
        "running": str(len(history.running) or BLANK),
        "failed": str(sum(map(len, study.failed.values())) or BLANK),
        "best": str(best.trial.id) if best else BLANK,
        "score": _score(best) if best else BLANK,
    }
