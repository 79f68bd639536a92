"""Images that stay in their files and are decoded when they are asked for.

`folder.py` and `torchvision.py` make them of torchvision's data sets, which list the files.
"""

from __future__ import annotations

import functools
import operator
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpogen.errors import UserError
from hpogen.training.vision import torchvision

T = TypeVar("T")
Rows = NDArray[np.int64]

BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, TypeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for a file that is not a whole image."""

GRAY = ("1", "L", "LA", "La")
DEEP = ("I", "F")  # first letters of the modes with more than 8 bits per channel
BITS_PER_SAMPLE = 258  # a tag of TIFF


class Items(Protocol):
    """A data set of torchvision: item i is (picture, class); the picture may not be decoded yet."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Pictures:
    """`pictures[rows]` is uint8 (n, C, H, W), decoded now, by threads; it stands for an array.

    With `size`, the shorter side is resized to it (bilinear, antialiased) and the centre is cut
    out. It can be pickled: the files' places travel, not their pixels. Raises UserError, naming
    the file, for one that cannot be decoded.
    """

    items: Items = field(repr=False)
    shape: tuple[int, int, int, int]
    size: int | None
    name: str  # of the data set

    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """What they would take up when decoded."""
        return int(np.prod(self.shape))

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def decode(place: int) -> None:
            row = int(rows[place])
            images[place] = opened(self.items, row, self.name, self._pixels)

        for _ in threaded(decode, len(rows)):
            pass
        return images

    def _pixels(self, picture: Any, target: Any) -> NDArray[np.uint8]:
        """One picture, (C, H, W) uint8."""
        channels = self.shape[1]
        picture = picture.convert("L" if channels == 1 else "RGB")
        if self.size is not None and picture.size != (self.size, self.size):
            functional = torchvision().transforms.functional
            picture = functional.center_crop(functional.resize(picture, [self.size]), [self.size])
        pixels = np.asarray(picture)
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


@dataclass(frozen=True)
class Seen:
    """What the headers of pictures tell, and their classes."""

    sizes: NDArray[np.int64]  # (N, 2), width and height
    gray: NDArray[np.bool_]  # (N,)
    targets: NDArray[np.int64]  # (N,)


def look(items: Items, name: str) -> Seen:
    """Open every picture, decoding none that need not be.

    Raises UserError, naming the file, for one that is no image, has more than 8 bits per channel,
    or whose target is not a class's number.
    """
    rows = list(threaded(lambda i: opened(items, i, name, _header), len(items)))
    for i, (_, _, deep, target) in enumerate(rows):
        if deep:
            raise UserError(
                f"data set {name!r}: {place(items, i)} has the mode {deep!r}, expected 8 bits per "
                "channel: convert it"
            )
        if target is None:
            raise UserError(
                f"data set {name!r}: the target of {place(items, i)} is not the number of a class: "
                "it is not a data set for classification, or not with these options"
            )
    return Seen(
        np.array([size for size, *_ in rows], np.int64).reshape(-1, 2),
        np.array([mode in GRAY for _, mode, _, _ in rows], np.bool_),
        np.array([target for *_, target in rows], np.int64),
    )


def _header(picture: Any, target: Any) -> tuple[tuple[int, int], str, str, int | None]:
    try:
        label = operator.index(target)
    except TypeError:
        label = None
    return picture.size, picture.mode, _deep(picture), label


def _deep(picture: Any) -> str:
    """The mode of a file with more than 8 bits per channel, else "".

    Pillow opens a file of 16-bit colours as RGB, and cuts them: what the file holds stands in how
    it is to be decoded (PNG: `RGB;16B`), beside the largest value (PPM) or in a tag (TIFF).
    """
    if picture.mode.startswith(DEEP):
        return str(picture.mode)
    ways = [tile[3] for tile in getattr(picture, "tile", ())]
    names = [str(way[0] if isinstance(way, tuple) and way else way) for way in ways]
    largest = [way[1] for way in ways if picture.format == "PPM" and isinstance(way, tuple)]
    bits = getattr(picture, "tag_v2", {}).get(BITS_PER_SAMPLE, ())
    if max(bits, default=8) > 8 or max(largest, default=255) > 255:
        return f"{picture.mode};16"
    return next((name for name in names if ";16" in name), "")


def common_size(parts: list[tuple[Items, Seen]], name: str) -> tuple[int, int]:
    """Height and width of all pictures. Raises UserError naming two that differ."""
    first = parts[0][1].sizes[0]
    for items, seen in parts:
        other = np.flatnonzero((seen.sizes != first).any(axis=1))
        if len(other):
            (a, b), (c, d) = first.tolist(), seen.sizes[other[0]].tolist()
            raise UserError(
                f"data set {name!r}: the images differ in size: {place(parts[0][0], 0)} is {a}×{b} "
                f"pixels, {place(items, int(other[0]))} is {c}×{d}; set size, such as size: "
                f"{min(a, b, c, d)}, to which the shorter side is resized before the centre is cut"
            )
    return int(first[1]), int(first[0])


def opened(items: Items, i: int, name: str, use: Callable[[Any, Any], T]) -> T:
    """What `use` makes of item i, whose file is closed again."""
    try:
        picture, target = items[i]
        with picture:
            return use(picture, target)
    except BROKEN as error:
        raise UserError(
            f"data set {name!r}: {place(items, i)} cannot be read as an image: {line(error)}; "
            "repair or delete the file"
        ) from error


def line(error: BaseException) -> str:
    """`ValueError: its text`, on one line, of 200 characters at most."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def place(items: Items, i: int) -> str:
    """The file of item i, as far as the data set knows it."""
    samples = getattr(items, "samples", None) or getattr(items, "_samples", None)
    return repr(str(samples[i][0])) if samples else f"image {i}"


def threaded(function: Callable[[int], T], count: int) -> Iterator[T]:
    """`function(0)`, …, `function(count - 1)`, in order, by as many threads as there are CPUs."""
    stretch = 1 + count // 4096  # a task for each of a million images would take a gigabyte

    def run(start: int) -> list[T]:
        return [function(i) for i in range(start, min(start + stretch, count))]

    for results in _pool().map(run, range(0, count, stretch)):
        yield from results


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Pillow decodes and resizes without holding Python's lock."""
    ours = getattr(os, "sched_getaffinity", None)  # not on every system
    cpus = len(ours(0)) if ours else os.cpu_count()
    return ThreadPoolExecutor(cpus, thread_name_prefix="hpogen-decode")
