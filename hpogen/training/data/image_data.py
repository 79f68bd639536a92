"""A data set as its loader gives it, before any split; without torch.

Made by the loaders (`builtin.py`, `folder.py`, …, a plug-in's); `prepared.py` checks and splits it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpogen.errors import UserError, quoted
from hpogen.training.data.copies import Copies
from hpogen.training.data.pictures import Pictures

Moments = tuple[list[float], list[float]]
"""Per channel the mean and one over the standard deviation, of values from 0 to 255."""


@dataclass(frozen=True)
class ImageData:
    """The standard training and test set.

    Images are uint8 (N, C, H, W), or `Pictures`, which decode them when asked; labels are int64
    (N,) in [0, classes). A data set without a test set has none of either (N = 0). `moments` are
    what images are normalised by; None: computed from all training images. `copies` are files with
    the same content, where images are files: rows of the training set, then of the test set.
    `class_names` has a name for each class, or none at all.
    """

    train_images: NDArray[np.uint8] | Pictures
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8] | Pictures
    test_labels: NDArray[np.int64]
    classes: int
    name: str
    moments: Moments | None = None
    copies: Copies = ()
    class_names: tuple[str, ...] = ()

    @property
    def in_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


def check(data: ImageData, name: str) -> None:
    """What a loader may get wrong, told before training. Raises UserError."""
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        if images.dtype != np.uint8 or len(images.shape) != 4:
            raise UserError(
                f"data set {name!r}: {part}_images are {images.dtype} {images.shape}, "
                "expected uint8 (N, C, H, W)"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise UserError(
                f"data set {name!r}: {part}_labels are {labels.dtype} {labels.shape}, "
                f"expected int64 {images.shape[:1]}"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < data.classes):
            raise UserError(f"data set {name!r}: {part}_labels are not in [0, {data.classes})")
    names = data.class_names
    if len(names) not in (0, data.classes) or not all(isinstance(one, str) for one in names):
        raise UserError(
            f"data set {name!r}: class_names are {quoted(names)}, expected a string for each of "
            f"the {data.classes} classes, or none"
        )


def without_test(
    images: NDArray[np.uint8] | Pictures,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """An empty test set beside these training images."""
    return np.empty((0, *images.shape[1:]), np.uint8), np.empty(0, np.int64)
