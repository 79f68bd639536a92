"""The images of a trial: which of them are subset, validation and audit, ready on the device.

A data set is loaded once per process; each split is one uint8 tensor, or is fetched by the batch
where there is no room for it, and is normalised by the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpogen.training.data.image_data import ImageData
from hpogen.training.data.loaded import fits, load, moments
from hpogen.training.data.pictures import Pictures
from hpogen.training.data.splits import Indices, part, redrawn, splits, wrong_labels
from hpogen.training.forms.dataset import BY_TRIAL, Dataset, key
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.trial import derive_seed


@dataclass(frozen=True)
class ByBatch:
    """Images that are not on the device: fetched when asked for, from memory or from their files.

    `images[chosen]` is what it would be of a tensor: (n, C, H, W) uint8 on the device.
    """

    source: NDArray[np.uint8] | Pictures
    rows: Indices  # of the source
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        places = chosen if isinstance(chosen, slice) else chosen.cpu().numpy()
        images = torch.from_numpy(self.source[self.rows[places]])
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class Images:
    """One split. Its images are read by `images[chosen]`, a tensor of indices or a slice."""

    images: Tensor | ByBatch  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, on the device

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The images (n, C, H, W) uint8 and the labels (n,) at `chosen` (n,), for a batch."""
        images, labels = self.images, self.labels.index_select(0, chosen)
        if isinstance(images, Tensor):  # on a CPU a tenth of the time of `images[chosen]`
            return images.index_select(0, chosen), labels
        return images[chosen], labels

    def select(self, chosen: Tensor) -> Images:
        """Those images, in that order."""
        if isinstance(self.images, Tensor):
            return Images(self.images[chosen], self.labels[chosen])
        rows = self.images.rows[chosen.cpu().numpy()]
        return Images(replace(self.images, rows=rows), self.labels[chosen])


@dataclass(frozen=True)
class Normalization:
    """The mean and the standard deviation of each channel over the standard training set."""

    mean: Tensor  # (1, C, 1, 1)
    scale: Tensor  # (1, C, 1, 1), one over the standard deviation

    def __call__(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        values = torch.sub(images, self.mean).mul_(self.scale)  # the cast is part of the first
        return values.contiguous(memory_format=memory_format)


@dataclass(frozen=True)
class Prepared:
    """All that a trial reads, once `data_for` has made the trial's own of what `prepare` gave.

    Where validation is redrawn, `prepare` gives all images that it may be drawn from.
    """

    subset: Images
    validation: Images
    audit: Images
    normalization: Normalization
    in_shape: tuple[int, int, int]
    classes: int
    rows: Indices  # of the subset, in the standard training set
    drawn: Indices | None  # (classes,) how many validation images of each class are drawn
    class_names: tuple[str, ...] = ()


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
        return replace(self, split=self.split.select(chosen))


def prepare(dataset: Dataset, device: torch.device, data: float | None = None) -> Prepared:
    """The splits of a data set on the device, made once per process.

    With `data` another fraction of the training set in the place of the subset; validation and
    audit are the same.
    """
    known = key(dataset, BY_TRIAL)
    prepared = _prepare(known, device)
    if data is None or data == dataset.subset:
        return prepared
    rows, subset = _part(known, device, data)
    return replace(prepared, subset=subset, rows=rows)


def data_for(
    prepared: Prepared, dataset: Dataset, values: Hyperparameters, trial_seed: int
) -> Prepared:
    """What one trial reads: labels of the subset corrupted, validation images redrawn.

    The images stay where they are; validation and audit keep their right labels.
    """
    subset, validation = prepared.subset, prepared.validation
    if values.corruption > 0:
        seed = dataset.seed if dataset.corruption.seed is None else dataset.corruption.seed
        seed = derive_seed(seed, "corruption")
        places, wrong = wrong_labels(prepared.rows, values.corruption, prepared.classes, seed)
        labels = subset.labels.clone()
        labels[_on(labels.device, places)] = _on(labels.device, wrong)
        subset = replace(subset, labels=labels)
    if prepared.drawn is not None:
        seed = derive_seed(trial_seed, "validation")
        places = redrawn(validation.labels.cpu().numpy(), prepared.drawn, seed)
        validation = validation.select(_on(validation.labels.device, places))
    return replace(prepared, subset=subset, validation=validation)


def _on(device: torch.device, values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).to(device)


@functools.lru_cache(maxsize=8)
def _part(dataset: Dataset, device: torch.device, fraction: float) -> tuple[Indices, Images]:
    data = load(dataset)
    rows = part(dataset, data.train_labels, fraction)
    resident = _resident(dataset, data, len(rows), device)
    return rows, _images(data.train_images, data.train_labels, rows, resident, device)


@functools.lru_cache(maxsize=2)
def _prepare(dataset: Dataset, device: torch.device) -> Prepared:
    data = load(dataset)
    split = splits(dataset, data.train_labels)
    train, test = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    validation = split.outside if dataset.redraws else split.validation
    chosen = [(*train, split.subset), (*train, validation), (*train, split.audit)]
    if isinstance(dataset.audit, str):
        chosen[2] = (*test, np.arange(len(data.test_labels)))
    resident = _resident(dataset, data, sum(len(rows) for _, _, rows in chosen), device)
    subset, validating, audit = (_images(*each, resident, device) for each in chosen)
    return Prepared(
        subset,
        validating,
        audit,
        _normalization(data, device),
        data.in_shape,
        data.classes,
        split.subset,
        np.bincount(data.train_labels[split.validation], minlength=data.classes)
        if dataset.redraws
        else None,
        data.class_names,
    )


def _resident(dataset: Dataset, data: ImageData, count: int, device: torch.device) -> bool:
    """Whether so many of its images are kept on the device."""
    size = count * int(np.prod(data.in_shape))
    pictures = isinstance(data.train_images, Pictures)
    return not pictures and fits(dataset, size, device, "copied by the batch")


def _images(
    images: NDArray[np.uint8] | Pictures,
    labels: NDArray[np.int64],
    rows: Indices,
    resident: bool,
    device: torch.device,
) -> Images:
    chosen = _on(device, images[rows]) if resident else ByBatch(images, rows, device)
    return Images(chosen, _on(device, labels[rows]))


def _normalization(data: ImageData, device: torch.device) -> Normalization:
    mean, scale = data.moments or moments(data.train_images)
    channels = (1, -1, 1, 1)
    return Normalization(
        torch.tensor(mean, device=device).view(channels),
        torch.tensor(scale, device=device).view(channels),
    )
