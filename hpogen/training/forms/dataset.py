"""Which images a task trains on and how they are split: the YAML's `dataset:`, without torch.

Part of `task.py`; `data/prepared.py` loads and splits what it says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from hpogen import plugins
from hpogen.errors import UserError, quoted, shortened
from hpogen.tasks.keys import Meaning
from hpogen.training.forms.hyperparameters import Augment, Degrees, Hyperparameters, Share
from hpogen.training.forms.kinds import KINDS, Kind
from hpogen.training.forms.known import FILES, PATHS, SIZES, STORED, TABLES, Known
from hpogen.training.forms.options import STRICT, Optioned, check_options, named, registered
from hpogen.training.forms.transforms import Transform
from hpogen.training.forms.validation import (
    Folds,
    Redraw,
    Validation,
    check_sizes,
    parts_of,
    size_of,
)
from hpogen.trial import Parts

TestSet = Literal["test", "test-each-epoch"]
VALIDATION_DEFAULT, AUDIT_DEFAULT = 5_000, 10_000  # images, where there are as many

BY_TRIAL = frozenset({"augment", "rotate", "transforms", "corruption"})  # applied in a trial
BY_SPLIT = BY_TRIAL | {"subset", "balanced", "validation", "audit", "seed"}


class Corruption(BaseModel):
    """Which share of the subset's labels is drawn at random, and by which seed (default: ours)."""

    model_config = STRICT

    fraction: Share = 0.0
    """The share of the subset's labels that is drawn anew from all classes, the right one too."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Which labels, and what they become; left out: `dataset.seed`."""


def _fraction(value: object) -> object:
    """The short form `corruption: 0.1`."""
    return {"fraction": value} if isinstance(value, int | float) else value


