"""The trials of studies as a learned objective sees them: ranks of measures, a target, the truth.

`learned.py` fits to them. What reads validation labels is no measure here: the model is to do
without, and is judged beside the validation loss with few labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpogen.analysis.arms import by_task
from hpogen.analysis.correlation import FEWEST
from hpogen.analysis.fewer_labels import draws
from hpogen.analysis.learned_rule import validation_of
from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import FinishedTrials, finished_trials
from hpogen.analysis.truth import truth_of
from hpogen.errors import UserError, unknown
from hpogen.plugins import FROM_VALIDATION
from hpogen.selection.evidence import read_losses
from hpogen.spec.learned import Target, scaled
from hpogen.study.read import Folder
from hpogen.study.retrained import Retrained, retrained
from hpogen.tasks.errors import LOSS, Error, is_share
from hpogen.trial import canonical

LABELS = (50, 250, 1000)  # of validation, and all that a study has
SUBSAMPLES = 200
FROM_LABELS = ("val_", "gap_", "audit")  # how the names of figures begin that read held-out labels


@dataclass(frozen=True)
class Ranked:
    """n trials of one study, m measures.

    `target` is what is fitted, `truth` the held-out error, `unfit` what is added to a predicted gap
    (the error on the training data; 0 for other targets), `validation` the validation losses by
    number of labels, a row per sub-sample.
    """

    task: str
    study: Folder
    ranks: Array  # (n, m), from 0 to 1
    target: Array  # (n,)
    truth: Array  # (n,)
    unfit: Array  # (n,)
    validation: Mapping[int, Array]  # (sub-samples, n)

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Collected:
    """All of it by task; `dropped` are the measures that cannot serve, with the reason."""

    tasks: Mapping[str, Sequence[Ranked]]
    measures: tuple[str, ...]
    dropped: Mapping[str, str]
    judged_by: str


def collect(
    studies: Sequence[Folder], target: Target = "error", measures: Sequence[str] = ()
) -> Collected:
    """The finished trials of these studies, by task; `measures` empty: all that they share.

    Raises UserError for studies of one task, of fewer than `FEWEST` trials with an audit (or
    retrained), of errors that have no gap in common, and where no measure is left.
    """
    error = truth_of(studies) or LOSS
    if target == "gap" and not is_share(error.text):
        raise UserError(
            f"--target gap: got studies judged by {error.text}, expected an error that is a share: "
            "gaps of different tasks would have different units; use --target error"
        )
    trials = {study.directory: finished_trials(study, error) for study in studies}
    grouped = by_task(studies)
    if len(grouped) < 2:
        raise UserError(
            f"got studies of one task ({next(iter(grouped))}), expected at least two tasks: a "
            "model is judged by tasks that it was not fitted to"
        )
    named, dropped = _measures([*trials.values()], [str(path) for path in trials], measures)
    tasks = {
        title: [_ranked(title, s, trials[s.directory], named, target, error) for s in group]
        for title, group in grouped.items()
    }
    return Collected(tasks, tuple(named), dropped, error.on(_split(target)))


def _split(target: Target) -> str:
    return "test" if target == "retrained" else "audit"


def _measures(
    trials: Sequence[FinishedTrials], folders: Sequence[str], asked: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Those that all trials of all studies have, and why the others are left out."""
    known = {name for one in trials for name in one.metrics if not _from_labels(name)}
    for name in asked:
        if _from_labels(name):
            raise UserError(
                f"--measures: {name} reads held-out labels: the model is to do without them"
            )
        if name not in known:
            raise UserError(f"--measures: {unknown('measure', name, known)}")
    dropped, kept = {}, []
    for name in sorted({*asked} or known):
        if reason := _unfit_for_it(name, trials, folders):
            dropped[name] = reason
        else:
            kept.append(name)
    if not kept:
        first, reason = next(iter(dropped.items()))
        raise UserError(
            f"no measure is left that these studies have in common and that varies ({first}: "
            f"{reason}): hpogen measure DIR --add gives a study others"
        )
    return kept, dropped


def _from_labels(name: str) -> bool:
    return name in FROM_VALIDATION or name.startswith(FROM_LABELS)


def _unfit_for_it(name: str, trials: Sequence[FinishedTrials], folders: Sequence[str]) -> str:
    """Why a measure is left out; empty: it is not."""
    for one, folder in zip(trials, folders, strict=True):
        if name not in one.metrics:
            return f"not in {folder}"
        if not np.isfinite(one.metrics[name]).all():
            return f"not of all trials of {folder}"
    constant = all(np.ptp(one.metrics[name]) == 0 for one in trials)
    return "the same in all trials of every study" if constant else ""


def _ranked(
    task: str,
    study: Folder,
    trials: FinishedTrials,
    measures: Sequence[str],
    target: Target,
    error: Error,
) -> Ranked:
    """Ranks are among all finished trials; the rows are those whose truth is known."""
    truth = _tested(study, trials) if target == "retrained" else trials.target("audit_error")
    rows = np.flatnonzero(np.isfinite(truth))
    if len(rows) < FEWEST:
        which = "that have been retrained" if target == "retrained" else "that can be judged"
        advice = f" (hpogen retrain {study.directory} --trial N)" if target == "retrained" else ""
        raise UserError(
            f"{study.directory}: finished trials {which}: got {len(rows)}, expected at least "
            f"{FEWEST}: of fewer there is no rank correlation{advice}"
        )
    ranks = np.column_stack([scaled(trials.metrics[name].tolist()) for name in measures])
    gap, unfit = trials.target("audit_gap_error"), trials.unfit + error.complement
    aim = gap[rows] if target == "gap" else scaled(truth[rows].tolist())
    return Ranked(
        task=task,
        study=study,
        ranks=ranks[rows],
        target=aim,
        truth=truth[rows],
        unfit=unfit[rows] if target == "gap" else np.zeros(len(rows)),
        validation={size: x[:, rows] for size, x in _validation(study, trials).items()},
    )


def _tested(study: Folder, trials: FinishedTrials) -> Array:
    """(n,) the test error after retraining on all data, NaN of trials that were not retrained."""
    found = {canonical(one.choice.config): one.mean(lambda run: run.error) for one in _runs(study)}
    tested = [found.get(canonical(config)) for config in trials.configs]
    return np.array(tested, dtype=np.float64)  # NaN for None


def _runs(study: Folder) -> Sequence[Retrained]:
    return [one for one in retrained(study) if one.runs]


def _validation(study: Folder, trials: FinishedTrials) -> dict[int, Array]:
    """The validation losses (sub-samples, n) with so many labels, as far as they can be told."""
    try:
        losses = np.stack(read_losses(study.directory, trials.numbers, study.history.id))
    except UserError:
        return _of_all(study, trials)  # nothing is kept of each sample
    images = losses.shape[1]
    return {
        size: np.stack(
            [
                losses[:, drawn].mean(axis=1, dtype=np.float64)
                for drawn in draws(images, size, SUBSAMPLES, 0)
            ]
        )
        for size in sorted({*(n for n in LABELS if n < images), images})
    }


def _of_all(study: Folder, trials: FinishedTrials) -> dict[int, Array]:
    """The validation loss as the trials have it, by the number of labels that the study says."""
    images, losses = validation_of(study), trials.metrics.get("val_loss")
    if not images or losses is None or not np.isfinite(losses).all():
        return {}
    return {images: losses[np.newaxis]}
