"""The standard augmentation of small images: pad by 4, crop at random, flip left and right.

Everything random about an epoch is drawn here at its start, from a generator of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PAD = 4  # pixels on each side


@dataclass(frozen=True)
class Draws:
    """The order of an epoch's images and, with augmentation, what is done to each of them."""

    order: Tensor  # (N,)
    shifts: Tensor | None = None  # (N, 2) in [0, 2·PAD], rows and columns
    flips: Tensor | None = None  # (N,) bool


def draw(count: int, augment: bool, seed: int, device: torch.device) -> Draws:
    """An epoch's draws for `count` images; the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator).to(device)
    if not augment:
        return Draws(order)
    shifts = torch.randint(0, 2 * PAD + 1, (count, 2), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    return Draws(order, shifts.to(device), flips.to(device))


def crop_and_flip(images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Image i (N, C, H, W), padded with zeros, cut at `shifts[i]` and mirrored if `flips[i]`."""
    n, channels, height, width = images.shape
    padded = functional.pad(images, (PAD,) * 4)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + shifts[:, 1:]  # (N, W)
    rows = torch.arange(height, device=images.device) + shifts[:, :1]  # (N, H)
    pixels = rows[:, :, None] * (width + 2 * PAD) + columns[:, None, :]  # (N, H, W)
    index = pixels.view(n, 1, -1).expand(n, channels, -1)
    return padded.view(n, channels, -1).gather(2, index).view(images.shape)
