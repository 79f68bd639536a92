"""The outcome of a trial that is several trainings, folds or repeats, made of theirs.

The Study asks for it when one has ended; what is kept of a trial's samples is put together here.
"""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpogen.errors import explained
from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.selection.evidence import HITS, LOSSES
from hpogen.study.read import AnyStudy
from hpogen.trial import Failure, Outcome

Arrays = Sequence[NDArray[Any]]
Row = dict[str, Any]


def _beside(arrays: Arrays) -> NDArray[Any]:
    """(M, K·parts) of (M, K) or (M,): of an audit sample all of its figures."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def _sum(arrays: Arrays) -> NDArray[Any]:
    found: NDArray[Any] = np.sum(arrays, axis=0)
    return found


SAMPLES: Mapping[str, Callable[[Arrays], NDArray[Any]]] = {
    LOSSES: np.concatenate,
    HITS: np.concatenate,
    "audit_hits.npy": _beside,
    "audit_errors.npy": _beside,
    "audit_counts.npy": _sum,
}
"""How the trainings' files of samples become the trial's: validation one after the other."""


def whole(study: AnyStudy, record: Record) -> Outcome | None:
    """The outcome of a running trial; None while one of its trainings has not ended.

    Its curve and what is kept of its samples are written. Raises CannotGoOn.
    """
    count, word = study.history.parts
    if len(record.parts) < count:
        return None
    trial, study_id = record.trial.id, study.history.id
    outcome = composed(trial, [record.parts[part] for part in range(count)], word)
    curves = [folder.read_curve(study.directory, trial, study_id, part) for part in range(count)]
    with explained(folder.curve_path(study.directory, trial)):
        if rows := mean_curve(curves):
            folder.write_curve(study.directory, trial, rows, study_id)
    if outcome.failure is None:
        files = _samples(study.directory, trial, study_id, count)
        folder.keep_files(study.directory, trial, files, study_id)
    return outcome


def composed(trial: int, outcomes: Sequence[Outcome], word: str) -> Outcome:
    """Means of metrics and audit, sums of epochs and seconds; or the first failure by number.

    A failed one spares no epochs, as everywhere.
    """
    codes = {outcome.code for outcome in outcomes}
    code = codes.pop() if len(codes) == 1 else ""
    seconds = _sums(outcome.seconds for outcome in outcomes)
    epochs = sum(outcome.epochs or 0 for outcome in outcomes)
    for part, outcome in enumerate(outcomes):
        if (failure := outcome.failure) is not None:
            failure = Failure(failure.kind, f"{word} {part}: {failure.text}")
            return Outcome(trial, {}, {}, seconds, epochs, failure, code=code)
    metrics = means([outcome.metrics for outcome in outcomes])
    audit = means([outcome.audit for outcome in outcomes])
    spared = sum(outcome.spared for outcome in outcomes)
    return Outcome(trial, metrics, audit, seconds, epochs, code=code, spared=spared)


def means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of the names that all have: sums are exact, so that no order of them matters."""
    names = (name for name in figures[0] if all(name in each for each in figures))
    return {name: statistics.fmean(each[name] for each in figures) for name in names}


def _sums(figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for each in figures:
        found.update(each)
    return dict(found)


def mean_curve(curves: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of the epochs that all of the trainings have."""
    by_epoch = [{row["epoch"]: row for row in curve} for curve in curves]
    common = [epoch for epoch in by_epoch[0] if all(epoch in curve for curve in by_epoch)]
    return [_mean([curve[epoch] for curve in by_epoch]) for epoch in common]


def _mean(rows: Sequence[Row]) -> Row:
    memory = max((row["memory"] for row in rows if "memory" in row), key=_peak, default=None)
    found = {
        **rows[0],
        "metrics": means([row["metrics"] for row in rows]),
        "seconds": _sums(row["seconds"] for row in rows),
        "memory": memory,
        "audit": means([row.get("audit", {}) for row in rows]),
    }
    return {name: value for name, value in found.items() if value or name == "metrics"}


def _peak(memory: Mapping[str, int]) -> int:
    return memory["peak"]


def _samples(directory: Path, trial: int, study: str, count: int) -> dict[str, bytes]:
    found = {}
    for name, join in SAMPLES.items():
        try:
            parts = [folder.read_kept(directory, trial, name, study, part) for part in range(count)]
        except FileNotFoundError:  # the task does not keep it
            continue
        buffer = io.BytesIO()
        np.save(buffer, join([np.load(io.BytesIO(data), allow_pickle=False) for data in parts]))
        found[name] = buffer.getvalue()
    return found
