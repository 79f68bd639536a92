"""Which metrics a trial gives and so which passes its epochs run: no pass that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpogen import plugins
from hpogen.training.forms.task import Settings

FROM_TRAIN_PASS = frozenset({"train_loss", "train_accuracy", "gap_loss", "gap_accuracy"})


@dataclass(frozen=True)
class PlannedMeasure:
    """A measure, computed every `every` epochs on `samples` images (None: all)."""

    measure: plugins.Measure
    every: int | Literal["iteration"] = 1
    samples: int | None = None

    def due(self, epoch: int, last: bool) -> bool:
        """Whether it is computed at the end of the epoch."""
        if self.every == "iteration":
            return False
        return last or (not self.measure.final and epoch % self.every == 0)


@dataclass(frozen=True)
class Plan:
    """`names` are the metrics that the study wants; `measures` its listed ones, and theirs.

    At a budget's last epoch the training and validation losses are always there.
    """

    names: frozenset[str]
    measures: tuple[PlannedMeasure, ...]
    from_training: frozenset[str] = FROM_TRAIN_PASS  # the metrics that need a pass over the subset
    from_validation: frozenset[str] = plugins.FROM_VALIDATION  # and over validation
    patient: bool = False  # a trial may end by its validation loss

    @property
    def online(self) -> bool:
        """Whether the training steps look at the last layer."""
        return any(m.measure.of == "step" and m.measure.needs for m in self.measures)

    @property
    def iterated(self) -> list[PlannedMeasure]:
        """What is computed before each training step."""
        return [planned for planned in self.measures if planned.every == "iteration"]

    @property
    def running(self) -> frozenset[str]:
        """The metrics that are summed or averaged over the epochs."""
        return frozenset().union(*(m.measure.sums | m.measure.means for m in self.measures))

    @property
    def means(self) -> frozenset[str]:
        return frozenset().union(*(planned.measure.means for planned in self.measures))

    def due(self, of: str, epoch: int, last: bool) -> list[PlannedMeasure]:
        """The measures of a kind that are computed at the end of this epoch."""
        return [m for m in self.measures if m.measure.of == of and m.due(epoch, last)]

    def train_pass(self, last: bool) -> bool:
        return last or bool(self.names & self.from_training)

    def validation_pass(self, last: bool) -> bool:
        return last or self.patient or bool(self.names & self.from_validation)


def make_plan(settings: Settings, wanted: frozenset[str]) -> Plan:
    """What to compute: the listed measures, and those whose metrics are wanted."""
    listed = {measure.name: measure for measure in settings.measures}
    planned = []
    for measure in plugins.measures.parts():
        if (asked := listed.get(measure.name)) is not None:
            planned.append(PlannedMeasure(measure, asked.period, asked.samples))
        elif wanted & set(measure.metrics):
            planned.append(PlannedMeasure(measure))
    return Plan(
        wanted,
        tuple(planned),
        FROM_TRAIN_PASS | settings.from_training(),
        plugins.FROM_VALIDATION | settings.from_validation(),
        settings.patience is not None,
    )
