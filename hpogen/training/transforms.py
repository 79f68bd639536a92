"""torchvision's transforms of training images: each image by itself, seeded at each step.

They draw for a whole batch alike where they are given one, so they are given one image at a time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from hpogen.errors import UserError, shortened, text_of
from hpogen.training.forms.transforms import Transform
from hpogen.training.vision import torchvision

TRIED = 16  # draws of a transform, which does nothing to some images


class Transforms:
    """Some of torchvision's transforms, one after the other.

    Raises UserError, in one line that names the transform, where it does not take its options or
    images (C, H, W) of `shape`, or gives others.
    """

    def __init__(self, given: Sequence[Transform], shape: tuple[int, int, int]) -> None:
        self._each = [_made(transform) for transform in given]
        blank = torch.zeros(shape, dtype=torch.uint8)
        with _seeded(0):
            for transform, apply in zip(given, self._each, strict=True):
                for _ in range(TRIED):
                    _try(transform.name, apply, blank)

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Images (B, C, H, W) uint8, all that is random drawn from the seed."""
        with _seeded(seed):
            return torch.stack([self._of(image) for image in images])

    def _of(self, image: Tensor) -> Tensor:
        for apply in self._each:
            image = apply(image)
        return image


def _made(transform: Transform) -> Callable[[Tensor], Tensor]:
    torchvision()  # says what is wrong where it is not to be had
    kind = getattr(importlib.import_module("torchvision.transforms.v2"), transform.name)
    try:
        made: Callable[[Tensor], Tensor] = kind(**transform.options())
    except (TypeError, ValueError) as error:
        raise _refused(transform.name, error) from error
    return made


def _try(name: str, apply: Callable[[Tensor], Tensor], image: Tensor) -> None:
    try:
        found = apply(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _refused(name, error) from error
    if found.shape != image.shape or found.dtype != image.dtype:
        raise UserError(
            f"task.dataset.transforms: {name} gives images {tuple(found.shape)} of "
            f"{tuple(image.shape)}: expected the same size: set its size to that"
        )


def _refused(name: str, error: Exception) -> UserError:
    said = shortened(text_of(error))
    return UserError(
        f"task.dataset.transforms: {name}: {said}: change its options, or leave it out"
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU are those of the seed; afterwards as before."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
