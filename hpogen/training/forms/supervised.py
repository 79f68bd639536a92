"""The task `supervised` as the YAML says it: any inputs and targets, checked without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.tasks.keys import Meaning
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.hyperparameters import OF_IMAGES
from hpogen.training.forms.kinds import KINDS, Kind, KindName
from hpogen.training.forms.metrics import check_defined, check_metrics
from hpogen.training.forms.options import named, registered
from hpogen.training.forms.task import Settings
from hpogen.training.forms.together import check_loss

ARRAYS = {"numpy": "hpogen.training.data.numpy:arrays"}  # read as any numbers, not as images


class Samples(Dataset):
    """Which samples, and how they are split; further keys are options of the data set.

    As for images, but inputs are any numbers, and so there is no augmentation.
    """

    augment: Annotated[Literal["none"], Field(exclude=True)] = "none"
    rotate: Annotated[float, Field(ge=0, le=0, exclude=True)] = 0.0
    transforms: Annotated[tuple[()], Field(exclude=True, strict=False)] = ()
    kind_: Annotated[KindName | None, Field(alias="kind")] = None
    """What the targets are: `classes`, `binary` (0 or 1), `labels` (several of those), `real`,
    or `positions` (a class for each place of a sequence).

    Left out: what the data set says, or the type of the targets.
    """

    images: ClassVar[bool] = False
    noun: ClassVar[str] = "samples"

    @property
    def kind(self) -> Kind | None:
        return KINDS[self.kind_] if self.kind_ else super().kind

    @property
    @plugins.scoped
    def loader(self) -> Callable[..., Any]:
        """As of images, but `numpy` reads arrays of any kind."""
        if self.name in ARRAYS:
            return plugins.resolved(ARRAYS[self.name])
        return plugins.datasets.get(self.name)


class SupervisedSettings(Settings):
    """What is trained on any inputs and targets: as image classification, without augmentation."""

    dataset: Annotated[Samples, BeforeValidator(named)]
    """Which samples, and how they are split; a bare string is the name."""
    loss: str | None = None
    """What is trained by: cross_entropy, bce, mse, mae, huber, or a plug-in's `@loss`.

    Left out: cross_entropy for classes, bce for targets of 0 and 1, mse for real ones.
    """
    metrics_: Annotated[
        tuple[str, ...], Field(alias="metrics", strict=False), Meaning.OBSERVED
    ] = ()
    """Further metrics of each split, such as auroc, f1 or r2: `train_auroc`, `val_auroc`."""

    error: str | None = None
    """The metric that the audit's error is made of, and the answers are judged by.

    Left out: accuracy, of which the error is 1 − accuracy, or rmse for real targets.
    """

    @field_validator("loss")
    @classmethod
    def _is_loss(cls, name: str | None) -> str | None:
        return None if name is None else registered(name, plugins.losses)

    @model_validator(mode="after")
    def _known(self) -> SupervisedSettings:
        try:
            check_metrics(sorted(self.own_metrics))
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def own_metrics(self) -> frozenset[str]:
        """Those named, and what the error is made of where every split has no such figure."""
        return frozenset(self.metrics_) | ({self.error} if self.error else set())

    @property
    def judged_by(self) -> str | None:  # type: ignore[override]
        return self.error

    def loss_for(self, kind: Kind) -> str:
        return self.loss or kind.losses[0]

    def check_kind(self, kind: Kind, wanted: frozenset[str] = frozenset()) -> None:
        name = self.loss_for(kind)
        check_loss(self.together, name)
        if plugins.losses.is_builtin(name) and name not in kind.losses:
            raise Refusal(
                f"the loss {name!r} is not for targets of the kind {kind.name!r}, which are "
                f"{kind.text}: expected {' or '.join(kind.losses)}, or a plug-in's; dataset.kind "
                "says another kind"
            )
        check_defined(sorted(self.own_metrics), kind)
        super().check_kind(kind, wanted)

    def parameters(self) -> frozenset[str]:
        return super().parameters() - OF_IMAGES
