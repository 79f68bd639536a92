"""The ensemble of a study's trials, picked by validation, and what it is worth beside the answer.

`hpogen ensemble` calls it; `study/ensemble.py` has the file that comes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpogen.analysis.figure import AUDIT_HITS, Drawn, Figure, figure, out_of_bag, wilson
from hpogen.analysis.greedy import Labels, Pool, Shares, cross_entropy, greedy, wrong
from hpogen.analysis.statistics import LEVEL, Interval
from hpogen.errors import UserError
from hpogen.plugins import OWN_TASKS
from hpogen.record.history import Record
from hpogen.selection.evidence import kept_array
from hpogen.study import status
from hpogen.study.ensemble import Ensemble, Metric, has_weights
from hpogen.study.read import Folder
from hpogen.study.retrained import choice_of

VALIDATION = "val_probabilities.npy", "val_labels.npy"
AUDIT = "audit_probabilities.npy", "audit_labels.npy"
SIZE = 5  # picks


@dataclass(frozen=True)
class Compared:
    """The ensemble's error minus another's, and whether that may be luck.

    By audit the other is the answer; `alone` are the samples that only the ensemble, and only the
    answer, is right on, and `p` is McNemar's exact one: the binomial one of those (McNemar 1947).
    By validation the other is the trial that the same samples choose, and all of it is repeated in
    bootstrap samples, judged on those outside.
    """

    difference: float
    alone: tuple[int, int] | None = None
    p: float | None = None
    interval: Interval | None = None

    @property
    def better(self) -> bool | None:
        """None: the two cannot be told apart."""
        if self.interval is not None:
            told = not self.interval.low <= 0 <= self.interval.high
        else:
            told = self.p is not None and self.p < 1 - LEVEL
        return self.difference < 0 if told else None


@dataclass(frozen=True)
class Worth:
    """What a network, or an ensemble, is worth. Losses are mean cross-entropies, None: not known.

    A text instead of a figure says why there is none.
    """

    validation_loss: float | None
    validation_error: float | None
    audit_loss: float | None
    figure: Figure | str


@dataclass(frozen=True)
class Found:
    """An ensemble of a study's trials.

    `picks` has the number of times of each trial, the most first; `path` each pick's trial with the
    validation figure by `metric` after it; `single` the trial that is best alone by that. There
    were `candidates`; `left_out` have no probabilities. `answer` is the trial of its network.
    """

    metric: Metric
    size: int
    picks: Mapping[int, int]
    path: tuple[tuple[int, float], ...]
    single: tuple[int, float]
    candidates: int
    left_out: tuple[int, ...]
    worth: Worth
    answer: int
    answers: Worth
    compared: Compared

    @property
    def audited(self) -> bool:
        """Whether audit has judged it."""
        return self.compared.alone is not None

    @property
    def weights(self) -> dict[int, float]:
        """The share of each trial, which add up to 1."""
        return {trial: count / len(self.path) for trial, count in self.picks.items()}


def select(
    study: Folder, size: int = SIZE, metric: Metric = "loss", *, only_kept: bool = False
) -> Found:
    """The ensemble of a study's finished trials of the highest rung, and of its finalists' runs.

    It is picked by validation alone, then judged by audit, where there is any. `only_kept`: of
    trials whose weights are there. Raises UserError where there is nothing to pick from.
    """
    if size < 1:
        raise UserError(f"--size: got {size}, expected 1 or more")
    check_task(study)
    answer = study.history.records[status.network_of(study)]
    tables, left_out = _tables(study, _rivals(study, only_kept))
    numbers = [*tables]
    labels = kept_array(study.directory, numbers[0], VALIDATION[1], study.history.id)
    pool = Pool([*tables.values()], labels, metric)
    path = greedy(pool, size)
    alone = pool.after(()).mean(axis=1, dtype=np.float64)
    best = int(alone.argmin())
    picks = Counter(numbers[pick] for pick, _ in path)
    worth, compared = _judged(study, pool, path, size, picks, answer)
    return Found(
        metric,
        size,
        dict(picks.most_common()),
        tuple((numbers[pick], value) for pick, value in path),
        (numbers[best], float(alone[best])),
        len(numbers),
        left_out,
        worth,
        answer.trial.id,
        _of_answer(study, answer),
        compared,
    )


def check_task(study: Folder) -> None:
    """Raises UserError for a study whose trials have kept no probabilities."""
    directory, task = study.directory, study.spec.record()["task"]
    if (parts := study.history.parts).number > 1:
        raise UserError(
            f"{directory}: a trial of {parts.number} {parts.word}s has no one network that an "
            "ensemble could have: give task.dataset.validation a number, in another study"
        )
    if task["name"] not in OWN_TASKS:
        raise UserError(
            f"{directory}: the task {task['name']!r} keeps no probabilities that hpogen knows of: "
            f"expected {' or '.join(map(repr, OWN_TASKS))}"
        )
    if error := task.get("error"):
        raise UserError(
            f"{directory}: its answers are judged by {error!r}, and an ensemble is by 1 - accuracy "
            "alone: leave error out, and run the study in another folder"
        )
    if task.get("keep") != "probabilities":
        raise UserError(
            f"{directory}: its trials have kept no probabilities, which an ensemble is picked by: "
            "set keep: probabilities under task, and run the study in another folder: hpogen run "
            "STUDY.yaml --set task.keep=probabilities --dir DIR"
        )


def _rivals(study: Folder, only_kept: bool) -> list[int]:
    """The trials that may be picked. Raises UserError for fewer than two."""
    again = (r for r in study.history.told() if r.repeat and r.failure is None and r.twin is None)
    found = [record.trial.id for record in (*study.finished, *again)]
    if len(found) < 2:
        raise UserError(
            f"{study.directory}: {len(found)} of its trials have finished: an ensemble takes 2 or "
            f"more: hpogen resume {study.directory} goes on"
        )
    kept = [trial for trial in found if has_weights(study, trial)] if only_kept else found
    if len(kept) < 2:
        raise UserError(
            f"{study.directory}: --kept: the weights of {len(kept)} of its trials are there, "
            "expected 2 or more: set checkpoints: {keep: best, top: 10}, or drop --kept"
        )
    return kept


def _tables(study: Folder, trials: Sequence[int]) -> tuple[dict[int, Shares], tuple[int, ...]]:
    """The validation probabilities by trial, and the trials that have none.

    Raises UserError for fewer than two, and for one of another shape than the first.
    """
    found: dict[int, Shares] = {}
    left_out, reason = [], ""
    for trial in trials:
        try:
            found[trial] = kept_array(study.directory, trial, VALIDATION[0], study.history.id)
        except UserError as error:
            left_out.append(trial)
            reason = reason or str(error)
    if len(found) < 2:
        raise UserError(
            f"{reason}: the probabilities on validation samples, of which {len(found)} of "
            f"{len(trials)} trials have any: expected task.dataset.validation above 0, and 2 trials"
        )
    shape = next(iter(found.values())).shape
    if shape[0] < 2:
        raise UserError(f"{study.directory}: got {shape[0]} validation sample, expected 2 or more")
    for trial, table in found.items():
        if table.shape != shape:
            raise UserError(
                f"{study.directory}: trial {trial} has probabilities of shape {table.shape}, "
                f"expected {shape}, as the trials before it have"
            )
    return found, tuple(left_out)


def _judged(
    study: Folder,
    pool: Pool,
    path: Iterable[tuple[int, float]],
    size: int,
    picks: Mapping[int, int],
    answer: Record,
) -> tuple[Worth, Compared]:
    places = tuple(pick for pick, _ in path)
    loss, error = pool.loss(places), float(pool.wrong(places).mean())
    if answer.outcome is not None and answer.outcome.audit:
        audit = mixture([(study, trial, n) for trial, n in picks.items()], AUDIT)
        compared = _against(study, answer, audit.wrong)
        share, n = float(audit.wrong.mean()), len(audit.wrong)
        worth = Figure("error", share, wilson(share, n), "audit", n, error)
        return Worth(loss, error, audit.loss, worth), compared
    worth, compared = _out_of_bag(pool, size, error)
    return Worth(loss, error, None, worth), compared


@dataclass(frozen=True)
class Mixture:
    """What an ensemble gets wrong of some samples: which ones, (M,), and the mean loss."""

    wrong: NDArray[np.bool_]
    loss: float


def mixture(members: Sequence[tuple[Folder, int, float]], names: tuple[str, str]) -> Mixture:
    """The ensemble of trials of studies, weighted, on the samples of kept files of those names.

    Raises UserError where one is missing.
    """
    tables, (shares, labelled) = [], names
    for study, trial, weight in members:
        table = kept_array(study.directory, trial, shares, study.history.id)
        tables.append(weight * table.astype(np.float64))
    first, trial, _ = members[0]
    labels: Labels = kept_array(first.directory, trial, labelled, first.history.id)
    mean = np.stack(tables).sum(axis=0) / sum(weight for _, _, weight in members)
    of_label = mean[np.arange(len(labels)), labels]
    return Mixture(wrong(mean, labels), float(cross_entropy(of_label).mean()))


def _against(study: Folder, answer: Record, misses: NDArray[np.bool_]) -> Compared:
    """McNemar's test against the answer."""
    hits = kept_array(study.directory, answer.trial.id, AUDIT_HITS, study.history.id).astype(bool)
    gained, lost = int((~misses & ~hits).sum()), int((misses & hits).sum())
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Compared((lost - gained) / len(misses), (gained, lost), p)


