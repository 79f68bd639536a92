"""The tasks `image-classification` and `supervised`: settings, and the training they lead to.

The spec loads it and the executors carry it to the workers: so torch is imported only where it
trains, or asks what a model can give. The training itself begins in `loop.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import PrivateAttr, model_validator

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.tasks.base import Epoch, check_patience
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.kinds import KINDS
from hpogen.training.forms.measures import all_measures
from hpogen.training.forms.supervised import SupervisedSettings
from hpogen.training.forms.task import Settings
from hpogen.training.forms.together import check_steps, check_together
from hpogen.trial import RunningTrial

log = logging.getLogger(__name__)

OF_INPUTS = frozenset({"margin_input", "path_norm"})  # measures that change inputs, or ask for 1


@dataclass(frozen=True)
class LoadedData:
    """The cargo: the data set, as the driver has loaded it."""

    dataset: Dataset

    def load(self) -> Any:
        from hpogen.training.data import load

        return load(self.dataset)

    def give(self, loaded: Any) -> None:
        from hpogen.training.data import give

        give(self.dataset, loaded)


class Trained(Settings):
    """Implements `hpogen.tasks.base.Task`."""

    _wanted: set[str] = PrivateAttr(default_factory=set)  # what `check` was asked for

    @property
    def cargo(self) -> LoadedData:
        return LoadedData(self.dataset)

    @model_validator(mode="after")
    def _is_defined(self) -> Trained:
        if self.together > 1:
            check_together(self)
        for listed in self.measures:
            check_steps(self.together, listed.measure)
            self._refuse_undefined(listed.measure, f"the measure {listed.name!r}")
        if self.dataset.kind is not None:
            self.check_kind(self.dataset.kind)
        if known := self.dataset.known:
            self.check_classes(KINDS[known.kind].classes(known.outputs))
        return self

    @plugins.scoped
    def check(self, wanted: frozenset[str]) -> None:
        self._wanted.update(wanted)
        check_patience(self.patience, wanted, self.sums())
        if self.dataset.kind is not None:
            self.check_kind(self.dataset.kind, wanted)
        self._refuse_metrics(wanted)

    def _refuse_metrics(self, wanted: Collection[str], loaded: Inputs | None = None) -> None:
        for measure in all_measures():
            for metric in sorted({*wanted} & {*measure.metrics}):
                check_steps(self.together, measure)
                self._refuse_undefined(measure, f"the metric {metric!r}", loaded)

    def _refuse_undefined(
        self, measure: plugins.Measure, what: str, loaded: Inputs | None = None
    ) -> None:
        """Ask the measure what it thinks of the model; of ours each has a last Linear.

        Of a data set that is not known before, once it is `loaded`, of such inputs.
        """
        given = {plugins.LAST_LINEAR} if plugins.models.is_builtin(self.model.name) else set()
        needs = [need for need in measure.requirements if need not in given]
        known = self.dataset.known
        inputs = loaded or (known and known.inputs)
        if not needs or inputs is None:
            return
        from hpogen.training.models.build import refusal

        for need in map(plugins.resolved, needs):
            if reason := refusal(self.model.name, self.model.options(), need, inputs):
                raise Refusal(f"{what} is not defined for the model {self.model.name!r}: {reason}")

    @plugins.scoped
    def facts(self) -> list[str]:
        if not self.dataset.quick or self.missing() is not None:
            return []
        from hpogen.training.data.summary import summary, unknown

        loaded = self.cargo.load()
        self.check_kind(loaded.target, frozenset(self._wanted))
        return [*summary(self.dataset, loaded), *unknown(self.dataset, loaded)]

    @plugins.scoped
    def prepare(self, data: float | None = None) -> int:
        loaded = self.cargo.load()
        self.check_kind(loaded.target, frozenset(self._wanted))
        self.check_classes(loaded.classes)
        if self.dataset.transforms:
            from hpogen.training.transforms import Transforms

            Transforms(self.dataset.transforms, loaded.in_shape)
        if isinstance(loaded.in_shape, Mapping):
            self._refuse_named()
        elif self.dataset.known is None:
            self._check_loaded(loaded)
        if self.weights is not None and not isinstance(loaded.in_shape, Mapping):
            self._try_weights(self.weights, loaded)  # of a table a trial's subset tells the sizes
        if data is None and not loaded.images:
            self._say(loaded)
        total = len(loaded.train)
        if data is None:
            return self.dataset.trained(total)
        from hpogen.training.data.splits import part

        try:
            self.dataset.samples_of(total, loaded.classes, data)
            return len(part(self.dataset, loaded.strata, data, loaded.division))
        except ValueError as error:
            raise UserError(str(error)) from None

    def _say(self, loaded: Any) -> None:
        from hpogen.training.data.summary import summary, unknown

        for level, say in ((logging.INFO, summary), (logging.WARNING, unknown)):
            for line in say(self.dataset, loaded):
                log.log(level, "data set %r: %s", self.dataset.name, line)

    def _check_loaded(self, data: Any) -> None:
        """Raise UserError where model or measures do not take inputs and targets of that kind."""
        from hpogen.training.models.build import unfit

        inputs = data.model_inputs
        own = not plugins.models.is_plugin(self.model.name)
        if own and (reason := unfit(self.model.name, self.model.options(), inputs)):
            raise UserError(f"data set {self.dataset.name!r}: {reason}")
        for listed in self.measures:
            self._refuse_undefined(listed.measure, f"the measure {listed.name!r}", inputs)
        self._refuse_metrics(self._wanted, inputs)

    def _try_weights(self, path: str, loaded: Any) -> None:
        """Raise UserError where the file does not fit the model as the task has it."""
        import torch

        from hpogen.training.models.build import build
        from hpogen.training.pretrained import fill

        with torch.random.fork_rng(devices=[]):
            model = build(self.model.name, self.model.options(), loaded.model_inputs)
        if kept := fill(model, path):
            log.warning("weights=%s head=new: of other classes there: %s", path, ", ".join(kept))

    def _refuse_named(self) -> None:
        """Refuse measures that take inputs for numbers: categories are none."""
        for measure in all_measures():
            listed = any(measure.name == one.name for one in self.measures)
            if measure.name in OF_INPUTS and (listed or self._wanted & set(measure.metrics)):
                raise Refusal(
                    f"the measure {measure.name!r} is of inputs that are numbers, and those of the "
                    f"data set {self.dataset.name!r} are named"
                )

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


class ImageClassification(Trained):
    """Classes of images, by cross-entropy."""

    name: Literal["image-classification"] = plugins.DEFAULT_TASK


class Supervised(SupervisedSettings, Trained):
    """Any inputs and targets, by a loss that fits them."""

    name: Literal["supervised"]
    """The task itself."""
