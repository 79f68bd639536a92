"""What a network says of images, as a table: `hpogen predict`."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpogen.answer.ensemble import EnsemblePredictor
from hpogen.errors import UserError, explained
from hpogen.record.folder import replace_file
from hpogen.training.data.listing import Listing, endings, is_image
from hpogen.training.data.numpy import read_images
from hpogen.training.data.pictures import Pictures, look, opened
from hpogen.training.predictor import Predictor

NAME = "IMAGES"  # what errors call the data
ARCHIVE = ".npz"

log = logging.getLogger(__name__)

Net = Predictor | EnsemblePredictor
Row = tuple[str, str]
"""A file, and the image's number in it where that is an archive."""


def predict(net: Net, images: Sequence[Path], out: Path) -> int:
    """Write a CSV file with a row per image: file, row, class and its probabilities; how many.

    `images` are files, folders with files in them, however deep, and .npz files of one array.
    Pictures are decoded as the data set was that the network was trained on. Raises UserError for
    what is not an image of the network's size and kind, and has written nothing then.
    """
    sources = [_source(net, path) for path in images]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "row", "class", *(f"p_{name}" for name in net.class_names)])
    count = 0
    if coloured := sum(gray for *_, gray in sources):
        log.warning(f"{coloured} gray among the pictures: taken as colour ones, as in the training")
    for rows, source, _ in sources:
        for start in range(0, len(rows), net.batch):
            chosen = np.arange(start, min(start + net.batch, len(rows)))
            for row, shares in zip(rows[start:], _shares(net, source[chosen]), strict=False):
                name = net.class_names[int(np.argmax(shares))]
                writer.writerow([*row, name, *(f"{share:.6g}" for share in shares)])
                count += 1
    with explained(out, UserError):
        replace_file(out, table.getvalue().encode())
    return count


def _shares(net: Net, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The classes' probabilities, (n, classes)."""
    logits = net(torch.from_numpy(np.ascontiguousarray(images)))  # (n, classes)
    found: NDArray[np.float64] = logits.detach().double().softmax(1).cpu().numpy()
    return found


def _source(net: Net, path: Path) -> tuple[list[Row], Any, int]:
    """Rows, what gives the images (n, C, H, W) uint8 of any of them, and how many gain colours."""
    files = _files(path)
    if files == [path] and path.suffix.lower() == ARCHIVE:
        images = read_images(path)
        _check_shape(net, images.shape[1:], str(path))
        return [(str(path), str(row)) for row in range(len(images))], images, 0
    return [(str(file), "") for file in files], *_pictures(net, path, files)


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