def _out_of_bag(pool: Pool, size: int, error: float) -> tuple[Figure, Compared]:
    """As `figure.bias_corrected`, with the ensemble picked anew in each bootstrap sample."""
    n = pool.samples

    def ensemble(drawn: Drawn) -> NDArray[np.bool_]:
        return pool.wrong(tuple(sorted(pick for pick, _ in greedy(pool, size, drawn))))

    def difference(drawn: Drawn) -> NDArray[Any]:
        single = int((pool.after(()) @ np.bincount(drawn, minlength=n)).argmin())
        return ensemble(drawn).astype(np.int8) - pool.wrong((single,))

    value, interval = out_of_bag(ensemble, n)
    clipped = interval and Interval(max(interval.low, 0.0), interval.high)
    gap, of_gap = out_of_bag(difference, n)
    return Figure("error", value, clipped, "validation", n, error), Compared(gap, interval=of_gap)


def _of_answer(study: Folder, answer: Record) -> Worth:
    outcome = answer.outcome
    metrics, audit = (outcome.metrics, outcome.audit) if outcome else ({}, {})
    accuracy = metrics.get("val_accuracy")
    error = None if accuracy is None else 1 - accuracy
    return Worth(metrics.get("val_loss"), error, audit.get("loss"), figure(study, answer))


def tested(study: Folder, ensemble: Ensemble) -> list[float]:
    """The test accuracy of the retrained ensemble, by seed.

    Of the seeds that all members' configurations have been trained with. Raises UserError where
    their test probabilities are missing.
    """
    weights: dict[str, float] = {}  # by the label of a retraining
    for member in ensemble.members:
        label = choice_of(study, member.trial).label
        weights[label] = weights.get(label, 0.0) + member.weight
    if not weights.keys() <= study.retrainings.keys():
        return []
    runs = {label: _by_seed(study.retrainings[label]) for label in weights}
    common = sorted(set.intersection(*(set(found) for found in runs.values())))
    found = []
    for seed in common:
        parts = [(study.retrainings[x], runs[x][seed], weight) for x, weight in weights.items()]
        found.append(1 - float(mixture(parts, AUDIT).wrong.mean()))
    return found


def _by_seed(study: Folder) -> dict[int, int]:
    """The finished trials by their replicate."""
    told = (record for record in study.history.told() if record.failure is None)
    return {record.trial.replicate: record.trial.id for record in told}
