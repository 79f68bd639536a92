"""A data set, loaded once per process; in a Ray worker what the driver has loaded.

`prepared.py` splits it; `ImageClassification.prepare` and the Ray executor load it beforehand.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hpogen import plugins
from hpogen.errors import NoTestImages, UserError
from hpogen.plugins import DEFAULT_TASK
from hpogen.training.data.copies import separated
from hpogen.training.data.data import Array, Data, Samples, checked, of_images
from hpogen.training.data.image_data import ImageData, Moments, check
from hpogen.training.data.parts import splits_of
from hpogen.training.data.pictures import Pictures
from hpogen.training.data.splits import Indices, splits
from hpogen.training.data.stream import Streamed
from hpogen.training.forms.dataset import BY_SPLIT, BY_TRIAL, Dataset, key
from hpogen.training.forms.known import FILES
from hpogen.training.memory import free_memory

log = logging.getLogger(__name__)

SAMPLED = 10_000  # pictures, at most, that the moments of a data set of files are computed from


def load(dataset: Dataset) -> Data:
    """The data set, loaded once per process.

    Raises UserError when it is neither on disk nor to be downloaded, is damaged, or does not have
    the images that the splits need.
    """
    known = key(dataset, BY_SPLIT)
    data = _load(known)
    if data.division is not None and dataset.redraws:
        raise UserError(
            f"data set {dataset.name!r}: validation.redraw draws single rows, and they are divided "
            f"by {data.division.by}: drop one of the two"
        )
    if isinstance(dataset.audit, str) and not len(data.test):
        raise _no_test_images(dataset)
    try:
        dataset.counts(len(data.train))
        if dataset.balanced or data.division is not None or dataset.parts.number > 1:
            _check_splits(key(dataset, BY_TRIAL))
    except ValueError as error:
        raise UserError(str(error)) from None
    if data.copies and known not in _given:
        _warn_of_copies(key(dataset, BY_TRIAL))
    return data


@functools.lru_cache(maxsize=16)
def _check_splits(dataset: Dataset) -> None:
    """Raise ValueError where a trial's splits cannot be made."""
    data = _load(key(dataset, BY_SPLIT))
    for part in dataset.parts.each:
        splits_of(dataset, data.strata, data.division, part)


def _no_test_images(dataset: Dataset) -> NoTestImages:
    path = dataset.options().get("path")
    mend = {
        "folder": f"put them into {path}/test/CLASS beside {path}/train/CLASS",
        "numpy": f"put them into {path} as x_test and y_test",
        **dict.fromkeys(FILES, "name a file of them as test_path"),
        "text": "name their lines with test_path",
    }
    text = (
        f"data set {dataset.name!r} has no test set, which audit: {dataset.audit} (and hpogen "
        f"retrain) needs: expected a number of {dataset.noun}"
    )
    return NoTestImages(text, dataset.name, mend.get(dataset.name, ""), dataset.noun)


@functools.lru_cache(maxsize=16)  # once for each split
def _warn_of_copies(dataset: Dataset) -> None:
    data = _load(key(dataset, BY_SPLIT))
    found, total = splits(dataset, data.strata, data.division), len(data.train)
    sides = {
        "subset": found.subset,
        "validation": found.outside if dataset.redraws else found.validation,
        "audit": found.audit,
        "test": np.arange(total, total + len(data.test)),
    }
    for part in range(dataset.folds):  # which are the subset's
        fold = splits_of(dataset, data.strata, data.division, part).validation
        sides |= {"subset": found.validation, f"fold {part}": fold}
    if pairs := separated(data.copies, sides):
        log.warning(
            "data set %r: %d images stand on more than one side of a split, in identical files, "
            "such as %s and %s: figures of held-out images come out too good",
            dataset.name, len(pairs), *pairs[0],
        )  # fmt: skip


def give(dataset: Dataset, data: Data) -> None:
    """Use `data` as the data set from now on: a worker gets what the driver has loaded."""
    _given[key(dataset, BY_SPLIT)] = data


