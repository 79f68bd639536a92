"""Image classification as a task: the YAML's `task:` mapping, checked without torch.

`ImageClassification` is what the spec loads and the executors carry to the workers; the training
itself begins in `loop.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.task import Epoch, Threads
from hpogen.training.dataset import SIZES, Dataset, check_batch_sizes
from hpogen.training.hyperparameters import Hyperparameters, OptimizerName, check_value
from hpogen.training.listed import (
    LOSSES,
    VALIDATION,
    ListedMeasure,
    all_measures,
    check_metrics,
)
from hpogen.training.network import Model
from hpogen.training.options import STRICT, named
from hpogen.training.schedule import Schedule
from hpogen.trial import RunningTrial, Value

Precision = Literal["fp32", "tf32", "bf16"]


class ImageClassification(BaseModel):
    """The task `image-classification`; implements `hpogen.task.Task`."""

    model_config = STRICT

    name: Literal["image-classification"] = "image-classification"
    dataset: Annotated[Dataset, BeforeValidator(named)]
    model: Annotated[Model, BeforeValidator(named)]
    epochs: Annotated[int, Field(ge=1)]
    optimizer: OptimizerName = "sgd"  # unless the search space has it
    schedule: Annotated[Schedule, BeforeValidator(named)] = Schedule()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # unless the search space has it
    measures: Annotated[
        tuple[Annotated[ListedMeasure, BeforeValidator(named)], ...], Field(strict=False)
    ] = ()
    threads: Threads = 1  # torch's; part of the study: it changes last bits
    deterministic: bool = False  # on a GPU: only kernels that repeat bit for bit
    precision: Precision = "fp32"
    cuda_graphs: bool = True  # on a GPU: a training step is one launch
    compile: bool = False  # by torch.compile: tens of seconds per batch size, before it pays

    keeps_at_urls: ClassVar[bool] = True  # its checkpoints, by `hpogen.stores`

    @field_validator("measures")
    @classmethod
    def _once_each(cls, measures: tuple[ListedMeasure, ...]) -> tuple[ListedMeasure, ...]:
        names = [measure.name for measure in measures]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"measure {twice[0]!r} is listed twice")
        return measures

    @model_validator(mode="after")
    def _fits(self) -> ImageClassification:
        check_metrics()
        if self.dataset.name in SIZES:
            _, shape, classes = SIZES[self.dataset.name]
            self.model.check_images(shape, classes, self.dataset.name)
        for listed in self.measures:
            self._refuse_undefined(listed.measure, f"the measure {listed.name!r}")
        return self

    def check(self, wanted: frozenset[str]) -> None:
        """Raise Refusal, naming the model, when it cannot give one of the metrics wanted."""
        for measure in all_measures():
            for metric in sorted(wanted & set(measure.metrics)):
                self._refuse_undefined(measure, f"the metric {metric!r}")

    def _refuse_undefined(self, measure: plugins.Measure, what: str) -> None:
        """Ask the measure what it thinks of the model; of ours each has a last Linear."""
        needs, ours = measure.requirement, plugins.models.is_builtin(self.model.name)
        if not needs or self.dataset.name not in SIZES or (ours and needs == plugins.LAST_LINEAR):
            return
        from hpogen.training.build import refusal

        _, shape, classes = SIZES[self.dataset.name]
        requirement = plugins.imported(needs)
        reason = refusal(self.model.name, self.model.options(), shape, classes, requirement)
        if reason:
            raise Refusal(f"{what} is not defined for the model {self.model.name!r}: {reason}")

    @property
    def keeps_losses(self) -> bool:
        """Whether each validation sample's loss stands beside a trial's curve: of the same ones."""
        return not self.dataset.redraws

    @property
    def resumable(self) -> bool:
        return True

    def metrics(self) -> frozenset[str]:
        return self._own().union(*(measure.metrics for measure in all_measures()))

    def _own(self) -> frozenset[str]:
        return LOSSES | VALIDATION if self.dataset.validates else LOSSES

    def gives(self, wanted: frozenset[str]) -> frozenset[str]:
        return wanted | self._own().union(*(listed.measure.metrics for listed in self.measures))

    def sums(self) -> frozenset[str]:
        return frozenset().union(*(measure.sums for measure in all_measures()))

    def parameters(self) -> frozenset[str]:
        """Those of training, and the options of the model."""
        return frozenset(Hyperparameters.model_fields) | self.model.searchable()

    def required(self) -> frozenset[str]:
        fields = Hyperparameters.model_fields.items()
        return frozenset(name for name, field in fields if field.is_required())

    def check_value(self, name: str, value: Value) -> None:
        """Raise ValueError for a value that the hyper-parameter cannot have."""
        self.dataset.check_searched(name)
        if name in self.model.searchable():
            sizes = SIZES.get(self.dataset.name)
            self.model.check_value(name, value, sizes[1:] if sizes else None)
        else:
            check_value(name, value)

    def check_range(self, name: str, values: Collection[Value]) -> str | None:
        """A warning about the ends of a range, or the choices, of a hyper-parameter; else None.

        Raises ValueError when none of them makes sense. What depends on the data set is known for
        the built-in ones, and for the others once it is loaded.
        """
        size = self.dataset.subset_size() if name == "batch_size" else None
        return check_batch_sizes([int(value) for value in values], size) if size else None

    def prepare(self) -> None:
        from hpogen.training.data import load

        load(self.dataset)

    def missing(self) -> str | None:
        """What is not on disk and would be downloaded first, by a glance at the folder."""
        return self.dataset.missing()

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        from hpogen.training.loop import train

        yield from train(self, trial, wanted)

    def measure(
        self, trial: RunningTrial, wanted: frozenset[str], names: Collection[str]
    ) -> plugins.Measured | None:
        """Measures on the trial's kept final weights; None where there are none.

        Raises Refusal for a measure that weights alone do not tell, or that the model cannot give.
        """
        from hpogen.training.remeasure import check_addable, remeasure

        check_addable(names)
        self.check(frozenset(m for name in names for m in plugins.measures.get(name).metrics))
        return remeasure(self, trial, wanted, names)

    def discard(self, trial: RunningTrial) -> None:
        from hpogen.training.checkpoint import discard

        discard(trial)

    def record(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
