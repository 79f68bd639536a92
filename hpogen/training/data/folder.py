"""The data set `folder`: images in one folder per class, in the order of torchvision's ImageFolder.

`prepared.py` calls the loader.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import doc
from numpy.typing import NDArray
from pydantic import Field

from hpogen.errors import UserError, explained
from hpogen.training.data.copies import copies
from hpogen.training.data.image_data import ImageData, without_test
from hpogen.training.data.listing import Listing, listed
from hpogen.training.data.pictures import Items, Pictures, common_size, look, place

NAME = "folder"
TEST = ("test", "val")  # the first that is there


def folder(
    root: Path,
    *,
    path: Annotated[str, doc("the folder; relative to the study's file")],
    size: Annotated[
        Annotated[int, Field(ge=1)] | None,
        doc("pixels that the shorter side is resized to; the centre is cut out"),
    ] = None,
    mean: Annotated[
        tuple[float, ...] | None, doc("per channel, of values in [0, 1]; left out: computed")
    ] = None,
    sd: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...] | None, doc("as `mean`; both or none")
    ] = None,
) -> ImageData:
    """`path/train/CLASS/*` and, where they are, `path/test/CLASS/*`; or `path/CLASS/*`, no test.

    With `size` (pixels) the shorter side is resized to it, and the centre cut out. `mean` and `sd`
    per channel, of values in [0, 1], replace those of the images. Raises UserError.
    """
    outer, inner = _folders(Path(path).expanduser())
    train, test = listed(outer, NAME), listed(inner, NAME) if inner is not None else None
    data = picture_data(NAME, train, test, size)
    if test is not None:
        data.test_labels[:] = _numbered(test, train)[data.test_labels]
    files = [file for part in (train, test) if part is not None for file, _ in part.samples]
    return _with_moments(replace(data, copies=copies(files)), mean, sd)


def _folders(base: Path) -> tuple[Path, Path | None]:
    """Where the classes of the training set stand, and those of the test set."""
    with explained(f"data set {NAME!r}: path: {base}", UserError, "read"):
        if not base.is_dir():
            raise UserError(f"data set {NAME!r}: path: {str(base)!r} is not a folder")
        if not (base / "train").is_dir():
            return base, None
        return base / "train", next((base / name for name in TEST if (base / name).is_dir()), None)


def picture_data(name: str, train: Items, test: Items | None, size: int | None) -> ImageData:
    """The data set of two listings; images are gray where all training images are, else RGB.

    Raises UserError for images that cannot be read, or that differ in size while `size` is None,
    and for a test image in colour where all training images are gray.
    """
    parts = [(items, look(items, name)) for items in (train, test) if items is not None]
    height, width = (size, size) if size is not None else common_size(parts, name)
    channels = 1 if parts[0][1].gray.all() else 3
    for items, seen in parts[1:]:
        if channels == 1 and not seen.gray.all():
            raise UserError(
                f"data set {name!r}: all training images are gray, and "
                f"{place(items, int(np.argmin(seen.gray)))} of the test set is in colour: convert "
                "it, or the training images"
            )
    found: list[tuple[NDArray[np.uint8] | Pictures, NDArray[np.int64]]] = [
        (Pictures(items, (len(items), channels, height, width), size, name), seen.targets)
        for items, seen in parts
    ]
    if test is None:
        found.append(without_test(found[0][0]))
    classes = int(found[0][1].max()) + 1
    return ImageData(*found[0], *found[1], classes, name, class_names=names_of(train, classes))


def names_of(part: Any, classes: int) -> tuple[str, ...]:
    """What torchvision, or a listing, calls the classes; nothing without a name for each."""
    names = getattr(part, "classes", None)
    named = isinstance(names, list | tuple) and len(names) == classes
    if not named or names is None:
        return ()
    return tuple(one if isinstance(one, str) else ", ".join(map(str, one)) for one in names)


def _numbered(test: Listing, train: Listing) -> NDArray[np.int64]:
    """The training set's number of each class of the test set."""
    for name in test.classes:
        if name not in train.classes:
            raise UserError(
                f"data set {NAME!r}: class {name!r} of {test.root} is not in {train.root}"
            )
    return np.array([train.classes.index(name) for name in test.classes], np.int64)


def _with_moments(
    data: ImageData, mean: tuple[float, ...] | None, sd: tuple[float, ...] | None
) -> ImageData:
    if mean is None and sd is None:
        return data
    channels = data.in_shape[0]
    if mean is None or sd is None or {len(mean), len(sd)} != {channels}:
        given = [None if values is None else len(values) for values in (mean, sd)]
        raise UserError(
            f"data set {NAME!r}: got {given[0]} values of mean and {given[1]} of sd, expected "
            f"{channels} of each: one per channel, of values in [0, 1]"
        )
    return replace(data, moments=([255 * x for x in mean], [1 / (255 * x) for x in sd]))