_given: dict[Dataset, Data] = {}


@functools.lru_cache(maxsize=2)
def _load(dataset: Dataset) -> Data:
    if dataset in _given:
        return _given[dataset]
    loader = dataset.loader
    options = dataset.options()
    if "download" in plugins.options_of(loader):
        options["download"] = dataset.download
    if "kind" in plugins.options_of(loader) and dataset.kind is not None:
        options["kind"] = dataset.kind.name
    return _settled(_checked(loader(dataset.folder(), **options), dataset), dataset)


def _checked(given: object, dataset: Dataset) -> Data:
    """What a loader gave, as the training reads it. Raises UserError."""
    where = f"data set {dataset.name!r}"
    if isinstance(given, ImageData):
        check(given, dataset.name)
        given = data = of_images(given)
        if dataset.kind is None or dataset.kind.name == data.kind:
            return data
    if not isinstance(given, Data):
        raise UserError(
            f"{where}: the loader gave a {type(given).__name__}, expected an ImageData or a Data "
            "of hpogen.training.data"
        )
    if dataset.kind is not None and dataset.kind.name != given.kind:
        given = replace(given, kind=dataset.kind.name, outputs=0)
    path = dataset.options().get("path")
    found = checked(given, f"{where} ({path})" if path else where)
    if dataset.images and not (found.images and found.kind == "classes"):
        raise UserError(
            f"{where}: has {found.kind} targets of {found.in_shape} inputs, and {DEFAULT_TASK} "
            "takes classes of uint8 images (N, C, H, W): write task: {name: supervised, …}"
        )
    return found


def _settled(data: Data, dataset: Dataset) -> Data:
    """The same with its training images decoded, if they are to be and there is room for them.

    The moments of pictures come from a sample wherever the pictures are: no number may depend on
    the memory that a machine has.
    """
    inputs: Any = data.train.inputs
    if isinstance(inputs, Streamed) and dataset.resident is True:
        raise UserError(
            f"data set {dataset.name!r}: got resident: true, and its samples are streamed, item by "
            "item: drop resident, or give arrays"
        )
    if not isinstance(inputs, Pictures | Streamed) or not data.images:
        return data
    if isinstance(inputs, Pictures) and fits(
        dataset, inputs.nbytes, torch.device("cpu"), "decoded by the batch"
    ):
        inputs = inputs[np.arange(len(inputs))]
    chosen = np.arange(min(SAMPLED, len(inputs))) * len(inputs) // min(SAMPLED, len(inputs))
    train = Samples(inputs, data.train.targets)
    return replace(data, train=train, moments=data.moments or moments(inputs, chosen))


def fits(dataset: Dataset, nbytes: int, device: torch.device, otherwise: str) -> bool:
    """Whether so many images are all kept on the device; the log says where they are not."""
    if isinstance(dataset.resident, bool):
        return dataset.resident
    free = free_memory(device)
    if nbytes > free // 2:
        text = "data set %r: %.1f GB of %s, %.1f GB free on %s: they are %s"
        sizes = nbytes / 1e9, dataset.noun, free / 1e9
        log.warning(text, dataset.name, *sizes, device, otherwise)
    return nbytes <= free // 2


def moments(images: Array, rows: Indices | None = None) -> Moments:
    """Of those images (default: all), from exact sums of integers."""
    rows = np.arange(len(images)) if rows is None else rows
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for stretch in np.array_split(rows, max(1, len(rows) // 1000)):
        chunk = images[stretch]
        for channel in range(len(counts)):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values, means, scales = np.arange(256), [], []
    for of_channel in counts:
        total = int(of_channel.sum())
        mean = int(of_channel @ values) / total
        variance = int(of_channel @ values**2) / total - mean**2
        means.append(mean)
        scales.append(variance**-0.5 if variance > 0 else 1.0)
    return means, scales
