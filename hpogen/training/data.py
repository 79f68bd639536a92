"""The images of a trial: which of them are subset, validation and audit, ready on the device.

A data set is loaded once per process; each split is one uint8 tensor, normalised by the batch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.training.dataset import Dataset

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ImageData:
    """A data set as its loader gives it: the standard training and test set.

    Images are uint8 (N, C, H, W), labels int64 (N,) in [0, classes).
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    name: str

    @property
    def in_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Splits:
    """Indices into the standard training set: rising, and no two splits share one."""

    subset: Indices
    validation: Indices
    audit: Indices


@dataclass(frozen=True)
class Images:
    """One split on the device."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Normalization:
    """The mean and the standard deviation of each channel over the standard training set."""

    mean: Tensor  # (1, C, 1, 1)
    scale: Tensor  # (1, C, 1, 1), one over the standard deviation

    def __call__(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        values = images.to(torch.float32, memory_format=memory_format)
        return values.sub_(self.mean).mul_(self.scale)


@dataclass(frozen=True)
class Prepared:
    """All that a trial reads."""

    subset: Images
    validation: Images
    audit: Images
    normalization: Normalization
    in_shape: tuple[int, int, int]
    classes: int


@dataclass(frozen=True)
class Batches:
    """Normalised `(images, labels)` of a split in its order, as often as they are asked for."""

    split: Images
    normalization: Normalization
    memory_format: torch.memory_format
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.split), self.size):
            stop = start + self.size
            images = self.normalization(self.split.images[start:stop], self.memory_format)
            yield images, self.split.labels[start:stop]

    def sample(self, count: int | None) -> Batches:
        """The same with `count` images, evenly spaced in the split's order."""
        if count is None or count >= len(self.split):
            return self
        device = self.split.labels.device
        chosen = torch.arange(count, device=device) * len(self.split) // count
        images = Images(self.split.images[chosen], self.split.labels[chosen])
        return Batches(images, self.normalization, self.memory_format, self.size)


def load(dataset: Dataset) -> ImageData:
    """The data set, loaded once per process.

    Raises UserError when it is neither on disk nor to be downloaded.
    """
    return _load(_key(dataset))


def give(dataset: Dataset, data: ImageData) -> None:
    """Use `data` as the data set from now on: a worker gets what the driver has loaded."""
    _given[_key(dataset)] = data


def prepare(dataset: Dataset, device: torch.device) -> Prepared:
    """The splits of a data set on the device, made once per process."""
    return _prepare(_key(dataset), device)


def _key(dataset: Dataset) -> str:
    return json.dumps(dataset.model_dump(mode="json"), sort_keys=True)


_given: dict[str, ImageData] = {}


@functools.lru_cache(maxsize=2)
def _load(key: str) -> ImageData:
    if key in _given:
        return _given[key]
    dataset = Dataset.model_validate_json(key)
    loader = plugins.datasets.get(dataset.name)
    options = dataset.options()
    if "download" in plugins.options_of(loader):
        options["download"] = dataset.download
    data: ImageData = loader(dataset.folder(), **options)
    _check(data, dataset.name)
    try:
        dataset.counts(len(data.train_labels))
    except ValueError as error:
        raise UserError(str(error)) from None
    return data


@functools.lru_cache(maxsize=2)
def _prepare(key: str, device: torch.device) -> Prepared:
    dataset = Dataset.model_validate_json(key)
    data = _load(key)
    split = splits(dataset, data.train_labels)

    def images(indices: Indices) -> Images:
        chosen = torch.from_numpy(data.train_images[indices])
        return Images(chosen.to(device), torch.from_numpy(data.train_labels[indices]).to(device))

    audit = images(split.audit)
    if isinstance(dataset.audit, str):
        test = torch.from_numpy(data.test_images), torch.from_numpy(data.test_labels)
        audit = Images(test[0].to(device), test[1].to(device))
    mean, scale = moments(data.train_images)
    channels = (1, -1, 1, 1)
    return Prepared(
        images(split.subset),
        images(split.validation),
        audit,
        Normalization(
            torch.tensor(mean, device=device).view(channels),
            torch.tensor(scale, device=device).view(channels),
        ),
        data.in_shape,
        data.classes,
    )


def splits(dataset: Dataset, labels: Indices) -> Splits:
    """Subset, validation and audit of a training set with these labels, by `dataset.seed`.

    One stratified order serves all: the subset is its head, validation its tail, audit what comes
    before that. So each split has the classes' proportions to within about an image, and a smaller
    subset or validation set is contained in a larger one.
    """
    subset, validation, audit = dataset.counts(len(labels))
    order = stratified_order(labels, dataset.seed)
    end = len(labels) - validation
    return Splits(np.sort(order[:subset]), np.sort(order[end:]), np.sort(order[end - audit : end]))


def stratified_order(labels: Indices, seed: int) -> Indices:
    """A random order whose every stretch has the classes' proportions.

    The j-th of the n images of a class stands at (j + ½)/n. Only the raw 64-bit stream of PCG64 is
    used, which numpy promises not to change.
    """
    random = np.random.PCG64(seed).random_raw(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shuffled = members[np.argsort(random[members], kind="stable")]
        place[shuffled] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((random, place))


def moments(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Per channel the mean and one over the standard deviation, from exact sums of integers."""
    means, scales = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for chunk in np.array_split(images[:, channel], max(1, len(images) // 1000)):
            counts += np.bincount(chunk.ravel(), minlength=256)
        values = np.arange(256)
        total = int(counts.sum())
        mean = int(counts @ values) / total
        variance = int(counts @ values**2) / total - mean**2
        means.append(mean)
        scales.append(variance**-0.5 if variance > 0 else 1.0)
    return means, scales


def _check(data: ImageData, name: str) -> None:
    """What a plug-in's loader may get wrong, told before training."""
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        if images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(
                f"data set {name!r}: {part}_images are {images.dtype} {images.shape}, "
                "expected uint8 (N, C, H, W)"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise UserError(
                f"data set {name!r}: {part}_labels are {labels.dtype} {labels.shape}, "
                f"expected int64 {images.shape[:1]}"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < data.classes):
            raise UserError(f"data set {name!r}: {part}_labels are not in [0, {data.classes})")
