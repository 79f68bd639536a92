"""What a selection may look at of the finished trials: metrics, curves, losses; never the audit.

`choosing.py` gathers it from a study's history and folder; `analysis/` asks what other or fewer
validation samples would have shown (`thinned`).
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpogen.errors import UserError
from hpogen.objective import Location
from hpogen.record import folder
from hpogen.record.history import History, Record
from hpogen.trial import Rung, canonical

LATE = 5  # epochs that `noise_cut` averages
TOP = 5  # configurations that it evaluates again, from what the study keeps of its `stop`
REPEATS = 2  # times

LOSSES, HITS = "val_losses.npy", "val_hits.npy"
Losses = NDArray[np.floating]
"""(n, N): of each trial the loss on each validation sample, in the data set's order; of folds one
after the other."""


@dataclass(frozen=True)
class Evidence:
    """n finished trials of one rung. What stands in files is read when it is called for.

    `metrics` are those of the last epoch, `locations` the frozen `standard` scales; `losses` gives
    `Losses`, `late` the figures of `late_losses`. Both raise UserError where a file that is needed
    is missing.
    """

    rung: Rung
    metrics: tuple[Mapping[str, float], ...]
    locations: Mapping[str, Location]
    losses: Callable[[], Losses]
    late: Callable[[], list[float]]

    def metric(self, name: str) -> list[float]:
        """A metric, infinity where a trial does not have it."""
        return [metrics.get(name, math.inf) for metrics in self.metrics]

    def only(self, trials: Sequence[int]) -> Evidence:
        """That of the trials of these numbers."""
        return replace(
            self,
            metrics=tuple(self.metrics[i] for i in trials),
            losses=lambda: self.losses()[[*trials]],
            late=lambda: [found[i] for found in [self.late()] for i in trials],
        )


def gather(history: History, records: Sequence[Record], rung: Rung, directory: Path) -> Evidence:
    """What may be looked at of those trials."""
    metrics = [record.outcome.metrics if record.outcome else {} for record in records]
    return Evidence(
        rung,
        tuple(metrics),
        history.locations.get(rung, {}),
        lambda: np.stack(read_losses(directory, [r.trial.id for r in records], history.id)),
        lambda: late_losses(history, records, directory),
    )


def read_losses(
    directory: Path, trials: Sequence[int], study: str | None = None, kept: str = LOSSES
) -> list[Losses]:
    """The per-sample validation losses of trials, (N,) each; `study` is the id, None: looked up.

    With `kept` HITS, whether each sample was right. Raises UserError for a file that is missing,
    unreadable, or of another length than the first.
    """
    found: list[Losses] = []
    for trial in trials:
        try:
            losses = kept_array(directory, trial, kept, study)
        except UserError as error:
            raise UserError(
                f"{error}: the losses of trial {trial} on each validation sample, which "
                "one_se_margin, shrunk and rescore --validation read; use another selection"
            ) from None
        if losses.ndim != 1 or (found and len(losses) != len(found[0])):
            expected = f"({len(found[0])},)" if found else "one row"
            path = _path(directory, trial, kept)
            raise UserError(f"{path}: got losses of shape {losses.shape}, expected {expected}")
        found.append(losses)
    return found


def kept_array(directory: Path, trial: int, kept: str, study: str | None = None) -> NDArray[Any]:
    """What a study kept of a trial as a .npy file; `study` is the id, None: looked up.

    Raises UserError for a file that is missing, another study's, or unreadable: path and reason.
    """
    try:
        content = io.BytesIO(folder.read_kept(directory, trial, kept, study))
        found: NDArray[Any] = np.load(content, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = "cannot be read"
        if isinstance(error, FileNotFoundError):
            reason = "is missing" if error.errno else "is another study's"
        raise UserError(f"{_path(directory, trial, kept)}: {reason}") from None
    return found


def _path(directory: Path, trial: int, kept: str) -> Path:
    return folder.trial_stem(directory, trial).with_suffix(f".{kept}")


def late_losses(history: History, records: Sequence[Record], directory: Path) -> list[float]:
    """`noise_cut`'s figure of each record: the late validation loss, averaged over its evaluations.

    Once configurations are evaluated again, infinity for those that neither are, nor are among the
    first evaluations' best: a single low figure is not set against a mean. An evaluation that
    failed counts as infinity.
    """
    first = [late_loss(record, directory, history.id) for record in records]
    repeats: dict[str, list[float]] = {}
    for record in history.records:
        if record.repeat and record.state == "told":
            losses = repeats.setdefault(canonical(record.trial.config), [])
            losses.append(late_loss(record, directory, history.id))
    if not repeats:
        return first
    best = set(sorted(range(len(records)), key=first.__getitem__)[:TOP])
    configs = [canonical(record.trial.config) for record in records]
    return [
        statistics.fmean([loss, *repeats.get(config, [])])
        if i in best or config in repeats
        else math.inf
        for i, (loss, config) in enumerate(zip(first, configs, strict=True))
    ]


def late_loss(record: Record, directory: Path, study: str) -> float:
    """The mean validation loss of the last epochs that the curve has; infinity after a failure.

    That of the last epoch alone where there is no curve.
    """
    outcome = record.outcome
    if outcome is None or outcome.failure is not None or "val_loss" not in outcome.metrics:
        return math.inf
    rows = folder.read_curve(directory, record.trial.id, study)[-LATE:]
    losses = [row["metrics"]["val_loss"] for row in rows if "val_loss" in row["metrics"]]
    return statistics.fmean(losses or [outcome.metrics["val_loss"]])


def thinned(
    evidence: Evidence,
    losses: Losses,
    drawn: NDArray[np.intp],
    hits: NDArray[np.bool_] | None = None,
) -> Evidence:
    """The evidence as if validation had had the samples `drawn` of all (n, N), some repeatedly.

    Without `hits` accuracies stay what they are.
    """
    seen = losses[:, drawn]
    means = {"val_loss": ("train_loss", "gap_loss", 1, seen.mean(axis=1, dtype=np.float64))}
    if hits is not None:
        right = hits[:, drawn].mean(axis=1)
        means["val_accuracy"] = ("train_accuracy", "gap_accuracy", -1, right)
    metrics = [dict(own) for own in evidence.metrics]
    for name, (train, gap, sign, values) in means.items():
        for own, value in zip(metrics, values, strict=True):
            own[name] = float(value)
            if {gap, train} <= own.keys():
                own[gap] = sign * (float(value) - own[train])
    return replace(evidence, metrics=tuple(metrics), losses=lambda: seen)
