"""A data set as the training reads it, whatever its inputs and targets are.

`loaded.py` makes it of what a loader gives: of an `ImageData`, or it is one already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hpogen.errors import UserError, quoted
from hpogen.training.data.copies import Copies
from hpogen.training.data.image_data import ImageData, Moments
from hpogen.training.data.pictures import Pictures
from hpogen.training.data.splits import Division
from hpogen.training.data.stream import Items, Streamed, targets_of
from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.kinds import (
    Kind,
    KindName,
    as_targets,
    check_classes,
    check_values,
    kind_of,
)
from hpogen.training.forms.tokens import Tokens, check_ids, check_places

Array = NDArray[Any] | Pictures | Streamed
Rows = Array | Mapping[str, NDArray[Any]]
"""A row for each sample: of one array, or of each of a mapping's."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """Inputs, and the target of each row."""

    inputs: Rows
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    def none(self) -> Samples:
        """No rows, of such."""
        inputs: Any = self.inputs
        named = isinstance(inputs, Mapping)
        empty = {name: part[:0] for name, part in inputs.items()} if named else inputs[:0]
        return Samples(empty, self.targets[:0])


def streamed(
    dataset: Items, plain: Items | None = None, workers: int = 2, targets: Any = None
) -> Samples:
    """The samples of a map-style data set of torch's, read by the batch: see `Streamed`.

    Targets are `targets`, a row for each sample; else `dataset.targets`; else those that the items
    come with, for which all of them are read once.
    """
    inputs = Streamed(dataset, plain, workers)
    return Samples(inputs, np.asarray(targets_of(inputs) if targets is None else targets))


@dataclass(frozen=True)
class Table:
    """What the columns of a table are: its "numbers", or only input, and its "categories".

    A number may be missing (NaN). Of a column of categories its texts stand here in the order of
    their numbers. What is fitted to either is fitted to a trial's training subset.
    """

    numbers: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    missing: bool  # whether a number is
    separator: str = ","  # of a csv file

    @property
    def raw(self) -> tuple[Any, Any]:
        """The shape and type of a row's inputs, as `Data.in_shape` and `dtype` have them."""
        shapes = {"numbers": (len(self.numbers),), "categories": (len(self.categories),)}
        if not self.categories:
            return shapes["numbers"], "float32"
        there = [name for name, shape in shapes.items() if shape != (0,)]
        kinds = {"numbers": "float32", "categories": "int64"}
        return {name: shapes[name] for name in there}, {name: kinds[name] for name in there}


@dataclass(frozen=True)
class Data:
    """The standard training and test set; one without a test set has N = 0 there.

    Inputs are uint8, float32 or int64 of any shape, one array or a mapping of named ones; images
    are uint8 (N, C, H, W), or `Pictures`, which decode them when asked. Inputs that do not fit into
    memory, or are augmented one by one, are `Streamed`. Targets are of a `kind` of
    `forms/kinds.py`, for a model of so many `outputs` (left out, 0: as many as the training targets
    tell). `moments` are what images are normalised by; None: computed from all training images.
    `copies` are files with the same content, where images are files: rows of the training set, then
    of the test set. `class_names` has a name for each class or label, or none at all. `table` says
    what inputs are whose numbers may be missing, `division` what splits of the training rows go by,
    `tokens` that the inputs are token ids, and of how many. `lines` is the content of the
    tokenizer's file by which lines of text became those, empty where each byte is a token.
    """

    train: Samples
    test: Samples
    kind: KindName
    outputs: int = 0
    name: str = ""
    moments: Moments | None = None
    copies: Copies = ()
    class_names: tuple[str, ...] = ()
    table: Table | None = None
    division: Division | None = None
    tokens: Tokens | None = None
    lines: bytes | None = None

    @property
    def target(self) -> Kind:
        return kind_of(self.kind)

    @property
    def classes(self) -> int:
        """How many classes a sample may be of; 1: its target is no class."""
        return self.target.classes(self.outputs)

    @property
    def strata(self) -> NDArray[np.int64]:
        """Of the training set (N,): what splits keep the proportions of."""
        return self.target.strata(self.train.targets)

    @property
    def images(self) -> bool:
        """Whether the inputs are images."""
        inputs = self.train.inputs
        return (
            not isinstance(inputs, Mapping) and inputs.dtype == np.uint8 and len(inputs.shape) == 4
        )

    @property
    def in_shape(self) -> Any:
        """Of one sample: (C, H, W) of an image; of named arrays a mapping of shapes."""
        inputs = self.train.inputs
        if isinstance(inputs, Mapping):
            return {name: part.shape[1:] for name, part in inputs.items()}
        return inputs.shape[1:]

    @property
    def dtype(self) -> Any:
        """As a model sees it: images are standardised; of named arrays a mapping."""
        inputs = self.train.inputs
        if isinstance(inputs, Mapping):
            return {name: str(part.dtype) for name, part in inputs.items()}
        return "float32" if self.images else str(inputs.dtype)

    @property
    def model_inputs(self) -> Inputs:
        """What a model is built for; of a table with categories or gaps a subset tells the rest."""
        return Inputs(self.in_shape, self.outputs, self.kind, self.dtype, self.tokens)

    @property
    def sample_bytes(self) -> int:
        """What one sample's inputs take up."""
        inputs = self.train.inputs
        parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return sum(math.prod(part.shape[1:]) * part.dtype.itemsize for part in parts)


