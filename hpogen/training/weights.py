"""The weights of a trained network with all that it takes to predict, as one safetensors file.

Any program reads the tensors; `Header` stands as JSON in the file's metadata. The loop writes it
when a trial ends, `predictor.py` makes the network of it.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hpogen import plugins
from hpogen.errors import UserError, quoted, shortened, text_of
from hpogen.record.provenance import digests, version
from hpogen.training.data.data import Table
from hpogen.training.data.prepared import Prepared
from hpogen.training.data.stored import Tensors, stored
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.inputs import Dtype, Inputs, Shape
from hpogen.training.forms.kinds import KindName
from hpogen.training.forms.task import Precision
from hpogen.training.forms.tokens import Tokens
from hpogen.training.recipe import Recipe
from hpogen.training.state import State
from hpogen.trial import WEIGHTS, Value

KEY = "hpogen"  # of the metadata

log = logging.getLogger(__name__)


class Header(BaseModel):
    """What a file of weights says of a network that tells the class of an image: format 1.

    `mean` and `scale` are those of `Normalization`, per channel, exactly. `size` is what the data
    set resizes pictures to, if it does. `device`, `layout`, `batch` (images) and `threads` are
    those of the trial's evaluations, which decide the last bits. `plugins` are the SHA-256 of the
    plug-in files that a plug-in's model is from, `crc32` is of the tensors.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: int = 1
    hpogen: str  # its version
    study: str
    trial: int
    config: dict[str, Value]
    seed: int
    budget: int  # epochs
    model: str
    options: dict[str, Any]
    in_shape: tuple[int, int, int]  # (C, H, W)
    classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    size: int | None
    precision: Precision
    deterministic: bool
    threads: int
    device: str
    layout: Literal["channels_last", "contiguous_format"]
    batch: int
    plugins: dict[str, str]
    crc32: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called: their numbers where they have no names."""
        return self.class_names or tuple(map(str, range(self.classes)))

    @property
    def inputs(self) -> Inputs:
        """What the model is built for."""
        return Inputs(self.in_shape, self.classes)

    @property
    def raw(self) -> tuple[Shape, Dtype]:
        """The shape and type of a sample as the data set gives it."""
        return self.in_shape, "uint8"


class DataHeader(Header):
    """What a file of weights says of a network of other inputs or targets: format 2.

    `classes` are the numbers that the model gives. `in_shape` and `dtype` are those that it sees;
    of images, inputs are uint8, and `mean` and `scale` are per channel. Of all else they are empty:
    what was fitted to the data stands among the tensors, see `data/stored.py`. `table` has the
    columns, `lines` says that token ids were made of lines of text.
    """

    format: int = 2
    in_shape: tuple[int, ...] | dict[str, tuple[int, ...]]  # type: ignore[assignment]
    kind: KindName
    dtype: str | dict[str, str]
    tokens: Tokens | None
    cardinalities: tuple[int, ...]
    table: Table | None
    lines: bool

    @property
    def names(self) -> tuple[str, ...]:
        if self.kind == "binary" and not self.class_names:
            return "0", "1"
        return super().names

    @property
    def inputs(self) -> Inputs:
        shape, rest = self.in_shape, (self.tokens, self.cardinalities)
        return Inputs(shape, self.classes, self.kind, self.dtype, *rest)

    @property
    def raw(self) -> tuple[Shape, Dtype]:
        if self.table is not None:
            return self.table.raw
        return self.in_shape, "uint8" if self.mean else self.dtype


FORMATS: Mapping[int, type[Header]] = {1: Header, 2: DataHeader}


def weights_to_keep(recipe: Recipe, state: State) -> dict[str, bytes]:
    """The file of the network as it is now, by its suffix, where the trial keeps its weights.

    A warning says so where the network holds what is not a tensor: the trial goes on.
    """
    if recipe.trial.keep != "best":
        return {}
    try:
        return {WEIGHTS: packed(header_of(recipe), tensors_of(recipe, state.judged.state_dict()))}
    except (AttributeError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        log.warning("trial=%d weights_kept=false: %s", recipe.trial.id, text_of(error))
        return {}


def tensors_of(recipe: Recipe, network: Tensors) -> Tensors:
    """What a file holds: the network's tensors, and those of what was fitted to its data."""
    return {**network, **stored(recipe.data)}


