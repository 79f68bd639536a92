"""The images that `hpogen predict` is given: files, folders of them, and .npz archives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpogen.answer.sources import ARCHIVE, Net, Source, numbered
from hpogen.errors import UserError, explained
from hpogen.training.data.listing import Listing, endings, is_image
from hpogen.training.data.numpy import read_images
from hpogen.training.data.pictures import Pictures, look, opened

NAME = "FILES"  # what errors call the data

log = logging.getLogger(__name__)


def sources(net: Net, paths: Sequence[Path]) -> list[Source]:
    """The images of each path; files are decoded when they are asked for.

    A warning counts gray pictures where the network knows colours. Raises UserError.
    """
    found = [_source(net, path) for path in paths]
    if coloured := sum(gray for _, gray in found):
        log.warning(f"{coloured} gray among the pictures: taken as colour ones, as in the training")
    return [source for source, _ in found]


def _source(net: Net, path: Path) -> tuple[Source, int]:
    """What gives the images (n, C, H, W) uint8 of any rows, and how many gain colours."""
    files = _files(path)
    if files == [path] and path.suffix.lower() == ARCHIVE:
        images = read_images(path)
        _check_shape(net, images.shape[1:], str(path))
        return Source(numbered(path, len(images)), _taken(images)), 0
    pictures, coloured = _pictures(net, path, files)
    return Source([(str(file), "") for file in files], _taken(pictures)), coloured


def _taken(images: Any) -> Any:
    return lambda part: torch.from_numpy(
        np.ascontiguousarray(images[np.arange(part.start, part.stop)])
    )


def _files(path: Path) -> list[Path]:
    """The file itself, or those of images in a folder, however deep."""
    with explained(path, UserError, "read"):
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise UserError(f"{path}: there is no such file or folder")
        files = [file for file in sorted(path.rglob("*")) if is_image(file)]
    if not files:
        raise UserError(f"{path}: no image is in it: expected {', '.join(endings())}")
    return files


def _pictures(net: Net, root: Path, files: Sequence[Path]) -> tuple[Pictures, int]:
    """The files' pictures, and how many gray ones decoding gives three channels."""
    items = Listing(root, [], [(str(file), 0) for file in files])
    seen, size = look(items, NAME), net.header.size
    channels, height, width = net.in_shape
    if size is None:
        for file, (w, h) in zip(files, seen.sizes.tolist(), strict=True):
            _check_shape(net, (channels, h, w), str(file))
    if channels == 1 and not seen.gray.all():
        i = int(np.argmin(seen.gray))  # the first that is not
        mode = opened(items, i, NAME, lambda picture, _: picture.mode)
        raise UserError(
            f"{files[i]}: is a picture in colour ({mode}), and the network was trained on gray "
            "ones: convert it"
        )
    coloured = int(seen.gray.sum()) * (channels > 1)
    return Pictures(items, (len(files), channels, height, width), size, NAME), coloured


def _check_shape(net: Net, shape: tuple[int, ...], where: str) -> None:
    if shape != net.in_shape:
        (c, h, w), (channels, height, width) = shape, net.in_shape
        raise UserError(
            f"{where}: got {h}×{w} pixels in {c} {'channel' if c == 1 else 'channels'}, expected "
            f"{height}×{width} in {channels}, as the network was trained on: resize the images"
        )
