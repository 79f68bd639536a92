"""Which metrics a trial gives and so which passes its epochs run: no pass that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass

from hpogen import plugins
from hpogen.training.settings import ImageClassification

FROM_TRAIN_PASS = frozenset({"train_loss", "train_accuracy", "gap_loss", "gap_accuracy"})
FROM_VALIDATION = frozenset({"val_loss", "val_accuracy", "gap_loss", "gap_accuracy"})
AGN = frozenset({"agn", "agn_mean", "agn_last"})


@dataclass(frozen=True)
class PlannedMeasure:
    """A plug-in measure, computed every `every` epochs on `samples` images (None: all)."""

    measure: plugins.Measure
    every: int = 1
    samples: int | None = None

    def due(self, epoch: int, last: bool) -> bool:
        return last or (not self.measure.final and epoch % self.every == 0)


@dataclass(frozen=True)
class Plan:
    """`names` are the metrics asked for: those the study wants and those of its measures.

    At a budget's last epoch the training and validation losses are always there.
    """

    names: frozenset[str]
    measures: tuple[PlannedMeasure, ...]

    @property
    def agn(self) -> bool:
        return bool(self.names & AGN)

    @property
    def online(self) -> bool:
        return "agn_online" in self.names

    @property
    def sums(self) -> frozenset[str]:
        """The metrics that are summed over the epochs."""
        plugged = (planned.measure.sums for planned in self.measures)
        own = {name for name, kept in (("agn", self.agn), ("agn_online", self.online)) if kept}
        return frozenset(own).union(*plugged)

    def due(self, of: str, epoch: int, last: bool) -> list[PlannedMeasure]:
        """The plug-in measures of a kind that this epoch computes."""
        return [m for m in self.measures if m.measure.of == of and m.due(epoch, last)]

    def head_pass(self, epoch: int, last: bool) -> bool:
        return self.agn or bool(self.due("head", epoch, last))

    def train_pass(self, epoch: int, last: bool) -> bool:
        return last or bool(self.names & FROM_TRAIN_PASS) or self.head_pass(epoch, last)

    def validation_pass(self, last: bool) -> bool:
        return last or bool(self.names & FROM_VALIDATION)


def make_plan(settings: ImageClassification, wanted: frozenset[str]) -> Plan:
    """What to compute: the listed measures, and those whose metrics are wanted."""
    listed = {measure.name: measure for measure in settings.measures}
    planned = []
    for name in plugins.measures.names():
        measure = plugins.measures.get(name)
        if name in listed:
            planned.append(PlannedMeasure(measure, listed[name].every, listed[name].samples))
        elif wanted & set(measure.metrics):
            planned.append(PlannedMeasure(measure))
    return Plan(wanted | listed.keys(), tuple(planned))
