"""Optuna's pruners, beside the values of the trials that they have seen.

`study/pruning.py` asks while trials run, `analysis/pruning.py` of trials that are there.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import (
    BasePruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState


class Pruner:
    """A rule that says which trials to end, by a value per step; lower is better.

    State depends on the sequence of calls alone. `rule` is `median`, `percentile`, `asha` or
    `wilcoxon`, `options` are those of Optuna's class; `patience` puts its `PatientPruner` around.
    `after` is the first step at which a trial may end.
    """

    def __init__(self, rule: str, after: int, options: Mapping[str, Any]) -> None:
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self._asks_often = rule == "asha"  # what a trial has at a rung, it remembers when asked
        sampler = optuna.samplers.RandomSampler(seed=0)  # nothing is drawn
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner = _made(rule, after, options)
        self._study = optuna.create_study(sampler=sampler, pruner=pruner)
        self._trials: dict[int, optuna.trial.Trial] = {}  # that have not ended
        self._steps: dict[int, set[int]] = {}  # those of each that it has
        self.finished = 0  # trials that others are compared with

    def report(self, trial: int, values: Mapping[int, float]) -> bool:
        """Take the values of further steps of a running trial; whether to end it at the last.

        Steps that it has are passed over; without a new one the answer is no.
        """
        steps = sorted(values.keys() - self._steps.get(trial, set()))
        if not steps:
            return False
        if trial not in self._trials:
            self._trials[trial] = self._study.ask()
        self._steps.setdefault(trial, set()).update(steps)
        known = self._trials[trial]
        for step in steps:
            known.report(values[step], step)
            if self._asks_often and step != steps[-1]:
                known.should_prune()
        return known.should_prune()

    def end(self, trial: int, score: float | None) -> None:
        """The trial has finished with that score; None: it was pruned, or has failed."""
        self._steps.pop(trial, None)
        known = self._trials.pop(trial, None)
        self.finished += score is not None
        if known is None and score is not None:
            known = self._study.ask()
        if known is not None:
            state = TrialState.FAIL if score is None else TrialState.COMPLETE
            self._study.tell(known, score, state=state)


def _made(rule: str, after: int, options: Mapping[str, Any]) -> BasePruner:
    own = {key: x for key, x in options.items() if key not in ("patience", "min_delta")}
    made: BasePruner
    if rule == "median":
        made = MedianPruner(n_warmup_steps=after, **own)
    elif rule == "percentile":
        made = PercentilePruner(n_warmup_steps=after, **own)
    elif rule == "asha":
        made = SuccessiveHalvingPruner(min_resource=after, **own)
    else:
        made = WilcoxonPruner(**own)
    if "patience" in options:
        made = PatientPruner(made, options["patience"], options["min_delta"])
    return made
