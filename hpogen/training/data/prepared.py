"""The data of a trial: which samples are subset, validation and audit, ready on the device.

A data set is loaded once per process; on a GPU each split is one tensor (or one for each name).
Where there is no room for it, and on a CPU, a batch is fetched when it is asked for, from the data
set where it lies. It is standardised by the batch.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpogen.training.data.data import Array, Data, Samples, Table
from hpogen.training.data.fitted import ByName, Fit, Normalization, fitted, standard
from hpogen.training.data.fitted_table import of_table, seen
from hpogen.training.data.loaded import fits, load, moments
from hpogen.training.data.parts import splits_of
from hpogen.training.data.pictures import Pictures
from hpogen.training.data.reading import ByBatch, Named, Split
from hpogen.training.data.splits import Indices, part, redrawn, wrong_labels
from hpogen.training.data.stream import Streamed
from hpogen.training.forms.dataset import BY_TRIAL, Dataset, key
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.kinds import Kind
from hpogen.training.forms.tokens import Tokens
from hpogen.trial import derive_seed


@dataclass(frozen=True)
class Prepared:
    """All that a trial reads, once `data_for` has made the trial's own of what `prepare` gave.

    Where validation is redrawn, `prepare` gives all images that it may be drawn from.
    """

    subset: Split
    validation: Split
    audit: Split
    normalization: Fit
    unit: Normalization | None  # what real targets are standardised by
    in_shape: Any  # of a sample: of named inputs a mapping of shapes
    dtype: Any  # as the model sees them: of named inputs a mapping
    target: Kind
    outputs: int  # of the model
    rows: Indices  # of the subset, in the standard training set
    drawn: Indices | None  # (classes,) how many validation samples of each class are drawn
    class_names: tuple[str, ...] = ()
    cardinalities: tuple[int, ...] = ()  # how many numbers each column of categories has
    tokens: Tokens | None = None
    images: bool = False
    table: Table | None = None  # as of the `Data`
    lines: bytes | None = None

    @property
    def model_inputs(self) -> Inputs:
        """What a model is built for."""
        return Inputs(
            self.in_shape, self.outputs, self.target.name, self.dtype, self.tokens,
            self.cardinalities,
        )  # fmt: skip


def prepare(
    dataset: Dataset, device: torch.device, data: float | None = None, part: int | None = None
) -> Prepared:
    """The splits of a data set on the device, made once per process.

    With `data` another fraction of the training set in the place of the subset; validation and
    audit are the same. `part` is the training of a trial that is several.
    """
    known = key(dataset, BY_TRIAL)
    prepared = _prepare(known, device, part)
    if data is None or data == dataset.subset:
        return prepared
    return replace(prepared, **_part(known, device, data))


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
        classes = prepared.target.classes(prepared.outputs)
        places, wrong = wrong_labels(prepared.rows, values.corruption, classes, seed)
        targets = subset.targets.clone()
        targets[_on(targets.device, places)] = _on(targets.device, wrong)
        subset = replace(subset, targets=targets)
    if prepared.drawn is not None:
        seed = derive_seed(trial_seed, "validation")
        strata = prepared.target.strata(validation.targets.cpu().numpy())
        places = redrawn(strata, prepared.drawn, seed)
        validation = validation.select(_on(validation.targets.device, places))
    return replace(prepared, subset=subset, validation=validation)


def _on(device: torch.device, values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).to(device)


@functools.lru_cache(maxsize=8)
def _part(dataset: Dataset, device: torch.device, fraction: float) -> dict[str, Any]:
    """The subset of another fraction: what is of it in a Prepared."""
    data = load(dataset)
    rows = part(dataset, data.strata, fraction, data.division)
    subset = _split(data.train, rows, _resident(dataset, data, len(rows), device), device)
    return {"subset": subset, "rows": rows, **_fitted(dataset, rows, device)}


@functools.lru_cache(maxsize=2)
def _prepare(dataset: Dataset, device: torch.device, part: int | None) -> Prepared:
    data = load(dataset)
    split = splits_of(dataset, data.strata, data.division, part)
    validation = split.outside if dataset.redraws else split.validation
    chosen = [(data.train, split.subset), (data.train, validation), (data.train, split.audit)]
    if isinstance(dataset.audit, str):
        chosen[2] = (data.test, np.arange(len(data.test)))
    resident = _resident(dataset, data, sum(len(rows) for _, rows in chosen), device)
    subset, validating, audit = (_split(*each, resident, device) for each in chosen)
    return Prepared(
        subset,
        validating,
        audit,
        target=data.target,
        outputs=data.outputs,
        rows=split.subset,
        drawn=np.bincount(data.strata[split.validation], minlength=data.classes)
        if dataset.redraws
        else None,
        class_names=data.class_names,
        tokens=data.tokens,
        images=data.images,
        table=data.table,
        lines=data.lines,
        **_fitted(dataset, split.subset, device),
    )


def in_place(array: NDArray[Any]) -> Tensor:
    """The array as a tensor of the same memory, to be read alone: it may not be writable."""
    with warnings.catch_warnings(action="ignore"):
        return torch.from_numpy(array if min(array.strides) >= 0 else array.copy())


def _resident(dataset: Dataset, data: Data, count: int, device: torch.device) -> bool:
    """Whether so many of its samples are copied to the device, and kept there."""
    if device.type == "cpu" or isinstance(data.train.inputs, Pictures | Streamed):
        return False
    return fits(dataset, count * data.sample_bytes, device, "copied by the batch")


def _split(samples: Samples, rows: Indices, resident: bool, device: torch.device) -> Split:
    places = torch.from_numpy(rows)

    def held(part: Array) -> Tensor | ByBatch:
        if resident:
            return _on(device, part[rows])
        source = part if isinstance(part, Pictures | Streamed) else in_place(part)
        return ByBatch(source, places, device)

    inputs, targets = samples.inputs, _on(device, samples.targets[rows])
    if isinstance(inputs, Mapping):
        return Split(Named({name: held(part) for name, part in inputs.items()}), targets)
    return Split(held(inputs), targets)


def _fitted(dataset: Dataset, rows: Indices, device: torch.device) -> dict[str, Any]:
    """What inputs and targets are standardised by, as it stands in a Prepared."""
    data = load(dataset)
    inputs = data.train.inputs
    known: dict[str, Any] = {"in_shape": data.in_shape, "dtype": data.dtype}
    if data.images:  # one for every subset
        fit: Fit = _of_images(dataset, device)
    elif data.table is not None:
        fit = of_table(inputs, data.table, rows, device)
        known = seen(fit, inputs, device)
    elif isinstance(inputs, Mapping):
        fit = ByName({name: fitted(part, rows, device) for name, part in inputs.items()})
    else:
        fit = fitted(inputs, rows, device)
    real = data.target.name == "real"
    return {
        **known,
        "normalization": fit,
        "unit": standard(data.train.targets, rows, device) if real else None,
    }


@functools.lru_cache(maxsize=4)
def _of_images(dataset: Dataset, device: torch.device) -> Normalization:
    data = load(dataset)
    mean, scale = data.moments or moments(cast(Array, data.train.inputs))
    channels = (1, -1, 1, 1)
    return Normalization(
        torch.tensor(mean, device=device).view(channels),
        torch.tensor(scale, device=device).view(channels),
    )
