"""The held-out truth of trials: the error on the audit, which what chooses never sees."""

from __future__ import annotations

from collections.abc import Sequence

from hpogen.record.history import Record
from hpogen.spec import StudySpec
from hpogen.study.read import Folder
from hpogen.tasks.errors import Error, judging


def truth_of(studies: Sequence[Folder]) -> Error | None:
    """The error that all audited trials of these studies have; None where none is audited."""
    audits = [
        record.outcome.audit
        for study in studies
        for record in study.finished
        if record.outcome and record.outcome.audit
    ]
    return judging([study.spec.task.judged_by for study in studies], audits)


def truth_in(spec: StudySpec, record: Record) -> Error | None:
    """The error of that trial's audit alone; None without any."""
    audit = record.outcome.audit if record.outcome else {}
    return judging([spec.task.judged_by], [audit] * bool(audit))


def held_out(record: Record, truth: Error | None) -> float | None:
    """A trial's error on the audit."""
    return truth.of(record.outcome.audit) if truth and record.outcome else None


def validated(record: Record, truth: Error | None) -> float | None:
    """The same of the validation set."""
    return truth.of(record.outcome.metrics, "val_") if truth and record.outcome else None
