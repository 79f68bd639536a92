"""Which images a task trains on and how they are split: the YAML's `dataset:`, without torch.

Part of `settings.py`; `data.py` loads and splits what it says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from hpogen import plugins
from hpogen.training.options import OPEN, check_options, registered

SIZES: Mapping[str, tuple[int, tuple[int, int, int], int]] = {
    "digits": (1_297, (1, 8, 8), 10),  # training images, (C, H, W), classes
    "mnist": (60_000, (1, 28, 28), 10),
    "fashion-mnist": (60_000, (1, 28, 28), 10),
    "cifar10": (50_000, (3, 32, 32), 10),
    "cifar100": (50_000, (3, 32, 32), 100),
    "svhn": (73_257, (3, 32, 32), 10),
}
STORED = {  # what torchvision keeps in the root
    "mnist": "MNIST/raw",
    "fashion-mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "svhn": "train_32x32.mat",
}
TestSet = Literal["test", "test-each-epoch"]
VALIDATION_DEFAULT, AUDIT_DEFAULT = 5_000, 10_000  # images, where there are as many


class Dataset(BaseModel):
    """Which images, and how they are split; further keys are options of a plug-in data set.

    `subset` is the fraction of the standard training set that is trained on. `validation` images
    are outside it (default: 5,000, at most half of what is left), `audit` images outside both
    (default: 10,000, at most what is left), or the standard `test` set, for reproducing papers;
    `test-each-epoch` evaluates it after each epoch and not the last alone.
    """

    model_config = OPEN

    name: str
    root: str | None = None  # default: $HPOGEN_DATA, else the user's cache folder
    subset: Annotated[float, Field(gt=0, le=1)] = 0.2
    validation: Annotated[int, Field(ge=0)] | None = None
    audit: Annotated[int, Field(ge=0)] | TestSet | None = None
    augment: Literal["none", "standard"] = "none"
    seed: Annotated[int, Field(ge=0)] = 0
    download: bool = True

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, plugins.datasets)

    @model_validator(mode="after")
    def _checked(self) -> Dataset:
        check_options(self, self.name, plugins.datasets)
        if self.name in SIZES:
            self.counts(SIZES[self.name][0])
        return self

    def counts(self, total: int) -> tuple[int, int, int]:
        """How many of `total` training images are subset, validation and audit.

        Raises ValueError when there are too few.
        """
        subset = round(self.subset * total)
        left = total - subset
        validation = self.validation
        if validation is None:
            validation = min(VALIDATION_DEFAULT, left // 2)
        audit = min(AUDIT_DEFAULT, left - validation) if self.audit is None else self.audit
        audit = 0 if isinstance(audit, str) else audit
        if subset < 1:
            raise ValueError(f"subset {self.subset} of {total} training images is empty")
        if subset + validation + audit > total or audit < 0:
            raise ValueError(
                f"data set {self.name!r} has {total} training images: a subset of {subset}, "
                f"{validation} for validation and {max(audit, 0)} for audit are too many"
            )
        return subset, validation, audit

    @property
    def validates(self) -> bool:
        """Whether there are validation images."""
        if self.validation is None and self.name in SIZES:
            return self.counts(SIZES[self.name][0])[1] > 0
        return self.subset < 1 if self.validation is None else self.validation > 0

    def folder(self) -> Path:
        """Where the data sets are kept on disk."""
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        root = self.root or os.environ.get("HPOGEN_DATA") or f"{cache}/hpogen"
        return Path(root).expanduser()

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})
