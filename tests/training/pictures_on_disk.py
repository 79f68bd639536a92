"""Small folders of pictures, for the tests of the data sets that read files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = (10, 8)  # width and height


def picture(number: int, mode: str = "RGB", side: tuple[int, int] = SIDE) -> Image.Image:
    """Noise that its number decides."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (side[1], side[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write(
    base: Path,
    counts: Sequence[int] = (30, 20, 25),
    mode: str = "RGB",
    side: tuple[int, int] = SIDE,
    first: int = 0,
) -> Path:
    """`base/a/000.png`, …: so many pictures of the classes a, b, …"""
    number = first
    for label, count in enumerate(counts):
        folder = base / chr(ord("a") + label)
        folder.mkdir(parents=True)
        for i in range(count):
            picture(number, mode, side).save(folder / f"{i:03}.png")
            number += 1
    return base
