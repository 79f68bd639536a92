"""The data set `numpy`: arrays in an .npz file, named as in Keras' mnist.npz.

`prepared.py` calls the loader.
"""

from __future__ import annotations

import logging
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import doc
from numpy.typing import NDArray

from hpogen.errors import UserError, quoted
from hpogen.training.data.data import Data, Samples
from hpogen.training.data.image_data import ImageData, without_test
from hpogen.training.data.pictures import line
from hpogen.training.forms.kinds import kind_for

log = logging.getLogger(__name__)

NAMES = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = 4  # at most, to tell the axis from height and width
BROKEN = (
    OSError, ValueError, EOFError, TypeError, RuntimeError, SyntaxError, KeyError, IndexError,
    MemoryError, struct.error, zlib.error, zipfile.BadZipFile, tokenize.TokenError,
)  # fmt: skip
"""What numpy and zipfile raise for a file that is damaged."""


def numpy_file(
    root: Path, *, path: Annotated[str, doc("the .npz file; relative to the study's file")]
) -> ImageData:
    """`x_train`, `y_train` and, if there, `x_test`, `y_test` of the file.

    Images are uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with at most 4 channels; where both may
    be meant, (N, C, H, W). Labels are integers from 0 on, (N,) or (N, 1). Raises UserError.
    """
    file = Path(path).expanduser()
    found = _read_parts(file)
    train = _images(found["x_train"], f"{file}: x_train")
    labels = _labels(found["y_train"], len(train), f"{file}: y_train")
    present = np.unique(labels)
    classes = int(present[-1]) + 1
    if len(present) < classes:
        absent = int(np.argmax(present != np.arange(len(present))))
        raise UserError(
            f"{file}: y_train: there is no image of class {absent} of 0 to {classes - 1}"
        )
    if "x_test" not in found:
        return ImageData(train, labels, *without_test(train), classes, "numpy")
    test = _images(found["x_test"], f"{file}: x_test")
    if test.shape[1:] != train.shape[1:]:
        raise UserError(f"{file}: x_test has images {test.shape[1:]}, x_train {train.shape[1:]}")
    tested = _labels(found["y_test"], len(test), f"{file}: y_test")
    if tested.max() >= classes:
        raise UserError(f"{file}: y_test: class {tested.max()} is not in y_train")
    return ImageData(train, labels, test, tested, classes, "numpy")


def arrays(
    root: Path, *, path: Annotated[str, doc("the .npz file; relative to the study's file")]
) -> Data:
    """The same arrays as they are: inputs of any numbers and shape (N, …), and targets.

    Floats, (N,) or (N, K), are real targets, integers (N,) classes, (N, L) labels of 0 and 1.
    uint8 of 3 or 4 dimensions are images, as above. Raises UserError.
    """
    file = Path(path).expanduser()
    found = _read_parts(file)
    parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for part in ("train", "test"):
        x, y = (found.get(f"{of}_{part}", _none(found[f"{of}_train"])) for of in "xy")
        if x.dtype == np.uint8 and x.ndim in (3, 4) and len(x):
            x = _images(x, f"{file}: x_{part}")
        parts.append((x, y))
    (x, y), (tested, labels) = parts
    test = Samples(tested, labels) if len(labels) else Samples(_none(x), _none(y))
    return Data(Samples(x, y), test, kind_for(y), name="numpy")


def read_images(file: Path) -> NDArray[np.uint8]:
    """The images (N, C, H, W) of a file without labels: its array `x_test`, else its only one.

    Raises UserError as `numpy_file` does.
    """
    name, array = _unlabelled(file)
    return _images(array, f"{file}: {name}")


def read_inputs(file: Path, names: Collection[str] | None = None) -> Any:
    """The same of any numbers, or the arrays of those names, by name. Raises UserError."""
    if names is None:
        return _unlabelled(file)[1]
    found = _read(file, names)
    if lacking := [name for name in names if name not in found]:
        raise UserError(f"{file}: has no array {lacking[0]!r}: expected {', '.join(names)}")
    return found


def _unlabelled(file: Path) -> tuple[str, NDArray[Any]]:
    """The array `x_test`, else the only one, and its name."""
    found = _read(file, None)
    name = NAMES[2] if NAMES[2] in found else next(iter(found), "")
    if name not in found or (name != NAMES[2] and len(found) > 1):
        raise UserError(
            f"{file}: has the arrays {quoted([*found])}, expected {NAMES[2]}, or one alone"
        )
    return name, found[name]


def _none(array: NDArray[Any]) -> NDArray[Any]:
    """No rows, of such."""
    return np.empty((0, *array.shape[1:]), array.dtype)


def _read_parts(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a training set and, if it is there, a test set."""
    found = _read(file)
    missing = [name for name in NAMES[:2] if name not in found]
    missing += [name for name in NAMES[2:] if len(found.keys() & set(NAMES[2:])) == 1]
    missing = [name for name in missing if name not in found]
    if missing:
        raise UserError(
            f"{file}: has no array {missing[0]!r}: expected {', '.join(NAMES)}, the last two or not"
        )
    return found


def _read(file: Path, names: Collection[str] | None = NAMES) -> dict[str, NDArray[Any]]:
    """Those of the arrays that are there; None: all that are."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in names or archive if name in archive}
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file") from None
    except BROKEN as error:
        reason = line(error)
        if "pickle" in reason:  # numpy's text tells how to load it none the less
            reason = "it has other content"
        raise UserError(
            f"{file}: cannot be read as an .npz file of plain arrays ({reason}): write it with "
            "numpy.savez"
        ) from error


def _images(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise UserError(
            f"{where}: got {array.dtype}, expected uint8 from 0 to 255: convert it, such as "
            f"(255 * x).round().astype('uint8') for values in [0, 1]"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] > CHANNELS >= array.shape[3]:
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    elif array.ndim == 4 and max(array.shape[1], array.shape[3]) <= CHANNELS:
        log.warning("%s: the shape %s is read as (N, C, H, W)", where, array.shape)
    if array.ndim != 4 or array.shape[1] > CHANNELS or 0 in array.shape:
        raise UserError(
            f"{where}: got the shape {array.shape}, expected (N, H, W), (N, H, W, C) or "
            f"(N, C, H, W) with at most {CHANNELS} channels"
        )
    return array


def _labels(array: NDArray[Any], count: int, where: str) -> NDArray[np.int64]:
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.shape != (count,):
        raise UserError(f"{where}: got the shape {array.shape}, expected ({count},)")
    if array.dtype.kind not in "iu":
        raise UserError(f"{where}: got {array.dtype}, expected the classes' numbers from 0 on")
    if array.min() < 0:
        raise UserError(f"{where}: got the class {array.min()}, expected numbers from 0 on")
    if array.max() > np.iinfo(np.int64).max:
        raise UserError(
            f"{where}: got the class {array.max()}, expected one of the classes' numbers"
        )
    return array.astype(np.int64)
