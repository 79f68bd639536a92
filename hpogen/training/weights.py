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
from hpogen.training.data.fitted import Fit, Normalization, unchanged
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.task import Precision
from hpogen.training.recipe import Recipe
from hpogen.training.state import State
from hpogen.trial import WEIGHTS, Value

FORMAT = 1
KEY = "hpogen"  # of the metadata

log = logging.getLogger(__name__)
Tensors = Mapping[str, Tensor]


class Header(BaseModel):
    """What a file of weights says of its network.

    `mean` and `scale` are those of `Normalization`, per channel, exactly. `size` is what the data
    set resizes pictures to, if it does. `device`, `layout`, `batch` (images) and `threads` are
    those of the trial's evaluations, which decide the last bits. `plugins` are the SHA-256 of the
    plug-in files that a plug-in's model is from, `crc32` is of the tensors.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: int = FORMAT
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


def weights_to_keep(recipe: Recipe, state: State) -> dict[str, bytes]:
    """The file of the network as it is now, by its suffix, where the trial keeps its weights.

    A warning says so where the network holds what is not a tensor: the trial goes on.
    """
    if recipe.trial.keep != "best" or not recipe.settings.dataset.images:
        return {}  # a file of weights describes networks of images
    try:
        return {WEIGHTS: packed(header_of(recipe), state.judged.state_dict())}
    except (AttributeError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        log.warning("trial=%d weights_kept=false: %s", recipe.trial.id, text_of(error))
        return {}


def header_of(recipe: Recipe) -> Header:
    settings, trial, data = recipe.settings, recipe.trial, recipe.data
    channels_last = recipe.memory_format is torch.channels_last
    return Header(
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
        mean=_numbers(data.normalization, "mean"),
        scale=_numbers(data.normalization, "scale"),
        size=_size(settings.dataset),
        precision=settings.precision,
        deterministic=settings.deterministic,
        threads=settings.threads,
        device=recipe.device.type,
        layout="channels_last" if channels_last else "contiguous_format",
        batch=recipe.evaluation_batch,
        plugins=_plugins(settings.model.name),
    )


def _numbers(fit: Fit, name: str) -> tuple[float, ...]:
    """What inputs are standardised by. Raises ValueError for named ones, of which none is kept."""
    if isinstance(fit, Normalization):
        return tuple(getattr(fit, name).flatten().tolist())
    if fit is unchanged:
        return ()
    raise ValueError("the network takes named inputs, which a file of weights does not describe")


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
    if number != FORMAT:
        raise UserError(
            f"{where}: has the format {quoted(number)} of hpogen {by}, expected {FORMAT}: install "
            "that version, or train the weights again"
        )
    try:
        return Header.model_validate_json(text)
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
