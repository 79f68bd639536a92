"""Mixed images: mixup and CutMix by the batch, drawn for an epoch at its start.

`augment.py` draws with the rest of an epoch, `step.py` mixes. What is evaluated is never mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Mixed(NamedTuple):
    """The targets of a mixed batch, whose loss is share·l(first) + (1 − share)·l(second)."""

    first: Tensor  # (B, …)
    second: Tensor  # (B, …)
    share: Tensor  # (), in [0, 1]


@dataclass(frozen=True)
class Mixing:
    """How the batches of a trial are mixed: each by mixup or by CutMix, at equal odds if by both.

    `mixup` and `cutmix` are the α of the Beta(α, α) that a batch's share is drawn from; 0: never.
    """

    mixup: float
    cutmix: float
    batch: int  # images
    height: int  # pixels
    width: int

    def draw(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Of an epoch of so many images: partners (N,) int64 and mixes (N, 6) float32.

        A partner is a place in the image's own batch. A mix is the share of the image's own target,
        of its own pixels outside the box, and the box: top, bottom, left, right.
        """
        random = np.random.default_rng(seed)
        partners, mixes = [], []
        for first in range(0, count, self.batch):
            size = min(self.batch, count - first)
            partners.append(random.permutation(size))
            mixes.append(np.tile(self._of_batch(random), (size, 1)))
        joined = np.concatenate(mixes).astype(np.float32)
        return torch.from_numpy(np.concatenate(partners)), torch.from_numpy(joined)

    def _of_batch(self, random: np.random.Generator) -> tuple[float, ...]:
        """Zhang et al. 2018 (mixup), eq. 1; Yun et al. 2019 (CutMix), eq. 1 and 2."""
        if self.mixup and not (self.cutmix and random.random() < 0.5):
            share = random.beta(self.mixup, self.mixup)
            return share, share, 0, 0, 0, 0
        side = math.sqrt(1 - random.beta(self.cutmix, self.cutmix))
        top, bottom = _cut(self.height, side, random)
        left, right = _cut(self.width, side, random)
        area = (bottom - top) * (right - left) / (self.height * self.width)
        return 1 - area, 1.0, top, bottom, left, right  # the share is that of the box as it is


def _cut(length: int, side: float, random: np.random.Generator) -> tuple[int, int]:
    """The ends of a box that is `side` of the length, about a place drawn, within the image."""
    half, middle = int(length * side) // 2, int(random.integers(length))
    return max(middle - half, 0), min(middle + half, length)


def mixed(images: Tensor, partners: Tensor, mixes: Tensor, boxes: bool) -> Tensor:
    """Each image (B, C, H, W) with its partner of the batch, float32; `boxes`: some have one."""
    pixels = images.to(torch.float32)
    shares = mixes[:, 1].view(-1, 1, 1, 1)
    if boxes:
        height, width = images.shape[2:]
        rows = _within(height, mixes[:, 2:4])[:, None, :, None]
        columns = _within(width, mixes[:, 4:6])[:, None, None, :]
        shares = shares * ~(rows & columns)  # (B, 1, H, W)
    return shares * pixels + (1 - shares) * pixels.index_select(0, partners)


def _within(length: int, ends: Tensor) -> Tensor:
    """Which places lie between the ends (B, 2) of each image, (B, length) bool."""
    places = torch.arange(length, device=ends.device)
    return (places >= ends[:, :1]) & (places < ends[:, 1:])
