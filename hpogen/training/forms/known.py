"""What is known of the built-in data sets before they are loaded: sizes, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.kinds import KindName


class Known(NamedTuple):
    """What is known of a built-in data set before it is loaded."""

    total: int  # training samples
    shape: tuple[int, ...]  # of one: (C, H, W) of an image
    outputs: int  # of a model
    kind: KindName

    @property
    def inputs(self) -> Inputs:
        """What a model is built for."""
        return Inputs(self.shape, self.outputs, self.kind)


SIZES: Mapping[str, tuple[int, tuple[int, int, int], int]] = {
    "digits": (1_297, (1, 8, 8), 10),  # training images, (C, H, W), classes
    "mnist": (60_000, (1, 28, 28), 10),
    "fashion-mnist": (60_000, (1, 28, 28), 10),
    "cifar10": (50_000, (3, 32, 32), 10),
    "cifar100": (50_000, (3, 32, 32), 100),
    "svhn": (73_257, (3, 32, 32), 10),
}
TABLES: Mapping[str, Known] = {  # of scikit-learn
    "breast_cancer": Known(455, (30,), 1, "binary"),
    "wine": Known(142, (13,), 3, "classes"),
    "diabetes": Known(354, (10,), 1, "real"),
}
STORED = {  # what torchvision keeps in the root
    "mnist": "MNIST/raw",
    "fashion-mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "svhn": "train_32x32.mat",
}
FILES = ("csv", "parquet")  # of tables
PATHS = ("folder", "numpy", "text", *FILES)  # which lie at the option `path`, not in the root
