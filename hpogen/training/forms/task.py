"""Image classification as the YAML's `task:` mapping says it, checked without torch.

`training/task.py` makes the task of it, and all that trains reads its settings here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hpogen import plugins
from hpogen.tasks.base import Threads
from hpogen.tasks.keys import Meaning
from hpogen.training.forms.dataset import SIZES, Dataset, check_batch_sizes
from hpogen.training.forms.hyperparameters import Hyperparameters, OptimizerName, check_value
from hpogen.training.forms.kinds import Kind
from hpogen.training.forms.measures import LOSSES, ListedMeasure, all_measures, check_metrics
from hpogen.training.forms.model import Model
from hpogen.training.forms.options import Part, named
from hpogen.training.forms.schedule import Schedule
from hpogen.training.models.catalog import MODELS
from hpogen.trial import Value

Precision = Literal["fp32", "tf32", "bf16"]
FLOAT16, INT32 = 2, 4  # bytes


class Settings(Part):
    """What image classification trains, and how."""

    name: Literal["image-classification"] = plugins.DEFAULT_TASK
    """The task itself; it is the default one, and need not be named."""
    dataset: Annotated[Dataset, BeforeValidator(named)]
    """Which images, and how they are split; a bare string is the name."""
    model: Annotated[Model, BeforeValidator(named)]
    """Which network; a bare string is the name, its options stand beside it."""
    epochs: Annotated[int, Field(ge=1)]
    """The full budget: how often a trial goes through the subset. With rungs, the highest one."""
    optimizer: OptimizerName = "sgd"
    """Which rule takes a step, unless the search space has it."""
    schedule: Annotated[Schedule, BeforeValidator(named)] = Schedule()
    """The learning rate over the epochs; a bare string is the name."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the target that is spread over all classes, unless the search space has it."""
    measures: Annotated[
        tuple[Annotated[ListedMeasure, BeforeValidator(named)], ...],
        Field(strict=False),
        Meaning.OBSERVED,
    ] = ()
    """Those of `hpogen list measures` to compute beside what the objective wants."""
    keep: Annotated[Literal["probabilities"] | None, Meaning.OBSERVED] = None
    """`probabilities`: those of each trial on validation and audit are kept, for ensembles."""
    threads: Threads = 1
    """torch's threads, and the CPUs that a worker reserves; it changes last bits."""
    deterministic: Annotated[bool, Meaning.SPEED] = False
    """On a GPU: only kernels that repeat bit for bit; slower."""
    precision: Precision = "fp32"
    """Of matrix products and convolutions: IEEE float32, TF32, or bfloat16 by autocast."""
    cuda_graphs: Annotated[bool, Meaning.SPEED] = True
    """On a GPU: whether a training step is captured, and then is one launch."""
    compile: Annotated[bool, Meaning.SPEED] = False
    """Whether torch.compile makes the step: tens of seconds per batch size, then it pays."""

    resumable: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    keeps_at_urls: ClassVar[bool] = True  # its checkpoints, by `record/stores.py`
    one_gpu: ClassVar[bool] = True

    @field_validator("measures")
    @classmethod
    def _once_each(cls, measures: tuple[ListedMeasure, ...]) -> tuple[ListedMeasure, ...]:
        names = [measure.name for measure in measures]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"measure {twice[0]!r} is listed twice")
        return measures

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        check_metrics()
        if self.keep and self.dataset.redraws:
            raise ValueError(
                f"keep: {self.keep}: validation.redraw gives each configuration validation images "
                "of its own, so that no two can be added: drop one of the keys"
            )
        if self.dataset.name in SIZES:
            _, shape, classes = SIZES[self.dataset.name]
            self.model.check_images(shape, classes, self.dataset.name)
        return self

    def loss_for(self, kind: Kind) -> str:
        """The loss, by its name, for targets of that kind: theirs, as none is declared."""
        return kind.losses[0]

    @property
    def subset(self) -> float:
        return self.dataset.subset

    @property
    def keeps_losses(self) -> bool:
        """Whether each validation sample's loss stands beside a trial's curve: of the same ones."""
        return not self.dataset.redraws

    @staticmethod
    def elsewhere(task: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Where words belong that are no keys of the mapping `task`, which may be wrong."""
        model = named(task.get("model"))
        name = model.get("name") if isinstance(model, Mapping) else None
        options = MODELS[name].options if isinstance(name, str) and name in MODELS else ()
        return [
            *(("search_space", name) for name in Hyperparameters.model_fields),
            *((*path, name) for name in options for path in (("task", "model"), ("search_space",))),
        ]

    @staticmethod
    def every_metric() -> frozenset[str]:
        """Those of any data set, and of all measures."""
        return (LOSSES | plugins.FROM_VALIDATION).union(
            *(measure.metrics for measure in all_measures())
        )

    @plugins.scoped
    def metrics(self) -> frozenset[str]:
        return self._own().union(*(measure.metrics for measure in all_measures()))

    def _own(self) -> frozenset[str]:
        return LOSSES | plugins.FROM_VALIDATION if self.dataset.validates else LOSSES

    def gives(self, wanted: frozenset[str]) -> frozenset[str]:
        return wanted | self._own().union(*(listed.measure.metrics for listed in self.measures))

    @plugins.scoped
    def sums(self) -> frozenset[str]:
        return frozenset().union(*(measure.sums for measure in all_measures()))

    @plugins.scoped
    def step_sums(self) -> frozenset[str]:
        at_steps = {listed.name for listed in self.measures if listed.period == "iteration"}
        found = (m.sums for m in all_measures() if m.per_step or m.name in at_steps)
        return frozenset().union(*found)

    @plugins.scoped
    def by_samples(self) -> frozenset[str]:
        return frozenset().union(*(measure.by_samples for measure in all_measures()))

    def parameters(self) -> frozenset[str]:
        """Those of training, and the options of the model."""
        return frozenset(Hyperparameters.model_fields) | self.model.searchable()

    def required(self) -> frozenset[str]:
        fields = Hyperparameters.model_fields.items()
        return frozenset(name for name, field in fields if field.is_required())

    def check_value(self, name: str, value: Value) -> None:
        self.dataset.check_searched(name)
        if name in self.model.searchable():
            sizes = SIZES.get(self.dataset.name)
            self.model.check_value(name, value, sizes[1:] if sizes else None)
        else:
            check_value(name, value)

    def check_range(
        self, name: str, values: Collection[Value], samples: int | None = None
    ) -> str | None:
        size = samples or self.dataset.subset_size()  # of a built-in data set it is known before
        if name != "batch_size" or size is None:
            return None
        return check_batch_sizes([int(value) for value in values], size)

    @plugins.scoped
    def weights_bytes(self, values: Mapping[str, Sequence[Value]]) -> int | None:
        if self.dataset.name not in SIZES:
            return None
        _, shape, classes = SIZES[self.dataset.name]
        return self.model.weights_bytes(shape, classes, values)

    def probabilities_bytes(self) -> int | None:
        if self.keep is None:
            return 0
        if self.dataset.name not in SIZES or isinstance(self.dataset.audit, str):
            return None
        total, _, classes = SIZES[self.dataset.name]
        return sum(self.dataset.counts(total)[1:]) * (FLOAT16 * classes + INT32)

    def check_data(self, data: float) -> int | None:
        if self.dataset.name not in SIZES:
            return None
        total, _, classes = SIZES[self.dataset.name]
        return self.dataset.samples_of(total, classes, data)

    def missing(self) -> str | None:
        return self.dataset.missing()

    def record(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
