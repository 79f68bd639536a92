"""What hpogen itself trains, as the YAML's `task:` mapping says it, checked without torch.

`training/task.py` makes the tasks of it, and all that trains reads its settings here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.tasks.base import Threads
from hpogen.tasks.keys import Meaning
from hpogen.training.forms.dataset import Dataset, check_batch_sizes
from hpogen.training.forms.hyperparameters import (
    AverageName,
    Hyperparameters,
    OptimizerName,
    check_value,
)
from hpogen.training.forms.kinds import Kind
from hpogen.training.forms.measures import LOSSES, ListedMeasure, all_measures, check_metrics
from hpogen.training.forms.model import Model
from hpogen.training.forms.options import Part, named
from hpogen.training.forms.schedule import Schedule
from hpogen.training.forms.together import apart, check_searched
from hpogen.training.forms.validation import unlike
from hpogen.training.models.catalog import OWN
from hpogen.trial import Parts, Value

Precision = Literal["fp32", "tf32", "bf16"]
FLOAT16, INT32 = 2, 4  # bytes


class Settings(Part):
    """What is trained, and how: as image classification has it, of which others are variants."""

    name: str = plugins.DEFAULT_TASK
    """The task itself; it is the default one, and need not be named."""
    dataset: Annotated[Dataset, BeforeValidator(named)]
    """Which images, and how they are split; a bare string is the name."""
    model: Annotated[Model, BeforeValidator(named)]
    """Which network; a bare string is the name, its options stand beside it."""
    weights: str | None = None
    """A file of the model's weights to begin with: a `state_dict` of torch.save, or safetensors."""
    epochs: Annotated[int, Field(ge=1)]
    """The full budget: how often a trial goes through the subset. With rungs, the highest one."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a smaller validation loss, after which a trial ends; left out: none do."""
    optimizer: OptimizerName = "sgd"
    """Which rule takes a step, unless the search space has it."""
    schedule: Annotated[Schedule, BeforeValidator(named)] = Schedule()
    """The learning rate over the epochs; a bare string is the name."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the target that is spread over all classes, unless the search space has it."""
    average: AverageName = "none"
    """Which weights are judged, unless the search space has it: the trained ones, `ema`, `swa`."""
    class_weights: (
        Literal["balanced"]
        | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False)]
        | None
    ) = None
    """What a sample of each class counts in the training loss, or `balanced`: N/(C·N_c)."""
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
    together: Annotated[int, Field(ge=1, le=256), Meaning.SPEED] = 1
    """On a CPU: so many trials run in one process, and those of one shape train as one network."""

    resumable: ClassVar[bool] = True
    retrains: ClassVar[bool] = True
    judged_by: ClassVar[str | None] = None  # by what every split has
    keeps_at_urls: ClassVar[bool] = True  # its checkpoints, by `record/stores.py`
    one_gpu: ClassVar[bool] = True
    gpus_per_trial: ClassVar[int] = 1

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
        if self.keep and (reason := unlike(self.dataset.validation)):
            raise ValueError(f"keep: {self.keep}: {reason}: drop one of the keys")
        if self.patience and not self.dataset.validates:
            raise ValueError(
                f"patience: {self.patience} looks at the validation loss, and dataset.validation "
                "is 0: drop one of the two"
            )
        if known := self.dataset.known:
            self.model.check_inputs(known.inputs, self.dataset.name)
        return self

    def loss_for(self, kind: Kind) -> str:
        """The loss, by its name, for targets of that kind: theirs, where none is declared."""
        return kind.losses[0]

    def check_classes(self, classes: int) -> None:
        """Raise Refusal where there is not one weight for each of so many classes."""
        weights = self.class_weights
        if isinstance(weights, tuple) and len(weights) != classes:
            raise Refusal(
                f"class_weights has {len(weights)} numbers, and the data set "
                f"{self.dataset.name!r} has {classes} classes: expected one for each, or 'balanced'"
            )

    @property
    def own_metrics(self) -> frozenset[str]:
        """The metrics of a split beside its loss and accuracy."""
        return frozenset()

    def check_kind(self, kind: Kind, wanted: frozenset[str] = frozenset()) -> None:
        """Raise Refusal for what the task asks of targets that are not of that kind.

        `wanted` are metrics, those of the objective say.
        """
        own = self.loss_for(kind) not in kind.losses
        for measure in all_measures():
            listed = any(measure.name == one.name for one in self.measures)
            if not listed and not wanted & set(measure.metrics):
                continue
            _check_measure(measure, kind)
            if measure.loss == "entropy" and own:
                raise Refusal(
                    f"the measure {measure.name!r} is not defined for the loss "
                    f"{self.loss_for(kind)!r}, but for the cross-entropy alone"
                )
        if self.keep and not kind.classed:
            raise Refusal(
                f"keep: {self.keep} is for targets of one class each, and they are of the kind "
                f"{kind.name!r}: leave it out"
            )
        smooths = kind.smooths and not own
        for key, given, fits in (
            ("label_smoothing", self.label_smoothing, smooths),
            ("dataset.corruption", self.dataset.corruption.fraction, kind.classed),
            ("dataset.balanced", self.dataset.balanced, kind.classed),
            ("class_weights", self.class_weights, kind.classed and not own),
        ):
            if given and not fits:
                raise Refusal(
                    f"{key} is for targets of one class each and their cross-entropy, and the "
                    f"targets are of the kind {kind.name!r}, the loss is {self.loss_for(kind)!r}: "
                    "leave it out"
                )
        lost = sorted(wanted & _accuracies()) if kind.error != "accuracy" else []
        if lost:
            raise Refusal(f"targets of the kind {kind.name!r} have no {lost[0]!r}")

    @property
    def subset(self) -> float:
        return self.dataset.subset

    @property
    def parts(self) -> Parts:
        return self.dataset.parts

    @property
    def keeps_weights(self) -> bool:
        """Of several trainings no network is the trial's."""
        return self.parts.number == 1

    @property
    def keeps_losses(self) -> bool:
        """Whether each validation sample's loss, one each, is kept: of the same ones."""
        return not self.dataset.redraws and self.parts.word != "repeat"

    @staticmethod
    def elsewhere(task: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Where words belong that are no keys of the mapping `task`, which may be wrong."""
        model = named(task.get("model"))
        name = model.get("name") if isinstance(model, Mapping) else None
        options = OWN[name].options if isinstance(name, str) and name in OWN else ()
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
        found = LOSSES | plugins.FROM_VALIDATION if self.dataset.validates else LOSSES
        found |= self.from_training() | (
            self.from_validation() if self.dataset.validates else set()
        )
        kind = self.dataset.kind
        return found - _accuracies() if kind and kind.error != "accuracy" else found

    def from_training(self) -> frozenset[str]:
        """The named metrics that a pass over the subset gives."""
        return frozenset(f"train_{name}" for name in self.own_metrics)

    def from_validation(self) -> frozenset[str]:
        """Those that a pass over the validation samples gives."""
        return frozenset(f"val_{name}" for name in self.own_metrics)

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

    @plugins.scoped
    def observed(self) -> frozenset[str]:
        return frozenset().union(*(m.metrics for m in all_measures() if m.observed))

    def parameters(self) -> frozenset[str]:
        """Those of training, and the options of the model."""
        return frozenset(Hyperparameters.model_fields) | self.model.searchable()

    def required(self) -> frozenset[str]:
        fields = Hyperparameters.model_fields.items()
        return frozenset(name for name, field in fields if field.is_required())

    def check_value(self, name: str, value: Value) -> None:
        self.dataset.check_searched(name)
        check_searched(self.together, name, value)
        if name in self.model.searchable():
            known = self.dataset.known
            self.model.check_value(name, value, known and known.inputs)
        else:
            check_value(name, value)

    def check_range(
        self, name: str, values: Collection[Value], samples: int | None = None
    ) -> str | None:
        size = samples or self.dataset.subset_size()  # of a built-in data set it is known before
        if name != "batch_size" or size is None:
            return apart(self.together, name, values)
        sizes = [int(value) for value in values if value is not None]
        warning = check_batch_sizes(sizes, size, self.dataset.noun)
        return warning or apart(self.together, name, values)

    @plugins.scoped
    def weights_bytes(self, values: Mapping[str, Sequence[Value]]) -> int | None:
        known = self.dataset.known
        return known and self.model.weights_bytes(known.inputs, values)

    def probabilities_bytes(self) -> int | None:
        if self.keep is None:
            return 0
        known, kind = self.dataset.known, self.dataset.kind
        if known is None or kind is None or isinstance(self.dataset.audit, str):
            return None
        each = FLOAT16 * kind.classes(known.outputs) + INT32
        return sum(self.dataset.counts(known.total)[1:]) * each

    def check_data(self, data: float) -> int | None:
        known, kind = self.dataset.known, self.dataset.kind
        if known is None or kind is None:
            return None
        return self.dataset.samples_of(known.total, kind.classes(known.outputs), data)

    def files(self) -> Mapping[str, Path]:
        return {"task.weights": Path(self.weights).expanduser()} if self.weights else {}

    def missing(self) -> str | None:
        return self.dataset.missing()

    def record(self) -> dict[str, Any]:
        young = {"together"} if self.together == 1 else set()  # as it was before there was any
        return self.model_dump(mode="json", by_alias=True, exclude=young)


def _check_measure(measure: plugins.Measure, kind: Kind) -> None:
    """Raise Refusal where it is not defined for targets of that kind."""
    if measure.kinds and kind.name not in measure.kinds:
        raise Refusal(
            f"the measure {measure.name!r} is not defined for targets of the kind {kind.name!r}, "
            f"but for {' and '.join(sorted(measure.kinds))}"
        )
    if (
        kind.name == "positions"
        and measure.of == "head"
        and plugins.measures.is_plugin(measure.name)
    ):
        raise Refusal(
            f"the measure {measure.name!r} is a plug-in's of the last layer, which is given one "
            "output for each sample, and the targets are of the kind 'positions': register it with "
            "of='network'"
        )


def _accuracies() -> frozenset[str]:
    return frozenset(f"{split}_accuracy" for split in ("train", "val", "gap"))
