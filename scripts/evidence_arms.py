"""The arms of the evidence: what each chooses among the trials of a search, with so many labels.

`evidence.py` asks. Nothing here reads a test figure but the oracles, which say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from evidence_trials import COUNT, EQUAL, TRIALS
from numpy.typing import NDArray
from scipy import stats

from hpogen.objective import LOG_FLOOR, Objective, Term
from hpogen.selection import SELECTIONS, Evidence, SelectionName, gather
from hpogen.selection.choosing import candidates
from hpogen.selection.evidence import HITS, Losses, read_losses, thinned
from hpogen.selection.stability import worse
from hpogen.study.read import Folder
from hpogen.trial import Config, canonical

QUARTER, FIRST = 0.25, 8  # `auto`: AGN's part of the loss's spread, over so many first trials
Figures = Callable[[Evidence], Sequence[float]]  # of each trial; the least is chosen


def _scored(*terms: tuple[str, float, str]) -> Figures:
    """An objective's scores."""
    sums = frozenset({"agn"})
    made = Objective(tuple(Term(m, w, s) for m, w, s in terms), "", sums)  # type: ignore[arg-type]
    return lambda evidence: SELECTIONS["score"].figures(evidence, made)


def _selected(name: SelectionName) -> Figures:
    objective = Objective((Term("val_loss", 1.0),), "val")
    return lambda evidence: SELECTIONS[name].figures(evidence, objective)


def _knee(evidence: Evidence) -> Sequence[float]:
    """The knee of the Pareto front of validation loss and the logarithm of AGN per epoch."""
    terms = Term("val_loss", 1.0), Term("agn", 1.0, "log")
    made = Objective(terms, "", frozenset({"agn"}), pareto=True)
    return SELECTIONS["knee"].figures(evidence, made)


def _auto(loss: str) -> Figures:
    """α ln(AGN/epochs) + loss, α such that the first term spreads a quarter as far as the second.

    The spread is the median absolute deviation over the first trials that are finite.
    """

    def figures(evidence: Evidence) -> Sequence[float]:
        losses = np.array(evidence.metric(loss))
        agn = np.array(evidence.metric("agn")) / evidence.rung.epochs
        logs = np.log(np.maximum(agn, LOG_FLOOR))
        first = np.flatnonzero(np.isfinite(losses) & np.isfinite(logs))[:FIRST]
        spread, of_loss = _mad(logs[first]), _mad(losses[first])
        found: list[float] = (
            losses + QUARTER * (of_loss / spread if spread else 0) * logs
        ).tolist()
        return found

    return figures


def _mad(values: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


RULES: Mapping[str, Figures] = {
    "val": _scored(("val_loss", 1, "raw")),
    "val accuracy": _selected("val_accuracy"),
    "agn+val 0.1": _scored(("val_loss", 1, "raw"), ("agn", 0.1, "log")),
    "agn+val auto": _auto("val_loss"),
    "one_se_margin": _selected("one_se_margin"),
    "shrunk": _selected("shrunk"),
    "knee (added)": _knee,
}
"""Arms that see validation rows."""
BLIND: Mapping[str, Figures] = {
    "train": _scored(("train_loss", 1, "raw")),
    "agn+train 0.1": _scored(("train_loss", 1, "raw"), ("agn", 0.1, "log")),
    "agn+train auto": _auto("train_loss"),
}
"""Arms that see none: they are the same with any number of labels."""
LAST = ("val", "val accuracy", "agn+val 0.1", "agn+val auto")
"""Rules that rank a shorter search, whose best ones are trained again on more data."""
RACED = " + finalists"


@dataclass(frozen=True)
class Search:
    """The finished trials of one search, and the rows that are labelled for it."""

    keys: Sequence[str]  # canonical configurations, in the order of the trials
    configs: Mapping[str, Config]
    evidence: Evidence
    rows: NDArray[np.intp]
    audits: Sequence[float]  # test errors of the networks on the subset, for the oracle alone
    trials: Sequence[int]

    def ranked(self, figures: Figures, count: int) -> list[str]:
        """The first `count` trials of the search, best first; without those that cannot be had."""
        chosen = [i for i, trial in enumerate(self.trials) if trial < count]
        found = figures(self.evidence.only(chosen))
        order = sorted(range(len(chosen)), key=lambda i: found[i])
        return [self.keys[chosen[i]] for i in order if found[i] < math.inf]

    def losses(self, key: str) -> NDArray[np.floating]:
        found: NDArray[np.floating] = self.evidence.losses()[self.keys.index(key)]
        return found


def search(study: Folder, seed: int, labels: int | None) -> Search:
    """A study's search with so many labelled validation rows, drawn by the seed; None: all."""
    records = [r for r in candidates(study.history, study.spec.ladder[-1]) if r.outcome]
    ids = [record.trial.id for record in records]
    evidence = gather(study.history, records, study.spec.ladder[-1], study.directory)
    losses = evidence.losses()
    rows = np.random.default_rng(seed).permutation(losses.shape[1])[:labels]
    hits = np.stack(read_losses(study.directory, ids, study.history.id, HITS))
    keys = [canonical(record.trial.config) for record in records]
    configs = {key: r.trial.config for key, r in zip(keys, records, strict=True)}
    audits = [1 - r.outcome.audit["accuracy"] for r in records if r.outcome]
    seen = thinned(evidence, losses, rows, hits.astype(bool))
    return Search(keys, configs, seen, rows, audits, ids)


def finalists(found: Search, rule: str) -> list[str]:
    """The best of the shorter search."""
    return [*dict.fromkeys(found.ranked(RULES[rule], TRIALS))][:COUNT]


def winner(found: Search, few: Sequence[str], high: Mapping[str, Losses]) -> str:
    """The finalist with the least validation loss on more data.

    Out is one that failed there, or does worse than on the subset; the first where all are out.
    """
    left = [key for key in few if key in high]
    after = [high[key][None, found.rows] for key in left]
    risen = worse([found.losses(key) for key in left], after, TRIALS, 0.05)
    good = [key for key, out in zip(left, risen, strict=True) if not out]
    return min(good, key=lambda key: float(high[key][found.rows].mean()), default=few[0])


def chosen(found: Search, high: Mapping[str, Losses], last: Sequence[str] = LAST) -> dict[str, str]:
    """What each arm chooses: a canonical configuration. `last`: rules with finalists."""
    arms = {**RULES, **BLIND}
    answers = {arm: found.ranked(figures, EQUAL)[0] for arm, figures in arms.items()}
    answers |= {rule + RACED: winner(found, finalists(found, rule), high) for rule in last}
    answers["oracle (subset)"] = found.keys[int(np.argmin(found.audits))]
    return answers


def high_losses(study: Folder) -> dict[str, Losses]:
    """By configuration the loss on each validation row, (N,); none of a training that failed."""
    good = [record for record in study.history.told() if record.failure is None]
    kept = read_losses(study.directory, [r.trial.id for r in good], study.history.id)
    return {canonical(r.trial.config): own for r, own in zip(good, kept, strict=True)}


def warned(found: Search, measure: str) -> bool:
    """Whether a measure is not to be trusted, by what validation tells of this search.

    Its rank correlation with validation loss has not the same sign on all trials and on the
    better-fitted half, those with the smaller training losses.
    """
    loss, fit = (np.array(found.evidence.metric(name)) for name in ("val_loss", "train_loss"))
    values = np.array(found.evidence.metric(measure))
    half = np.argsort(fit, kind="stable")[: len(fit) // 2]
    signs = [np.sign(stats.kendalltau(values[p], loss[p]).statistic) for p in (..., half)]
    return not signs[0] == signs[1] != 0
