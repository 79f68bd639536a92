"""The finished trials of a study that may be compared, and their held-out truth.

`correlation.py` and the studies of the papers read a study's folder through this.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from hpogen.analysis.statistics import Array
from hpogen.analysis.truth import truth_of
from hpogen.errors import UserError, unknown
from hpogen.record.history import Record
from hpogen.study.read import Folder
from hpogen.tasks.errors import LOSS, Error, audit_key, is_share
from hpogen.trial import Config, Rung

TARGETS = ("audit_gap_loss", "audit_gap_error", "audit_error")
"""audit loss − train loss; audit error − train error; audit error."""

NOT_ADAPTIVE = frozenset({"random", "grid"})
LARGEST_AUDIT = 1_000_000  # images; for finding the number behind the accuracies


@dataclass(frozen=True)
class FinishedTrials:
    """The trials of a study's largest budget that finished, n of them, in the order of asking.

    Failed and pruned trials, duplicates and those without audit are not among them; `left_out`
    counts them by reason.
    """

    study: str
    searcher: str
    budget: int  # epochs
    numbers: tuple[int, ...]
    configs: tuple[Config, ...]
    metrics: Mapping[str, Array]  # (n,), NaN where a trial does not have it
    audit_loss: Array  # (n,)
    error: Error  # of the audit and of training
    audit: Array  # (n,), the metric that the error is made of
    left_out: Mapping[str, int]
    audit_images: int | None  # None: cannot be told

    @property
    def adaptive(self) -> bool:
        """Whether earlier results chose these trials: they are no sample of the space then."""
        return self.searcher not in NOT_ADAPTIVE

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def unfit(self) -> Array:
        """(n,): the error on the training data, but for its zero: lower, the better it fits."""
        return self.metrics[f"train_{self.error.metric}"] * (-1 if self.error.complement else 1)

    def target(self, name: str) -> Array:
        """One of `TARGETS`, (n,). Raises UserError for another name."""
        if name == "audit_gap_loss":
            return self.audit_loss - self.metrics["train_loss"]
        complement = self.error.complement
        if name == "audit_gap_error":
            return (-self.audit if complement else self.audit) - self.unfit
        if name == "audit_error":
            return 1 - self.audit if complement else self.audit
        raise UserError(unknown("target", name, TARGETS))

    def measure(self, name: str) -> Array:
        """A metric, (n,). Raises UserError with the nearest name."""
        if name not in self.metrics:
            raise UserError(f"{self.study}: {unknown('metric', name, self.metrics)}")
        return self.metrics[name]


def finished_trials(study: Folder, error: Error | None = None) -> FinishedTrials:
    """The trials of a study that may be compared, by that error; None: by the study's own.

    Raises UserError when no trial has finished with train metrics and audit.
    """
    past = study.history
    spec = past.header["spec"]
    rung = study.spec.ladder[-1]
    error = error or truth_of([study]) or LOSS
    reasons = [_reason(record, rung, error.metric) for record in past.records]
    left_out = Counter(reason for reason in reasons if reason)
    records = [r for r, reason in zip(past.records, reasons, strict=True) if not reason]
    if not records:
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(left_out.items()))
        needs = f"an audit ({audit_key(study.spec.task.name)})"
        metrics = " and ".join(dict.fromkeys(["train_loss", f"train_{error.metric}"]))
        raise UserError(
            f"{study.directory}: no trial can be judged ({counts or 'there are none'}): it needs "
            f"{needs}, {metrics}"
        )
    outcomes = [record.outcome for record in records if record.outcome]
    names = {name: None for outcome in outcomes for name in outcome.metrics}
    audit = np.array([outcome.audit[error.metric] for outcome in outcomes])
    return FinishedTrials(
        study=spec["name"],
        searcher=spec["searcher"]["name"],
        budget=rung.epochs,
        numbers=tuple(record.trial.id for record in records),
        configs=tuple(record.trial.config for record in records),
        metrics={
            name: np.array([outcome.metrics.get(name, math.nan) for outcome in outcomes])
            for name in names
        },
        audit_loss=np.array([outcome.audit["loss"] for outcome in outcomes]),
        error=error,
        audit=audit,
        left_out=dict(left_out),
        audit_images=_audit_images(spec, audit.tolist()) if is_share(error.text) else None,
    )


def _reason(record: Record, rung: Rung, metric: str) -> str:
    """Why a trial is not compared; empty when it is."""
    if record.trial.rung != rung:
        return "of another rung" if record.trial.data else "of a smaller budget"
    if record.twin is not None:
        return "duplicate"
    if record.repeat:
        return "repeated"
    if record.state != "told" or record.outcome is None:
        return "unfinished"
    if record.failure is not None:
        return "pruned" if record.pruned else "failed"
    if not {"loss", metric} <= record.outcome.audit.keys():
        return "without audit"
    needed = {"train_loss", f"train_{metric}"}
    return "" if record.outcome.metrics.keys() >= needed else "without train metrics"


def _audit_images(spec: Mapping[str, Any], accuracies: Sequence[float]) -> int | None:
    """How many images the audit has: the study's own number, else what the accuracies tell."""
    dataset = spec["task"].get("dataset")
    audit = dataset.get("audit") if isinstance(dataset, Mapping) else None
    if isinstance(audit, int):
        return audit
    return images_behind(accuracies)


def images_behind(accuracies: Sequence[float]) -> int | None:
    """How many images these accuracies are shares of; None where they are no shares of images.

    Their least common denominator divides the true number, so it is never too large.
    """
    parts = (Fraction(x).limit_denominator(LARGEST_AUDIT).denominator for x in accuracies)
    images = math.lcm(*parts)
    return images if images <= LARGEST_AUDIT else None  # no shares of so many images
