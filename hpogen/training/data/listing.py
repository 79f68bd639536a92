"""Which images stand in a folder of classes; `folder.py` calls it.

The order is that of torchvision's ImageFolder. Unlike there, no folder is read twice, however many
links lead to it, and names that begin with a dot are skipped.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image

from hpogen.errors import UserError
from hpogen.training.vision import torchvision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Item i is (picture, class): `samples[i]` with its file opened."""

    root: Path
    classes: list[str]
    samples: list[tuple[str, int]]  # file and number of the class

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        file, label = self.samples[i]
        return Image.open(file), label


def listed(base: Path, name: str) -> Listing:
    """The images of `base/CLASS/…`, sorted; `name` is the data set's.

    Raises UserError for a class without images and for what cannot be read. What is left out is
    said in the log.
    """
    expected = f"expected {base}/CLASS/IMAGE with {', '.join(endings())}"
    folders, again = _folders(base, name)
    classes = sorted({_class(base, one) for one in (*folders, *again) if one != base})
    if not classes:
        raise UserError(f"data set {name!r}: no folders of classes: {expected}")
    numbers = {label: number for number, label in enumerate(classes)}
    samples: list[tuple[str, int]] = []
    other: Counter[str] = Counter()
    below = [one for one in folders if one != base]
    for folder in sorted(below, key=lambda one: (_class(base, one), str(one))):  # torchvision's
        for file in _files(folder):
            if not is_image(file):
                other[_kind(file)] += 1
            else:
                samples.append((str(file), numbers[_class(base, folder)]))
    _say(name, base, other, again)
    filled = {label for _, label in samples}
    for label, number in numbers.items():
        if number not in filled:
            raise UserError(f"data set {name!r}: class {label!r} has no images: {expected}")
    return Listing(base, classes, samples)


def endings() -> tuple[str, ...]:
    """Of files of images, in small letters."""
    found: tuple[str, ...] = torchvision().datasets.folder.IMG_EXTENSIONS
    return found


def is_image(file: Path) -> bool:
    """By its name; hidden files are not."""
    return file.suffix.lower() in endings() and not file.name.startswith(".")


def _folders(base: Path, name: str) -> tuple[list[Path], list[Path]]:
    """`base` and the folders below it, each once, and the links to what is read in another place.

    A folder is read where it stands rather than through a link, whichever comes first.
    """

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"data set {name!r}: {error.filename} cannot be read: {error.strerror}")

    real = base.resolve()
    seen = {_identity(one) for one in real.parents}  # a link to one of them is a circle
    found: list[Path] = []
    again: list[Path] = []
    waiting = deque([base])
    while waiting:
        top = waiting.popleft()
        if _identity(top) in seen:
            again.append(top)
            continue
        for root, names, _ in os.walk(top, onerror=refuse):
            folder = Path(root)
            found.append(folder)
            seen.add(_identity(folder))
            names[:] = sorted(one for one in names if not one.startswith("."))
            waiting += [folder / one for one in names if (folder / one).is_symlink()]
            names[:] = [one for one in names if _identity(folder / one) not in seen]
    return found, again


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _class(base: Path, folder: Path) -> str:
    return folder.relative_to(base).parts[0]


def _files(folder: Path) -> Iterator[Path]:
    """What is neither a folder nor a pipe, which would never end; a broken link is named later."""
    with os.scandir(folder) as entries:
        files = [one.name for one in entries if one.is_file() or one.is_symlink() > one.is_dir()]
    return (folder / name for name in sorted(files))


def _kind(file: Path) -> str:
    """`.txt`, the name of a file without a suffix, `.*.png` for hidden ones."""
    hidden = ".*" if file.name.startswith(".") and file.suffix else ""
    return hidden + file.suffix.lower() or file.name


def _say(name: str, base: Path, other: Counter[str], again: list[Path]) -> None:
    if other:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(other.items()))
        text = "data set %r: files in %s that are no images are left out: %.200s"
        log.warning(text, name, base, kinds)
    if again:
        links = ", ".join(str(one.relative_to(base)) for one in again)
        text = "data set %r: links in %s to folders that are read elsewhere are left out: %.200s"
        log.warning(text, name, base, links)
