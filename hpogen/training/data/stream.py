"""Inputs that a map-style `torch.utils.data.Dataset` gives one by one, read ahead by processes.

A plug-in's loader makes them; `reading.py` reads a trial's batches of them.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.random as numpy_random  # numpy would import it in every process that reads
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from hpogen.errors import UserError, shortened, text_of
from hpogen.measures.batches import kind_of
from hpogen.measures.passes import same_host_randomness
from hpogen.plugins.guest import guest
from hpogen.tasks import guard
from hpogen.training.forms.tokens import Tokens, check_ids
from hpogen.trial import derive_seed

Rows = NDArray[np.int64]

TYPES = (torch.uint8, torch.float32, torch.int64)
CHUNK = 256  # rows at a time, where an array is asked for


class Items(Protocol):
    """A map-style data set of torch's."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


class Form(NamedTuple):
    """What every input is like."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Streamed:
    """`streamed[rows]` is (n, …), read now; it stands for an array of inputs.

    `dataset[i]` is the input of sample i, or (input, target), of which the target is left out: a
    tensor or an array of uint8, float32 or int64, of one shape for all. `plain` has the same
    samples as they are evaluated and measured, without augmentation (None: as `dataset` has them).
    As many processes as `workers` read, and never the process itself; with 0 it reads alone.

    Torch's, Python's and NumPy's own random numbers are seeded before each item: by the trial, the
    epoch and the row for a training step, by the row alone otherwise. So items depend neither on
    `workers` nor on what was read before. Raises UserError, naming the row, for an item that cannot
    be had, or is not as the first one.
    """

    dataset: Items = field(repr=False)
    plain: Items | None = field(default=None, repr=False)
    workers: int = 2
    name: str = ""  # what errors call it
    tokens: Tokens | None = None  # that inputs are checked for

    def __post_init__(self) -> None:
        for items in (self.dataset, self._plain):
            if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
                raise UserError(
                    f"{self._called}: is a {type(items).__name__}, expected a map-style data set, "
                    "with __len__ and __getitem__"
                )
        if len(self._plain) != len(self.dataset):
            raise UserError(
                f"{self._called}: plain has {len(self._plain)} samples, expected the "
                f"{len(self.dataset)} of the data set itself"
            )
        if self.workers < 0:
            raise UserError(f"{self._called}: got workers={self.workers}, expected 0 or more")

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._form.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return torch.empty(0, dtype=self._form.dtype).numpy().dtype

    def __getitem__(self, rows: Rows | slice) -> NDArray[Any]:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        with guest():
            found = [part.numpy() for part in self.read(parts)]
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *found])

    def read(self, parts: Sequence[Rows], seed: int | None = None) -> Generator[Tensor]:
        """The inputs (n, …) of those rows, part by part, read ahead; closing it ends the processes.

        For training steps a seed; without one as they are evaluated.
        """
        items = self._plain if seed is None else self.dataset
        reading = _Reading(items, self._called, seed or 0, self._form, self.tokens)
        return _read(reading, parts, self.workers)

    @cached_property
    def _form(self) -> Form:
        """Of the first input. Where others read, this process does not: what a data set opens when
        it is first read would be shared with them."""
        if not len(self):
            raise UserError(f"{self._called}: has no samples: leave an empty test set out")
        reading = _Reading(self._plain, self._called, 0, None, None)
        with guest():
            (first,) = _read(reading, [np.zeros(1, np.int64)], self.workers)
        return Form(tuple(first.shape[1:]), first.dtype)

    @property
    def _plain(self) -> Items:
        return self.dataset if self.plain is None else self.plain

    @property
    def _called(self) -> str:
        return self.name or f"data set {type(self.dataset).__name__!r}"


def targets_of(streamed: Streamed) -> NDArray[Any]:
    """The target of each sample: what `dataset.targets` is, as torchvision's data sets have it.

    Else all samples are read once, for the targets that they come with.
    """
    known = getattr(streamed.dataset, "targets", None)
    if known is not None:
        return np.asarray(known)
    targets = _Targets(streamed._plain)
    return Streamed(targets, None, streamed.workers, f"targets of {streamed._called}")[:]


@dataclass(frozen=True)
class _Targets:
    """The targets of a data set as inputs."""

    items: Items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> NDArray[Any]:
        item = self.items[i]
        if not (isinstance(item, tuple | list) and len(item) == 2):
            raise TypeError(f"gives {kind_of(item)}, expected (input, target): give the targets")
        target = np.asarray(item[1])
        return target.astype("float32" if target.dtype.kind == "f" else "int64")


@dataclass(frozen=True)
class _Broken:
    """A batch that cannot be had: a line of text, and the traceback."""

    line: str
    trace: str


@dataclass(frozen=True)
class _Reading:
    """A pass, as a process that reads gets it: `reading[rows]` is a batch."""

    items: Items
    name: str
    seed: int
    form: Form | None  # what inputs must be like; None: any
    tokens: Tokens | None

    def __getitem__(self, rows: Rows) -> Tensor | _Broken:
        try:
            with _apart():
                batch: Tensor = default_collate([self._input(int(row)) for row in rows])
            self._check(batch, rows)
            return batch
        except UserError as error:
            return _Broken(str(error), traceback.format_exc())

    def _input(self, row: int) -> Tensor:
        _seed(derive_seed(self.seed, row))
        try:
            found = _tensor(self.items[row])
        except (Exception, SystemExit) as error:
            raise UserError(f"{self.name}: row {row}: {shortened(text_of(error))}") from error
        form = Form(tuple(found.shape), found.dtype)
        if self.form is not None and self.form != form:
            raise UserError(
                f"{self.name}: row {row} is {_told(form)}, expected {_told(self.form)} "
                "as row 0: give all inputs one type and shape"
            )
        return found

    def _check(self, batch: Tensor, rows: Rows) -> None:
        if batch.is_floating_point() and not batch.isfinite().all():
            row = rows[int((~batch.isfinite()).flatten(1).any(1).int().argmax())]
            raise UserError(f"{self.name}: row {row} has NaN or infinity, expected numbers")
        if self.tokens is not None:
            check_ids(self.tokens, batch.numpy(), self.name, rows)


def _tensor(item: Any) -> Tensor:
    """The input of an item. Raises TypeError."""
    found = item[0] if isinstance(item, tuple | list) and 1 <= len(item) <= 2 else item
    if isinstance(found, np.ndarray | np.generic):
        found = torch.from_numpy(np.require(found, requirements=["C", "W"]))
    if isinstance(found, Tensor) and found.dtype in TYPES:
        return found.detach()
    got = str(found.dtype).split(".")[-1] if isinstance(found, Tensor) else kind_of(found)
    names = "named inputs are not streamed: " if isinstance(found, Mapping) else ""
    raise TypeError(f"gives {got}, expected a tensor of uint8, float32 or int64: {names}convert it")


def _told(form: Form) -> str:
    return f"{str(form.dtype).split('.')[-1]} {form.shape}"


def _read(reading: _Reading, parts: Sequence[Rows], workers: int) -> Generator[Tensor]:
    workers = min(workers, len(parts))
    loader = DataLoader(
        cast(Any, reading),
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # what plug-ins define is there
        worker_init_fn=_begin,
        generator=torch.Generator(),  # not the trial's
    )
    for found in loader:
        if isinstance(found, _Broken):
            raise UserError(found.line) from RuntimeError(found.trace)
        yield found


def _begin(_: int) -> None:
    """In a process that reads: it ends with the one that has started it, or when that says so."""
    guard.prctl(guard.SET_DEATH_SIGNAL, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # which has died in between
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _apart() -> Iterator[None]:
    """Inside, random numbers may be seeded, and torch has one thread, which last bits depend on."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), same_host_randomness():
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _seed(number: int) -> None:
    """Those of the CPU alone: a process that was forked cannot use a GPU."""
    torch.default_generator.manual_seed(number)
    random.seed(number)
    numpy_random.seed(number % 2**32)