def header_of(recipe: Recipe) -> Header:
    data = recipe.data
    if data.images and data.target.name == "classes":
        return Header(**_common(recipe))
    return DataHeader(
        **_common(recipe),
        kind=data.target.name,
        dtype=data.dtype,
        tokens=data.tokens,
        cardinalities=data.cardinalities,
        table=data.table,
        lines=data.lines is not None,
    )


def _common(recipe: Recipe) -> dict[str, Any]:
    """What is said of every network."""
    settings, trial, data = recipe.settings, recipe.trial, recipe.data
    channels_last = recipe.memory_format is torch.channels_last
    return dict(
        hpogen=version("hpogen"),
        study=trial.study,
        trial=trial.id,
        config=dict(trial.config),
        seed=trial.seed,
        budget=trial.budget,
        model=settings.model.name,
        options=settings.model.options_with(trial.config),
        in_shape=data.in_shape,
        classes=data.outputs,
        class_names=data.class_names,
        mean=_numbers(data, "mean"),
        scale=_numbers(data, "scale"),
        size=_size(settings.dataset),
        precision=settings.precision,
        deterministic=settings.deterministic,
        threads=settings.threads,
        device=recipe.device.type,
        layout="channels_last" if channels_last else "contiguous_format",
        batch=recipe.evaluation_batch,
        plugins=_plugins(settings.model.name),
    )


def _numbers(data: Prepared, name: str) -> tuple[float, ...]:
    """What images are standardised by; of other inputs nothing."""
    return tuple(getattr(data.normalization, name).flatten().tolist()) if data.images else ()


def _size(dataset: Dataset) -> int | None:
    by_picture = dataset.name == "folder" or dataset.name.startswith("torchvision/")
    return dataset.options().get("size") if by_picture else None


def _plugins(model: str) -> dict[str, str]:
    """The files that must be imported for that model, with their digests."""
    if not plugins.models.is_plugin(model):
        return {}
    files = [plugins.FILES[name] for name in plugins.in_scope()]
    return digests({file.path.name: file.source for file in files})


def packed(header: Header, tensors: Tensors) -> bytes:
    """The file. Raises what safetensors does for what is not a dense tensor."""
    plain = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    header = header.model_copy(update={"crc32": _crc32(plain)})
    return save(plain, {KEY: header.model_dump_json()})  # of two keys the order is any


def unpacked(data: bytes, where: str) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors, on the CPU. Runs no code of the file's.

    Raises UserError, beginning with `where` the file is, for one that is damaged, not hpogen's, or
    of another version's format.
    """
    header = header_in(data, where)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{where}: is damaged: {text_of(error)}: train it again") from error
    if _crc32(tensors) != header.crc32:
        raise UserError(f"{where}: is damaged: its numbers are not those written: train it again")
    return header, tensors


def header_in(data: bytes, where: str) -> Header:
    """The header of a file, as `unpacked` reads it."""
    expected = f"{where}: is no file of weights that hpogen has kept"
    try:
        (length,) = struct.unpack_from("<Q", data)
        text = json.loads(data[8 : 8 + length])["__metadata__"][KEY]
        written = json.loads(text)
        number, by = written["format"], written["hpogen"]
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{expected}: {shortened(text_of(error))}") from error
    kind = FORMATS.get(number) if isinstance(number, int) else None
    if kind is None:
        raise UserError(
            f"{where}: has the format {quoted(number)} of hpogen {by}, expected 1 or 2: install "
            "that version, or train the weights again"
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{expected}: {place}: {first['msg']}") from error


def _crc32(tensors: Tensors) -> int:
    found = 0
    for name in sorted(tensors):
        content = tensors[name].contiguous().reshape(-1).view(torch.uint8)
        found = zlib.crc32(content.numpy().data, zlib.crc32(name.encode(), found))
    return found
