"""The table of all trials, which the page sorts and filters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

from hpogen.analysis.answers import seconds
from hpogen.record.history import Record
from hpogen.report.html.blocks import Section, render
from hpogen.report.html.material import Material
from hpogen.report.text import count, number, rung_cell, value, words
from hpogen.study.read import Folder

MOST = 12_000  # rows; a browser sorts them in a second

Cell = tuple[str, str]  # the text, and what it is sorted by


def trials(material: Material) -> Section:
    """All of it: every trial of every study, the newest study's last."""
    several = len(material.studies) > 1
    names = list(dict.fromkeys(n for s in material.studies for n in s.spec.space.names))
    terms = _terms(material)
    each = (_rows(study, material, terms, names, several) for study in material.studies)
    rows = [*islice(chain.from_iterable(each), MOST)]
    total = sum(len(study.history.records) for study in material.studies)
    notes = []
    if total > MOST:
        notes.append(f"These are the first {MOST:,} of {count(total, 'trial')}; all: hpogen export")
    titles = ["study"] if several else []
    titles += ["trial", "state", "score", "val loss", *map(words, terms)]
    titles += ["val acc", "audit acc", "audit loss"]
    titles += ["budget", "trained", "seconds", *map(words, names), "failure"]
    columns = _filled(titles, rows)
    body = render(
        "trials.html.j2",
        titles=[titles[i] for i in columns],
        rows=[[row[i] for i in columns] for row in rows],
        total=total,
    )
    return Section(
        "trials",
        "Trials",
        "All of it: click a column to sort, type to filter. Budget and trained are in epochs.",
        body=body,
        notes=tuple(notes),
    )


def _terms(material: Material) -> list[str]:
    """The metrics of the objectives that have no column of their own."""
    names = dict.fromkeys(
        name for study in material.studies for name in study.spec.objective.shown_first
    )
    return [name for name in names if name not in ("val_loss", "val_accuracy")]


def _filled(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[int]:
    """The columns that are not empty."""
    return [i for i in range(len(titles)) if any(row[i][0] for row in rows)]


def _rows(
    study: Folder, material: Material, terms: Sequence[str], names: Sequence[str], several: bool
) -> Iterable[list[Cell]]:
    spent = seconds(study, material.siblings)
    answers = {given.study: given.trial for given in material.comparison.answers}
    for record in study.history.records:
        first = [(study.name, study.name)] if several else []
        chosen = record.trial.id == answers.get(study.directory)
        yield [
            *first,
            *_cells(study, record, chosen, spent.get(record.trial.id, {}), terms),
            *(_parameter(record, name) for name in names),
            _failure(record),
        ]


def _cells(
    study: Folder, record: Record, chosen: bool, spent: Any, terms: Sequence[str]
) -> list[Cell]:
    outcome = record.outcome
    metrics = outcome.metrics if outcome else {}
    audit = outcome.audit if outcome else {}
    id_ = record.trial.id
    return [
        (f"{id_} ★" if chosen else str(id_), str(id_)),
        (_state(study, record), _state(study, record)),
        _figure(record.score),
        _figure(metrics.get("val_loss")),
        *(_figure(metrics.get(name)) for name in terms),
        _figure(metrics.get("val_accuracy")),
        _figure(audit.get("accuracy")),
        _figure(audit.get("loss")),
        (rung_cell(record.trial.rung), str(record.trial.budget)),
        ("", "") if outcome is None else (str(outcome.epochs), str(outcome.epochs)),
        _figure(spent.get("total")),
    ]


def _state(study: Folder, record: Record) -> str:
    if record.state != "told":
        return record.state
    if record.failure is not None:
        return "pruned" if record.pruned else "failed"
    if record.twin is not None:
        return f"as trial {record.twin}"
    if record.repeat:
        return "finalist" if study.spec.finalists else "repeat"
    return "reused" if record.reused else "finished"


def _figure(x: float | None) -> Cell:
    if x is None or not math.isfinite(x):
        return "", ""
    return number(x), repr(float(x))


def _parameter(record: Record, name: str) -> Cell:
    config = record.trial.config
    if name not in config:
        return "", ""
    x = config[name]
    return value(x), value(x) if x is None else str(x)


def _failure(record: Record) -> Cell:
    failure = record.failure
    text = f"{failure.kind}: {failure.text}" if failure else ""
    return text, text
