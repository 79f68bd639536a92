"""What a rule chooses among a study's finished trials, and what that is worth by the audit.

`rescoring.py` and `fewer_labels.py` ask. Rules see metrics and validation losses, never the audit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hpogen.analysis.truth import held_out, truth_of
from hpogen.errors import UserError
from hpogen.objective import Location, Objective
from hpogen.selection import SELECTIONS, Evidence, SelectionName, gather
from hpogen.selection.evidence import Losses, read_losses
from hpogen.study.read import Folder
from hpogen.study.standing import nearest


@dataclass(frozen=True)
class Rule:
    """What chooses: an objective by its score, or a selection that may leave it aside.

    `scored` gives the scores of all trials from their metrics, where no sum of terms does.
    """

    label: str
    objective: Objective
    selection: SelectionName
    scored: Callable[[Sequence[Mapping[str, float]]], list[float]] | None = None


@dataclass(frozen=True)
class Choice:
    """What a rule chooses, and what that is worth. Both figures are None where there is none."""

    rule: str
    trial: int | None
    val_loss: float | None
    held_out: float | None  # audit error or loss, see `Rescoring.judged_by`


class Trials:
    """The finished trials that are chosen among: what may be looked at, and what judges."""

    def __init__(self, study: Folder) -> None:
        past = study.history
        self.study = study
        self.rung = study.spec.ladder[-1]
        self.records = study.finished
        self.after = study.spec.objective.standard_after
        if not self.records:
            none = "no trial has finished at the largest budget"
            why = nearest(past, self.rung) or none
            raise UserError(f"{study.directory}: {why}: nothing to choose from")
        self.evidence = gather(past, self.records, self.rung, study.directory)
        self.losses: Callable[[], Losses] = lru_cache(self.evidence.losses)
        self.evidence = replace(self.evidence, losses=self.losses)
        truth = truth_of([study])
        known = all(held_out(record, truth) is not None for record in self.records)
        self.truth = truth if known else None

    def validation_images(self) -> int | None:
        """Of how many the losses are kept; None where they are not."""
        try:
            first = [self.records[0].trial.id]
            return len(read_losses(self.study.directory, first, self.study.history.id)[0])
        except UserError:
            return None

    def held_out(self, i: int) -> float | None:
        return held_out(self.records[i], self.truth)

    def chosen(self, rule: Rule, evidence: Evidence | None = None) -> int | None:
        """The number among the records that the rule chooses."""
        if rule.scored is not None:
            return int(np.argmin(rule.scored((evidence or self.evidence).metrics)))
        locations = self.locations(rule.objective)
        evidence = replace(evidence or self.evidence, locations=locations)
        return SELECTIONS[rule.selection].choose(evidence, rule.objective)

    def locations(self, objective: Objective) -> Mapping[str, Location]:
        """The frozen scales: the study's own, else of its first finished trials."""
        own = self.evidence.locations
        first = objective.locations(self.evidence.metrics[: self.after], *self.rung)
        return {name: own.get(name, found) for name, found in first.items()}

    def choice(self, rule: Rule) -> Choice:
        return self.named(rule.label, self.chosen(rule))

    def named(self, label: str, i: int | None) -> Choice:
        if i is None:
            return Choice(label, None, None, None)
        loss = self.evidence.metrics[i].get("val_loss")
        return Choice(label, self.records[i].trial.id, loss, self.held_out(i))

    def oracle(self) -> Choice | None:
        if self.truth is None:
            return None
        truths = [self.held_out(i) for i in range(len(self.records))]
        known = [math.inf if truth is None else truth for truth in truths]
        return self.named(f"oracle (least {self.truth.on('audit')})", int(np.argmin(known)))