class Dataset(Optioned):
    """Which images, and how they are split; further keys are options of the data set.

    `subset` is the fraction of the standard training set that is trained on; `balanced` gives it
    equally many images of each class. `validation` images are outside it (default: 5,000, at most
    half of what is left), `audit` images outside both (default: 10,000, at most what is left, or
    half of that with `balanced` or redrawn validation), or the standard `test` set, for
    reproducing papers; `test-each-epoch` evaluates it after each epoch and not the last alone.
    `augment`, `rotate` and `corruption` are hyper-parameters, and may be in the search space.
    """

    name: Annotated[str, AfterValidator(lambda name: registered(name, plugins.datasets))]
    """One of `hpogen list datasets`, `torchvision/NAME`, or the name of a plug-in's."""
    root: Annotated[str | None, Meaning.WHERE] = None
    """The folder where data sets are kept; left out: `$HPOGEN_DATA`, else `~/.cache/hpogen`."""
    subset: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The fraction of the standard training set that is trained on."""
    balanced: bool = False
    """Whether the subset has equally many images of each class; else it has their proportions."""
    validation: Validation | None = None
    """Images that the objective may see, outside the subset; left out: 5,000, or half the rest.

    `{folds: 5}` cross-validates within the subset, `{repeats: 5}` draws both five times.
    """
    audit: Annotated[int, Field(ge=0)] | TestSet | None = None
    """Images that judge the choice and no objective can name, outside subset and validation.

    Left out: 10,000, at most the rest. `test` and `test-each-epoch` take the standard test set.
    """
    augment: Augment = "none"
    """`standard`: padded by 4 pixels, cropped at random, mirrored. A hyper-parameter, too."""
    rotate: Degrees = 0.0
    """Degrees: each image is turned by an angle drawn between ± so many. A hyper-parameter, too."""
    transforms: Annotated[
        tuple[Annotated[Transform, BeforeValidator(named)], ...], Field(strict=False)
    ] = ()
    """Transforms of torchvision by name, which training images go through one by one."""
    corruption: Annotated[Corruption, BeforeValidator(_fraction)] = Corruption()
    """The share of the subset's labels that is drawn at random. A hyper-parameter, too."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which images are subset, validation and audit."""
    download: Annotated[bool, Meaning.WHERE] = True
    """Whether what is not in `root` is downloaded."""
    resident: Annotated[bool | Literal["auto"], Meaning.WHERE] = "auto"
    """Whether all images lie on the device; `auto`: if that takes half its free memory at most."""

    images: ClassVar[bool] = True  # whether its inputs must be images
    noun: ClassVar[str] = "images"  # what messages call its samples

    @model_validator(mode="after")
    def _checked(self) -> Dataset:
        if self.name in PATHS and "path" not in self.options():
            raise ValueError(f"data set {self.name!r} needs path: the {self.name} that it is in")
        if self.images and self.name in (*TABLES, *FILES, "text"):
            raise ValueError(
                f"data set {self.name!r} has no images: write task: {{name: supervised, …}}"
            )
        check_options(self, self.name, plugins.datasets)
        if self.parts.number > 1 and self.options().get("time") is not None:
            raise ValueError(
                f"validation.{self.parts.word}s: rows are divided by time, and training on later "
                "rows than those that judge would be no forecast: drop time, or give validation a "
                "number"
            )
        if not plugins.datasets.is_plugin(self.name):
            self._scope = ()  # the same images, whatever plug-ins the study has
        if self.known:
            self.counts(self.known.total)
        return self

    @property
    def known(self) -> Known | None:
        """Of a built-in data set; None: of another, which loading will tell."""
        found = SIZES.get(self.name)
        return Known(*found, "classes") if found else TABLES.get(self.name)

    @property
    def kind(self) -> Kind | None:
        """The kind of its targets, where that is known before it is loaded."""
        return KINDS[self.known.kind] if self.known else None

    @property
    def quick(self) -> bool:
        """Whether it is a table, which is read in no time."""
        return self.name in (*TABLES, *FILES)

    def counts(self, total: int) -> tuple[int, int, int]:
        """How many of `total` training images are subset, validation and audit.

        Raises ValueError when there are too few.
        """
        subset = round(self.subset * total)
        left = total - subset
        validation = self.validation_size
        if validation is None:
            validation = min(VALIDATION_DEFAULT, left // 2)
        audit = self.audit
        if audit is None:
            choice = self.redraws or self.balanced  # what is left over then has a use
            audit = min(AUDIT_DEFAULT, (left - validation) // (2 if choice else 1))
        audit = 0 if isinstance(audit, str) else audit
        if subset < 1:
            raise ValueError(f"subset {self.subset} of {total} training {self.noun} is empty")
        check_sizes(self.validation, subset, validation, self.noun)
        if subset + validation + audit > total or audit < 0:
            raise ValueError(
                f"data set {self.name!r} has {total} training {self.noun}: a subset of {subset}, "
                f"{validation} for validation and {max(audit, 0)} for audit are too many"
            )
        if self.redraws and not 0 < validation < left - audit:
            raise ValueError(
                f"validation.redraw: {validation} {self.noun} would be drawn from the "
                f"{left - audit} of {self.name!r} outside subset and audit: expected at least 1, "
                "and fewer than there are: take less of one of them"
            )
        return subset, validation, audit

    def trained(self, total: int) -> int:
        """How many images a training goes through; of folds the least. Raises as `counts`."""
        subset = self.counts(total)[0]
        return subset - -(-subset // self.folds) if self.folds else subset

    @property
    def folds(self) -> int:
        """How many the subset is divided into; 0: it is not."""
        return self.validation.folds if isinstance(self.validation, Folds) else 0

    @property
    def parts(self) -> Parts:
        """The trainings that a trial is."""
        return parts_of(self.validation)

    def samples(self, total: int, data: float | None) -> int:
        """How many of `total` training images a trial trains on; `data` is its fraction of them.

        None: the subset; 1: all but validation and audit, which stay the same. Raises ValueError
        when there are too few.
        """
        subset, validation, audit = self.counts(total)
        left = total - validation - audit
        if data is None or data == self.subset:
            return subset
        if data > self.subset and self.redraws:
            raise ValueError(
                f"data {data:g} is more than the subset of {self.subset:g}: validation.redraw "
                f"draws from the {self.noun} outside it, which trials then may have trained on"
            )
        count = left if data == 1 else round(data * total)
        if not 0 < count <= left:
            raise ValueError(
                f"data {data:g} of the {total} training {self.noun} of {self.name!r} are {count}, "
                f"expected 1 to {left}: {validation} are for validation and {audit} for audit"
            )
        return count

    def samples_of(self, total: int, classes: int, data: float) -> int:
        """As `samples`. Raises ValueError for less than an image of each class, too."""
        if (count := self.samples(total, data)) < classes:
            raise ValueError(
                f"data {data:g} of the {total} training {self.noun} of {self.name!r} are {count}, "
                f"expected at least one of each of its {classes} classes"
            )
        return count

    @property
    def validation_size(self) -> int | None:
        """How many images outside the subset are to be validation; None: the default."""
        return size_of(self.validation)

    @property
    def redraws(self) -> bool:
        """Whether each configuration has validation images of its own."""
        return isinstance(self.validation, Redraw)

    @property
    def validates(self) -> bool:
        """Whether there are validation images."""
        if self.folds:
            return True
        if self.validation_size is None and self.known:
            return self.counts(self.known.total)[1] > 0
        return self.subset < 1 if self.validation_size is None else self.validation_size > 0

    def subset_size(self) -> int | None:
        """How many images of a built-in data set are trained on; None: of another."""
        return self.trained(self.known.total) if self.known else None

    def hyperparameters(self) -> dict[str, str | float]:
        """The hyper-parameters that this mapping sets, for trials that do not search them."""
        fraction = self.corruption.fraction
        return {"augment": self.augment, "rotate": self.rotate, "corruption": fraction}

    def check_searched(self, name: str) -> None:
        """Raise ValueError for a hyper-parameter of the search space that is set here, too."""
        fixed = self.hyperparameters().get(name)
        if fixed is not None and fixed != Hyperparameters.model_fields[name].default:
            raise ValueError(
                f"{name} is searched, and task.dataset.{name} sets it to {quoted(fixed)}: drop one"
            )

    def missing(self) -> str | None:
        """What is not on disk, by a glance; None: nothing, or that cannot be told so easily.

        Raises UserError where this user may not look.
        """
        try:
            return self._missing()
        except OSError as error:
            raise UserError(
                f"data set {self.name!r}: {shortened(error.filename)} cannot be read: "
                f"{error.strerror}: make it readable, or name another folder"
            ) from None

    def _missing(self) -> str | None:
        if self.name in PATHS:
            path = Path(str(self.options()["path"])).expanduser()
            return None if path.exists() else f"data set {self.name!r}: {path} does not exist"
        stored = STORED.get(self.name)
        if stored is None or _holds_something(self.folder() / stored):
            return None
        return f"data set {self.name!r} is not in {self.folder()}"

    def folder(self) -> Path:
        """Where the data sets are kept on disk."""
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        root = self.root or os.environ.get("HPOGEN_DATA") or f"{cache}/hpogen"
        return Path(root).expanduser()

    @property
    @plugins.scoped
    def loader(self) -> Callable[..., Any]:
        """What is registered: it gives an ImageData, or a Data."""
        return plugins.datasets.get(self.name)


def _holds_something(path: Path) -> bool:
    """Whether it is a file, or a folder with something in it: a failed download leaves it empty."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def key(dataset: Dataset, without: frozenset[str]) -> Dataset:
    """With the defaults of those keys, so that studies which differ in them share the images."""
    fields = Dataset.model_fields
    return dataset.model_copy(update={name: fields[name].default for name in without})


def check_batch_sizes(sizes: Collection[int], samples: int, noun: str = Dataset.noun) -> str | None:
    """A warning when the largest batch size of a search space is above the subset; else None.

    `samples` are its samples, with rungs over data those of the lowest. Raises ValueError when all
    of them are.
    """
    if min(sizes) > samples:
        raise ValueError(
            f"batch_size is at least {min(sizes)}, and the subset has {samples} {noun}: make "
            "task.dataset.subset (or budgets.min) larger, or batch_size smaller"
        )
    if max(sizes) > samples:
        return (
            f"batch_size may come to be {max(sizes)}, but the subset has {samples} {noun}: trials "
            "above that train with the whole subset as one batch"
        )
    return None
