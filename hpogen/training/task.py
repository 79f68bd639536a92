"""The task `image-classification`: its settings, and the training that they lead to.

The spec loads it and the executors carry it to the workers: so torch is imported only where it
trains, or asks what a model can give. The training itself begins in `loop.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.tasks.base import Epoch
from hpogen.training.forms.dataset import SIZES, Dataset
from hpogen.training.forms.measures import all_measures
from hpogen.training.forms.task import Settings
from hpogen.trial import RunningTrial


@dataclass(frozen=True)
class Images:
    """The cargo: the data set, as the driver has loaded it."""

    dataset: Dataset

    def load(self) -> Any:
        from hpogen.training.data import load

        return load(self.dataset)

    def give(self, loaded: Any) -> None:
        from hpogen.training.data import give

        give(self.dataset, loaded)


class ImageClassification(Settings):
    """Implements `hpogen.tasks.base.Task`."""

    @property
    def cargo(self) -> Images:
        return Images(self.dataset)

    @model_validator(mode="after")
    def _is_defined(self) -> ImageClassification:
        for listed in self.measures:
            self._refuse_undefined(listed.measure, f"the measure {listed.name!r}")
        return self

    @plugins.scoped
    def check(self, wanted: frozenset[str]) -> None:
        for measure in all_measures():
            for metric in sorted(wanted & set(measure.metrics)):
                self._refuse_undefined(measure, f"the metric {metric!r}")

    def _refuse_undefined(self, measure: plugins.Measure, what: str) -> None:
        """Ask the measure what it thinks of the model; of ours each has a last Linear."""
        given = {plugins.LAST_LINEAR} if plugins.models.is_builtin(self.model.name) else set()
        needs = [need for need in measure.requirements if need not in given]
        if not needs or self.dataset.name not in SIZES:
            return
        from hpogen.training.models.build import refusal

        _, shape, classes = SIZES[self.dataset.name]
        for need in map(plugins.resolved, needs):
            if reason := refusal(self.model.name, self.model.options(), shape, classes, need):
                raise Refusal(f"{what} is not defined for the model {self.model.name!r}: {reason}")

    def prepare(self, data: float | None = None) -> int:
        loaded = self.cargo.load()
        total = len(loaded.train)
        if data is None:
            return self.dataset.counts(total)[0]
        from hpogen.training.data.splits import part

        try:
            self.dataset.samples_of(total, loaded.classes, data)
            return len(part(self.dataset, loaded.strata, data))
        except ValueError as error:
            raise UserError(str(error)) from None

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        from hpogen.training.loop import train

        yield from train(self, trial, wanted)

    @plugins.scoped
    def measure(
        self, trial: RunningTrial, wanted: frozenset[str], names: Collection[str]
    ) -> plugins.Measured | None:
        from hpogen.training.remeasure import check_addable, remeasure

        check_addable(names)
        self.check(frozenset(m for name in names for m in plugins.measures.get(name).metrics))
        return remeasure(self, trial, wanted, names)

    def discard(self, trial: RunningTrial) -> None:
        from hpogen.training.checkpoint import discard

        discard(trial)
