"""torchvision's data sets for classification, by name: `torchvision/EMNIST`.

The registry of data sets asks `family`; `prepared.py` calls the loader that it gives.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from hpogen.errors import UserError, unknown
from hpogen.plugins.parts import with_options
from hpogen.training.data.builtin import arrays, made
from hpogen.training.data.folder import names_of, picture_data
from hpogen.training.data.image_data import ImageData, without_test
from hpogen.training.vision import torchvision

Keys = Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """What torchvision's class is given for the training set, and for the test set if it has one.

    A data set whose parts have other classes, or that has one part only, has no test set.
    """

    train: Keys
    test: Keys | None = None


def _split(train: str, test: str) -> Parts:
    return Parts({"split": train}, {"split": test})


FLAG = Parts({"train": True}, {"train": False})
SETS: Mapping[str, Parts] = {
    **dict.fromkeys(
        ("CIFAR10", "CIFAR100", "EMNIST", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), FLAG
    ),
    **dict.fromkeys(
        ("DTD", "FER2013", "Flowers102", "Food101", "GTSRB", "PCAM", "RenderedSST2"),
        _split("train", "test"),
    ),
    **dict.fromkeys(("Country211", "STL10", "StanfordCars", "SVHN"), _split("train", "test")),
    **dict.fromkeys(("CLEVRClassification", "ImageNet", "Imagenette"), _split("train", "val")),
    **dict.fromkeys(("FGVCAircraft", "OxfordIIITPet"), _split("trainval", "test")),
    "Places365": _split("train-standard", "val"),
    "INaturalist": Parts({"version": "2021_train"}, {"version": "2021_valid"}),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), Parts({})),
    "LFWPeople": Parts({"split": "10fold"}),
    "Omniglot": Parts({"background": True}),
}
OURS = frozenset(
    {"self", "root", "download", "loader", "size"}
    | {"transform", "target_transform", "transforms", "is_valid_file", "allow_empty"}
)
"""Parameters of torchvision's classes that are no options: hpogen gives them, or has its own."""


SIZE = Annotated[int, Field(ge=1)] | None


@functools.cache
def family(name: str) -> Callable[..., ImageData]:
    """The loader of torchvision's data set of that class.

    Raises UserError for one that is unknown, with the nearest name, or not for classification.
    """
    theirs = torchvision().datasets
    if name not in SETS or not hasattr(theirs, name):
        if name in theirs.__all__:
            raise UserError(
                f"'torchvision/{name}' is not a data set of images with one class each; "
                f"torchvision/NAME takes {', '.join(sorted(SETS))}"
            )
        raise UserError(unknown("", f"torchvision/{name}", [f"torchvision/{one}" for one in SETS]))
    make, parts = getattr(theirs, name), SETS[name]
    taken = _parameters(make)

    def load(root: Path, *, download: bool, size: int | None, **options: Any) -> ImageData:
        called = f"torchvision/{name}"
        keys = {**options, **({"loader": Image.open} if "loader" in taken else {})}
        can = download or "download" not in taken  # which is what the error says then

        def construct(root: Path, download: bool, **keys: Any) -> Any:
            return make(root, **({"download": download} if "download" in taken else {}), **keys)

        train = made(called, construct, root, can, **{**keys, **parts.train})
        test = None
        if parts.test is not None:
            test = made(called, construct, root, can, **{**keys, **parts.test})
        return compact(image_data(called, train, test, size))

    options: dict[str, tuple[Any, Any]] = {"download": (bool, True), "size": (SIZE, None)}
    rest = {n: p for n, p in taken.items() if n not in OURS | parts.train.keys()}
    return with_options(load, options | {n: (p.annotation, p.default) for n, p in rest.items()})


def image_data(name: str, train: Any, test: Any, size: int | None) -> ImageData:
    """From torchvision's arrays where it keeps such and nothing is resized, else from pictures.

    Labels are torchvision's numbers. Raises UserError.
    """
    shape = getattr(getattr(train, "data", None), "shape", ())
    if size is not None or len(shape) not in (3, 4):
        return picture_data(name, train, test, size)
    images, labels = arrays(train)
    tested = without_test(images) if test is None else arrays(test)
    if labels.ndim != 1:
        raise UserError(
            f"data set {name!r}: its targets have the shape {labels.shape}, expected the number of "
            "a class for each image: not with these options"
        )
    classes = int(labels.max()) + 1
    return ImageData(
        images, labels, tested[0], tested[1], classes, name, class_names=names_of(train, classes)
    )


def compact(data: ImageData) -> ImageData:
    """The classes numbered from 0 on without gaps: EMNIST's letters begin at 1."""
    classes = np.unique(data.train_labels)
    if unseen := sorted({*data.test_labels.tolist()} - {*classes.tolist()}):
        raise UserError(f"data set {data.name!r}: class {unseen[0]} is in the test set alone")

    def numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(classes, labels).astype(np.int64)

    train, test = numbered(data.train_labels), numbered(data.test_labels)
    names = tuple(data.class_names[i] for i in classes if data.class_names)
    new = replace(data, train_labels=train, test_labels=test, classes=len(classes))
    return replace(new, class_names=names)


def _parameters(make: type) -> dict[str, inspect.Parameter]:
    """What the class takes, its parents' parameters included where it passes `**kwargs` on."""
    found: dict[str, inspect.Parameter] = {}
    for cls in make.__mro__:
        if "__init__" not in vars(cls):
            continue
        init = vars(cls)["__init__"]
        hints, parameters = typing.get_type_hints(init), inspect.signature(init).parameters.values()
        for one in parameters:
            if one.kind is one.POSITIONAL_OR_KEYWORD:
                found.setdefault(one.name, one.replace(annotation=hints.get(one.name, Any)))
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found
