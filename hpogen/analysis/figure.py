"""The error of a study's answer as one may believe it, with a 95 % interval: `best`, `compare`, …

By audit where there is any: nothing was chosen by those samples. Else from the validation samples,
by which the answer was chosen and whose figure of it is therefore too good in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpogen.analysis.statistics import LEVEL, Array, Interval, Weighted, bootstrap, mean
from hpogen.analysis.truth import held_out, truth_in, validated
from hpogen.errors import UserError
from hpogen.record.history import Record
from hpogen.selection import SELECTIONS, Evidence, candidates, gather
from hpogen.selection.evidence import HITS, Losses, kept_array, read_losses, thinned
from hpogen.spec import StudySpec
from hpogen.study.read import AnyStudy
from hpogen.study.standing import chooses_by_validation
from hpogen.tasks.errors import Error, audit_key

AUDIT_HITS, AUDIT_ERRORS = "audit_hits.npy", "audit_errors.npy"
AUDIT_COUNTS = "audit_counts.npy"
RESAMPLES = 500
By = Literal["audit", "validation"]
Drawn = NDArray[np.intp]
Choose = Callable[[Drawn], int | None]
"""The trial that is chosen by the validation samples drawn, (N,) with repeats; None: none is."""


@dataclass(frozen=True)
class Figure:
    """An error, or a loss, of the network as the study trained it, on the subset.

    `what` is what it is called: `error`, a share, or `RMSE`, `1 − AUROC`, `loss`.

    `by` validation it is corrected for having been chosen by it (`bias_corrected`). `samples` are
    those that judge, None: not known. `validation` is the answer's figure on them as it stands.
    `lacking` says why there is no interval, or no error but a loss.
    """

    what: str
    value: float
    interval: Interval | None
    by: By
    samples: int | None
    validation: float | None
    lacking: str = ""

    @property
    def optimism(self) -> float | None:
        """The validation figure minus this one: below 0 validation is too good."""
        return None if self.validation is None else self.validation - self.value


def figure(study: AnyStudy, record: Record, spec: StudySpec | None = None) -> Figure | str:
    """What the answer `record`, chosen by `spec` (None: the study's own), is worth.

    A text instead says why nothing can be told.
    """
    if record.outcome is not None and record.outcome.audit:
        return _by_audit(study, record)
    return _by_validation(study, record, spec or study.spec)


def _by_audit(study: AnyStudy, record: Record) -> Figure | str:
    truth = truth_in(study.spec, record)
    value = held_out(record, truth)
    if truth is None or value is None:
        return "audit has neither an error nor a loss"
    interval, samples, lacking = _around(study, record, truth, value)
    validation = validated(record, truth)
    return Figure(truth.text, value, interval, "audit", samples, validation, lacking)


def _around(
    study: AnyStudy, record: Record, truth: Error, value: float
) -> tuple[Interval | None, int | None, str]:
    """The interval of an audit error, by how many samples, and why there is none."""
    if truth.metric == "accuracy":
        hits = _kept(study, record, AUDIT_HITS)
        counts = _kept(study, record, AUDIT_COUNTS) if hits is None else None
        if counts is not None:  # nor are the places of a sequence
            right, places = counts.astype(np.float64).T
            return bootstrap(mean(1 - right / places, places), len(counts)), len(counts), ""
        if hits is not None and hits.ndim > 1:  # several labels of a sample are not independent
            return bootstrap(mean(1 - hits.mean(1)), len(hits)), len(hits), ""
        samples = _declared(study) if hits is None else len(hits)
        if samples:
            return wilson(value, samples), samples, ""
        return None, None, "no interval: the number of audit images is not kept"
    errors = _kept(study, record, AUDIT_ERRORS)
    if errors is None or truth.metric not in OF_ERRORS:
        return None, None, f"no interval: the audit {truth.text} of each sample is not kept"
    return bootstrap(OF_ERRORS[truth.metric](errors), len(errors)), len(errors), ""


def _kept(study: AnyStudy, record: Record, name: str) -> NDArray[Any] | None:
    """(N, …) of each audit sample; None where it is not kept."""
    try:
        return kept_array(study.directory, record.trial.id, name, study.history.id)
    except UserError:
        return None


def _declared(study: AnyStudy) -> int | None:
    """The number of audit samples as the task says it."""
    task = study.spec.record()["task"]
    said = task.get("dataset", {}).get("audit")
    return said if isinstance(said, int) and said else None


def _rmse(errors: NDArray[Any]) -> Weighted:
    """The mean over the targets of √ mean e², to be bootstrapped; errors (N, K)."""
    squares = np.square(errors.astype(np.float64))
    return lambda counts: np.asarray(np.sqrt(counts @ squares / counts.sum(1)[:, None]).mean(1))


OF_ERRORS: Mapping[str, Callable[[NDArray[Any]], Weighted]] = {
    "rmse": _rmse,
    "mae": lambda errors: mean(np.abs(errors.astype(np.float64)).mean(1)),
}
"""The metrics that follow from each audit sample's errors (N, K)."""


def wilson(share: float, n: int, level: float = LEVEL) -> Interval:
    """The score interval of a share of n independent samples (Wilson 1927)."""
    from scipy import stats

    found = stats.binomtest(round(share * n), n).proportion_ci(level, method="wilson")
    return Interval(float(found.low), float(found.high))


def _by_validation(study: AnyStudy, record: Record, spec: StudySpec) -> Figure | str:
    """Bias-corrected, as far as what the choice looks at is kept of each validation sample."""
    metrics = record.outcome.metrics if record.outcome else {}
    if "val_loss" not in metrics:
        return (
            "there is nothing to judge by: no audit, and no validation: "
            f"{audit_key(spec.task.name)} gives the former"
        )
    if spec.reserve.trials:
        return "not known: there is no audit, and what was trained again had its say in the choice"
    history = study.history
    records = candidates(history, spec.ladder[-1])
    trials = [one.trial.id for one in records]
    try:
        losses = np.stack(read_losses(study.directory, trials, history.id))
    except UserError:
        return "not known: there is no audit, and the loss of each validation sample is not kept"
    hits = _hits(study, trials, losses.shape)
    choose = _chooser(
        gather(history, records, spec.ladder[-1], study.directory), losses, hits, spec
    )
    if choose is None:
        return (
            "not known: there is no audit, and the choice looks at val_accuracy, but whether each "
            "sample was right is not kept of trials of an older hpogen"
        )
    judged = losses if hits is None else ~hits
    value, interval = bias_corrected(judged, choose)
    own = float(judged[trials.index(record.trial.id)].mean(dtype=np.float64))
    if hits is None:
        lacking = "a loss: each validation sample's error is not kept"
        return Figure("loss", value, interval, "validation", losses.shape[1], own, lacking)
    return Figure("error", value, interval, "validation", losses.shape[1], own)


def _hits(
    study: AnyStudy, trials: Sequence[int], shape: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """(n, N), None where not all trials have them."""
    try:
        hits = np.stack(read_losses(study.directory, trials, study.history.id, HITS)).astype(bool)
    except UserError:
        return None
    return hits if hits.shape == shape else None


def _chooser(
    evidence: Evidence, losses: Losses, hits: NDArray[np.bool_] | None, spec: StudySpec
) -> Choose | None:
    """The study's own choice, of resampled validation samples. None where that is not known."""
    n = losses.shape[1]
    if chooses_by_validation(spec):
        exact = losses.astype(np.float64)
        return lambda drawn: int((exact @ np.bincount(drawn, np.ones(n), n)).argmin())
    by_score = spec.selection == "score" or spec.objective.pareto
    looked_at = spec.objective.metrics if by_score else {spec.selection}
    if hits is None and looked_at & {"val_accuracy", "gap_accuracy"}:
        return None
    evidence, rule = replace(evidence, losses=lambda: losses), SELECTIONS[spec.selection]

    def choose(drawn: NDArray[np.intp]) -> int | None:
        return rule.choose(thinned(evidence, losses, drawn, hits), spec.objective)

    return choose


def bias_corrected(
    judged: NDArray[np.floating] | NDArray[np.bool_],
    choose: Choose,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """What a choice is worth, and the interval: the choice repeated in each bootstrap sample.

    `judged` (n, N) is each trial's error or loss on each validation sample. Each bootstrap sample
    chooses, and its choice is judged on the samples outside: their mean over the resamples is the
    estimate (Tsamardinos, Greasidou and Borboudakis 2018, algorithm 4, of one training each).

    A share q = (1 − 1/N)^N of the samples is outside, so that these means spread more than one over
    all N does: their distances from the estimate are multiplied by √(q / (1 − q)), as the
    jackknife's are that leaves (1 − q) N out (Shao and Wu 1989). Then the middle 95 %.
    """

    def judge(drawn: Drawn) -> NDArray[Any] | None:
        chosen = choose(drawn)
        return None if chosen is None else judged[chosen]

    value, interval = out_of_bag(judge, judged.shape[1], resamples, seed)
    return value, interval and Interval(max(interval.low, 0.0), interval.high)


def out_of_bag(
    judge: Callable[[Drawn], NDArray[Any] | None], n: int, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Interval | None]:
    """The same for a figure of either sign of what is made by the samples drawn of n.

    `judge` gives it on each sample, (n,); None: nothing can be made by those.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = generator.integers(n, size=(n,))
        outside = np.bincount(drawn, minlength=n) == 0
        figures = judge(drawn) if outside.any() else None
        if figures is not None:
            found.append(float(figures[outside].mean(dtype=np.float64)))
    if not found:
        return math.nan, None
    values: Array = np.array(found)
    share = (1 - 1 / n) ** n
    spread = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - values.mean()
    low, high = values.mean() + math.sqrt(share / (1 - share)) * spread
    return float(values.mean()), Interval(float(low), float(high))