def of_images(data: ImageData) -> Data:
    """The data set of a loader of images, which has been checked."""
    return Data(
        Samples(data.train_images, data.train_labels),
        Samples(data.test_images, data.test_labels),
        "classes",
        data.classes,
        data.name,
        data.moments,
        data.copies,
        data.class_names,
    )


def checked(data: Data, where: str) -> Data:
    """The same with the types that the training reads. Raises UserError,
    beginning with `where` they are, for what is wrong in them."""
    kind = kind_of(data.kind)
    train = _samples(data, data.train, f"{where}: train")
    test = _samples(data, data.test, f"{where}: test")
    found = replace(data, train=train, test=test)
    if not len(train):
        raise UserError(f"{where}: train has no rows")
    shapes = [_shapes(part.inputs) for part in (train, test)]
    if len(test) and shapes[0] != shapes[1]:
        raise UserError(f"{where}: test inputs are {shapes[1]}, train inputs {shapes[0]}")
    outputs = data.outputs or kind.outputs(train.targets)
    if kind.name not in ("classes", "positions") and outputs != kind.outputs(train.targets):
        raise UserError(
            f"{where}: got outputs={outputs}, expected {kind.outputs(train.targets)} for targets "
            f"of the kind {kind.name!r} {train.targets.shape}"
        )
    found = replace(found, outputs=outputs)
    for part, samples in (("train", train), ("test", test)):
        check_values(kind, samples.targets, outputs, f"{where}: {part} targets")
        if data.tokens is not None:
            _check_tokens(data.tokens, samples, kind, f"{where}: {part}")
    check_classes(kind, train.targets, outputs * (not data.outputs), f"{where}: train targets")
    names = data.class_names
    count = found.classes if kind.classed else outputs
    if len(names) not in (0, count) or not all(isinstance(one, str) for one in names):
        raise UserError(
            f"{where}: class_names are {quoted(names)}, expected {count} strings, or none"
        )
    return found


def _check_tokens(tokens: Tokens, samples: Samples, kind: Kind, where: str) -> None:
    if isinstance(samples.inputs, Streamed):  # which looks at its ids by the batch
        samples = samples.none()
    check_ids(tokens, samples.inputs, where)
    if kind.name == "positions":
        check_places(tokens, cast(Any, samples.inputs), samples.targets, where)


def _samples(data: Data, given: Samples, where: str) -> Samples:
    inputs, targets, gaps = given.inputs, np.asarray(given.targets), data.table is not None
    if isinstance(inputs, Streamed):
        if gaps:
            raise UserError(f"{where}: a table is not streamed: give its inputs as arrays")
        inputs = replace(inputs, name=where, tokens=data.tokens)
    elif isinstance(inputs, Mapping):
        inputs = {n: _array(part, f"{where} input {n!r}", gaps) for n, part in inputs.items()}
    elif not isinstance(inputs, Pictures):
        inputs = _array(inputs, f"{where} inputs", gaps)
    parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    for part in parts:
        if len(part) != len(targets):
            raise UserError(f"{where}: {len(part)} inputs and {len(targets)} targets")
    return Samples(inputs, as_targets(data.target, targets, f"{where} targets"))


def _array(given: Any, where: str, gaps: bool) -> NDArray[Any]:
    array = np.asarray(given)
    if array.dtype.kind not in "biuf" or array.ndim < 1:
        raise UserError(f"{where} are {array.dtype} {array.shape}, expected numbers (N, …)")
    integers = "uint8" if array.dtype == np.uint8 else "int64"
    with np.errstate(over="ignore"):  # what is too large for float32 is told as such
        array = np.ascontiguousarray(array, "float32" if array.dtype.kind == "f" else integers)
    if array.dtype.kind == "f" and not gaps and array.size and not _finite(array):
        flat = array.reshape(len(array), -1)
        row = int((~np.isfinite(flat)).any(1).argmax())
        column = int((~np.isfinite(flat[row])).argmax())
        raise UserError(
            f"{where}: row {row}, column {column} is {flat[row, column]}, expected a number of "
            "float32: leave the row out, or fill it in"
        )
    return array


def _finite(array: NDArray[Any]) -> bool:
    """Whether all are, of some; NaN is passed on by both."""
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def _shapes(inputs: Rows) -> Any:
    if isinstance(inputs, Mapping):
        return {name: f"{part.dtype} {part.shape[1:]}" for name, part in inputs.items()}
    return f"{inputs.dtype} {inputs.shape[1:]}"
