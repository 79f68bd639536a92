"""The built-in data sets: the digits of scikit-learn, the others through torchvision.

Each loader is `(root, *, download) -> ImageData`, of a table `(root) -> Data`; `loaded.py` calls
it.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpogen.errors import UserError
from hpogen.training.data.data import Data, Samples
from hpogen.training.data.image_data import ImageData
from hpogen.training.data.pictures import line
from hpogen.training.data.splits import stratified_order
from hpogen.training.forms.kinds import KINDS, KindName
from hpogen.training.vision import torchvision

DIGITS_TEST = 500  # of 1,797
DIGITS = tuple("0123456789")  # the classes
BROKEN = (OSError, RuntimeError, EOFError, ValueError, ImportError, zlib.error, tarfile.TarError)


def digits(root: Path) -> ImageData:
    """The 8×8 digits that come with scikit-learn: 1,297 for training, 500 for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = bunch.target.astype(np.int64)
    order = stratified_order(labels, seed=0)
    train, test = np.sort(order[:-DIGITS_TEST]), np.sort(order[-DIGITS_TEST:])
    data = images[train], labels[train], images[test], labels[test]
    return ImageData(*data, 10, "digits", class_names=DIGITS)


def _table(name: str, kind: KindName) -> Callable[..., Data]:
    """The loader of a table of scikit-learn's: a fifth of its rows, drawn once, is the test set."""

    def load(root: Path) -> Data:
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{name}")()
        targets = bunch.target.astype(np.float32 if kind == "real" else np.int64)
        order = stratified_order(KINDS[kind].strata(targets), seed=0)
        count = round(len(order) / 5)
        train, test = (
            Samples(bunch.data[rows].astype(np.float32), targets[rows])
            for rows in (np.sort(order[:-count]), np.sort(order[-count:]))
        )
        names = tuple(map(str, getattr(bunch, "target_names", ())))
        return Data(train, test, kind, name=name, class_names=names)

    return load


breast_cancer = _table("breast_cancer", "binary")
wine = _table("wine", "classes")
diabetes = _table("diabetes", "real")


def _both(name: str, attribute: str, classes: int) -> Callable[..., ImageData]:
    """The loader of torchvision's training and test set of that class."""
    flags = ({"train": True}, {"train": False})
    splits = ({"split": "train"}, {"split": "test"})

    def load(root: Path, *, download: bool = True) -> ImageData:
        make = getattr(torchvision().datasets, attribute)
        train, test = (
            made(name, make, root, download, **keys)
            for keys in (splits if attribute == "SVHN" else flags)
        )
        names = tuple(getattr(train, "classes", DIGITS))
        return ImageData(*arrays(train), *arrays(test), classes, name, class_names=names)

    return load


mnist = _both("mnist", "MNIST", 10)
fashion_mnist = _both("fashion-mnist", "FashionMNIST", 10)
cifar10 = _both("cifar10", "CIFAR10", 10)
cifar100 = _both("cifar100", "CIFAR100", 100)
svhn = _both("svhn", "SVHN", 10)


def made(name: str, make: Callable[..., Any], root: Path, download: bool, **keys: Any) -> Any:
    """torchvision's data set: what is on disk, else unpacked or downloaded there."""
    try:
        return make(root, download=False, **keys)
    except BROKEN as error:
        if str(error).startswith("Unknown value"):  # of an option: torchvision names the valid ones
            raise UserError(f"data set {name!r}: {error}") from error
        if not download:
            raise UserError(
                f"data set {name!r} is not in {str(root)!r}: {line(error)}; put it there, set "
                "dataset.root or HPOGEN_DATA, or allow dataset.download"
            ) from error
    try:
        return make(root, download=True, **keys)
    except BROKEN as error:
        raise UserError(
            f"data set {name!r} is not in {str(root)!r} and cannot be downloaded there: "
            f"{line(error)}; put it there, or set dataset.root or HPOGEN_DATA"
        ) from error


def arrays(part: Any) -> tuple[Any, Any]:
    """Images (N, C, H, W) uint8 and labels (N,) int64 of a torchvision data set."""
    images = np.asarray(part.data)
    labels = np.asarray(part.labels if hasattr(part, "labels") else part.targets)
    if images.ndim == 3:  # MNIST: (N, H, W)
        images = images[:, None]
    elif images.shape[1] != 3:  # CIFAR: (N, H, W, C)
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images, labels.astype(np.int64)
