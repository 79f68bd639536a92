"""Augmentation of small images by the batch: pad by 4 and crop at random, mirror, rotate.

Everything random about an epoch is drawn here at its start, from a generator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor
from torch.nn import functional

from hpogen.training.mixing import Mixing

PAD = 4  # pixels on each side


@dataclass(frozen=True)
class Draws:
    """The order of an epoch's images and, with augmentation, what is done to each in its turn."""

    order: Tensor  # (N,) int64
    shifts: Tensor | None = None  # (N, 2) int64 in [0, 2·PAD], rows and columns
    flips: Tensor | None = None  # (N,) bool
    angles: Tensor | None = None  # (N,) float32, degrees against the clock
    partners: Tensor | None = None  # (N,) int64, in the batch: of mixed images, see `mixing.py`
    mixes: Tensor | None = None  # (N, 6) float32

    def map(self, function: Callable[[Tensor], Tensor]) -> Draws:
        """The same with the function of each tensor in its place."""
        shifts, flips, angles, partners, mixes = (
            None if drawn is None else function(drawn)
            for drawn in (self.shifts, self.flips, self.angles, self.partners, self.mixes)
        )
        return Draws(function(self.order), shifts, flips, angles, partners, mixes)

    def of(self, part: slice | Tensor) -> Draws:
        """The draws of a batch: of a slice of the order, or of indices (B,) into it."""
        if isinstance(part, slice):
            if self.shifts is self.flips is self.angles is self.partners is None:
                return Draws(self.order[part])
            return self.map(lambda drawn: drawn[part])
        return self.map(lambda drawn: drawn.index_select(0, part))

    def copy_(self, other: Draws) -> None:
        """Overwrite the tensors with those of an epoch that has the same ones."""
        for drawn, given in zip(self.tensors(), other.tensors(), strict=True):
            drawn.copy_(given)

    def tensors(self) -> list[Tensor]:
        drawn = (self.order, self.shifts, self.flips, self.angles, self.partners, self.mixes)
        return [tensor for tensor in drawn if tensor is not None]


def draw(
    count: int,
    augment: bool,
    seed: int,
    device: torch.device,
    rotate: float = 0.0,
    mixing: Mixing | None = None,
) -> Draws:
    """An epoch's draws for `count` images; the same on every device.

    `augment` draws shifts and flips, `rotate` angles in ±`rotate` degrees, `mixing` partners.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    shifts = flips = angles = partners = mixes = None
    if augment:
        shifts = torch.randint(0, 2 * PAD + 1, (count, 2), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
    if rotate > 0:
        angles = (2 * torch.rand(count, generator=generator) - 1) * rotate
    if mixing is not None:
        partners, mixes = mixing.draw(count, seed)
    drawn = Draws(order, shifts, flips, angles, partners, mixes)
    return drawn.map(lambda each: each.to(device))


def crop_and_flip(images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Image i (N, C, H, W), padded with zeros, cut at `shifts[i]` and mirrored if `flips[i]`."""
    padded = functional.pad(images, (PAD,) * 4)
    of_device = _cut_on_cpu if images.device.type == "cpu" else cut
    return of_device(padded, shifts, flips)


def cut(padded: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """As in `crop_and_flip`, of images that are padded: by one gather."""
    n, channels, height, width = padded.shape
    inner = width - 2 * PAD
    columns = torch.arange(inner, device=padded.device).expand(n, inner)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + shifts[:, 1:]  # (N, W)
    rows = torch.arange(height - 2 * PAD, device=padded.device) + shifts[:, :1]  # (N, H)
    pixels = rows[:, :, None] * width + columns[:, None, :]  # (N, H, W)
    index = pixels.view(n, 1, -1).expand(n, channels, -1)
    pixels = padded.view(n, channels, -1).gather(2, index)
    return pixels.view(n, channels, height - 2 * PAD, inner)


def _cut_on_cpu(padded: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """The same by numpy, which copies whole rows: a third of a gather's time."""
    images = padded.numpy()
    n, channels, height, width = images.shape
    inner, side = (height - 2 * PAD, width - 2 * PAD), 2 * PAD + 1
    image, channel, row, column = images.strides
    windows = as_strided(
        images,
        (n, side, side, channels, *inner),
        (image, row, column, channel, row, column),
        writeable=False,
    )  # every cut of every image, without a copy
    rows, columns = shifts.numpy().T
    chosen = windows[np.arange(n), rows, columns]  # (N, C, H, W)
    mirrored = flips.numpy()
    chosen[mirrored] = chosen[mirrored, :, :, ::-1]
    return torch.from_numpy(chosen)


def rotated(pixels: Tensor, angles: Tensor) -> Tensor:
    """Image i (N, C, H, W) float, turned by `angles[i]` degrees about its middle, black outside.

    Bilinear; the angle turns against the clock, as torchvision's `rotate` does.
    """
    height, width = pixels.shape[2:]
    radians = angles * (math.pi / 180)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(angles)
    # where an output pixel comes from, in units of half the image: x by width, y by height
    across = torch.stack((cos, -sin * (height / width), zero), 1)
    down = torch.stack((sin * (width / height), cos, zero), 1)
    transform = torch.stack((across, down), 1).to(pixels.dtype)  # (N, 2, 3)
    grid = functional.affine_grid(transform, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, align_corners=False)
