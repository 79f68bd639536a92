"""What is exported: the trials of a study or a matrix as rows, and a table of them.

Everything is read from the folders' ledgers, whether the studies run or not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpogen.record.history import Record
from hpogen.study.read import Folder
from hpogen.study.standing import rule
from hpogen.trial import canonical

if TYPE_CHECKING:
    import pandas as pd


def shown(url: str) -> str:
    """Without the password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string()
    except ArgumentError:
        return f"{url.partition('://')[0]}://…"


def table(studies: Sequence[Folder]) -> pd.DataFrame:
    """One row per trial, in the order of asking; what a trial does not have is missing.

    `score` is missing where it is infinite: for failed trials; of a Pareto objective it is the
    first of `scores.*`. `duplicate_of` and `parent` are trials of the same study, `reused` is
    `STUDY/7`. `scores.*`, `config.*`, `metrics.*`, `audit.*` and `seconds.*` have a column per
    name. A parameter whose values are of several types is JSON text;
    a null that was chosen is one of them, where others have no value.
    """
    import pandas as pd

    rows = [row(study, record) for study in studies for record in study.history.records]
    columns = _columns(studies, rows)
    return pd.DataFrame({name: _column(name, rows) for name in columns})


def row(study: Folder, record: Record) -> dict[str, Any]:
    """The cells of one trial, None where it has none."""
    trial, outcome, failure = record.trial, record.outcome, record.failure
    cells = {
        "study": study.name,
        "trial": trial.id,
        "state": record.state,
        "score": record.score if math.isfinite(record.score) else None,
        "budget": trial.budget,
        **({} if trial.data is None else {"data": trial.data}),
        "epochs": outcome.epochs if outcome else None,
        "replicate": trial.replicate,
        "cohort": trial.cohort,
        "parent": trial.parent,
        "seed": trial.seed,
        "duplicate_of": record.twin,
        "reused": record.reused or None,
        "lost": record.lost,
        "failure.kind": failure.kind if failure else None,
        "failure.text": failure.text if failure else None,
    }
    scores = zip((term.metric for term in study.spec.objective.terms), record.scores, strict=False)
    return {**cells, **_grouped(record, dict(scores))}


def curve(study: Folder, record: Record) -> list[dict[str, Any]]:
    """A trial's rows by epoch, a duplicate's those of its twin; of one without a file the last."""
    rows = study.curve(record.trial.id if record.twin is None else record.twin)
    if not rows and record.outcome is not None:
        return [{"epoch": record.trial.budget, "metrics": record.outcome.metrics}]
    return rows


def told_answer(study: Folder, record: Record) -> str:
    """The verdict so far, `trial 9: 0.1234 by agn+val; {"lr":0.1}`."""
    config = canonical(record.trial.config)
    return f"trial {record.trial.id}: {record.score:.6g} by {rule(study.spec)}; {config}"


def _grouped(record: Record, scores: Mapping[str, float]) -> dict[str, Any]:
    """A trial's configuration and numbers: `config.lr`, `metrics.val_loss`, `audit.accuracy`, …"""
    outcome = record.outcome
    groups: Mapping[str, Mapping[str, Any]] = {
        "scores": scores,
        "config": record.trial.config,
        "metrics": outcome.metrics if outcome else {},
        "audit": outcome.audit if outcome else {},
        "seconds": outcome.seconds if outcome else {},
    }
    return {f"{group}.{key}": x for group, values in groups.items() for key, x in values.items()}


def _columns(studies: Sequence[Folder], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of every trial, then the groups: parameters as in the space, the objectives' metrics
    before the others, which are sorted."""
    found = dict.fromkeys(name for cells in rows for name in cells)
    fixed = [name for name in found if "." not in name or name.startswith("failure.")]
    searched = dict.fromkeys(f"config.{name}" for s in studies for name in s.spec.space.names)
    groups = ("scores.", "metrics.", "audit.", "seconds.")
    rest = [name for group in groups for name in sorted(found) if name.startswith(group)]
    named = (f"metrics.{name}" for s in studies for name in s.spec.objective.shown_first)
    first = [name for name in dict.fromkeys(named) if name in found]
    return [*dict.fromkeys([*fixed, *searched, *first, *rest])]


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> pd.Series[Any]:
    """The values with one type, which allows for missing ones; None is missing.

    A parameter that is there with the value None has chosen it, and is JSON text.
    """
    import pandas as pd

    values = [cells.get(name) for cells in rows]
    if name.startswith("config.") and any(name in cells and cells[name] is None for cells in rows):
        texts = [json.dumps(cells[name]) if name in cells else None for cells in rows]
        return pd.Series(texts, dtype="string")
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float}:
        kinds = {float}
    if len(kinds) > 1:
        values = [None if value is None else json.dumps(value) for value in values]
        kinds = {str}
    types: Mapping[type, str] = {int: "Int64", float: "Float64", bool: "boolean", str: "string"}
    kind = next(iter(kinds), str)
    return pd.Series(values, dtype=types[kind])
