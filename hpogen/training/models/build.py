"""Builds the network that the task names, and tells beforehand what it cannot do.

The loop builds; the task and its forms ask while a study is loaded, with everything on the meta
device: the network holds no numbers there and is run in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.training.models.catalog import FLAT

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""Of a sample, as a model sees it: (C, H, W) of an image; of named inputs each one's."""


@dataclass(frozen=True)
class Inputs:
    """What a plug-in's builder `(data, **options)` is told: shapes, types, the kind of target.

    `in_shape` and `dtype` ("float32", "int64" or "uint8", as the model sees it) are mappings for
    named inputs; `outputs` is how many numbers the model gives for a sample. `cardinalities` are
    how many numbers each column of a table's "categories" has, 0 for the unknown included.
    """

    in_shape: Shape
    dtype: str | Mapping[str, str]
    kind: str
    outputs: int
    cardinalities: tuple[int, ...] = ()


def build(
    name: str,
    options: Mapping[str, Any],
    in_shape: Shape,
    outputs: int,
    kind: str = "classes",
    dtype: str | Mapping[str, str] = "float32",
    cardinalities: tuple[int, ...] = (),
) -> nn.Module:
    """The registered model for inputs of `in_shape`.

    Raises ValueError, naming the model, when its builder does not take such inputs or options.
    """
    _require_fit(name, in_shape, dtype, cardinalities)
    builder = plugins.models.get(name)
    if plugins.takes_data(builder):
        model = builder(Inputs(in_shape, dtype, kind, outputs, cardinalities), **options)
    else:
        model = builder(in_shape, outputs, **options)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}, expected an nn.Module")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        _run_once(model, in_shape, dtype)
    return model


def _require_fit(
    name: str,
    in_shape: Shape,
    dtype: str | Mapping[str, str],
    cardinalities: tuple[int, ...],
) -> None:
    """Raise ValueError for inputs that hpogen's own models, and torchvision's, do not take."""
    if plugins.models.is_plugin(name):
        return
    if cardinalities and name in FLAT:
        return
    if isinstance(in_shape, Mapping):
        fitting = f"{' or '.join(FLAT)}, for a table, or " if cardinalities else ""
        raise ValueError(
            f"model {name!r} takes no named inputs: expected {fitting}a plug-in's model"
        )
    if len(in_shape) != 3 and name not in FLAT:
        raise ValueError(
            f"model {name!r} takes images (C, H, W), got inputs {in_shape}: expected "
            f"{' or '.join(FLAT)}, or a plug-in's model"
        )
    if dtype != "float32":
        raise ValueError(
            f"model {name!r} takes floats, got {dtype}: convert them, x.astype('float32'), or use "
            "a plug-in's model"
        )


def example(
    in_shape: Shape, dtype: str | Mapping[str, str], count: int, device: str = "cpu"
) -> Any:
    """Inputs of so many samples, all zeros."""
    if isinstance(in_shape, Mapping):
        kinds = dtype if isinstance(dtype, Mapping) else dict.fromkeys(in_shape, dtype)
        return {n: example(shape, kinds[n], count, device) for n, shape in in_shape.items()}
    return torch.zeros(count, *in_shape, dtype=getattr(torch, str(dtype)), device=device)


def _run_once(model: nn.Module, in_shape: Shape, dtype: str | Mapping[str, str]) -> None:
    """A forward of nothing, from which lazy modules take their sizes; no statistics change."""
    model.eval()
    with torch.no_grad():
        model(example(in_shape, dtype, 2))
    model.train()


def unfit(name: str, options: Mapping[str, Any], in_shape: Shape, classes: int) -> str | None:
    """Why the model takes no such images or options, in a line; None: it does, or cannot tell."""
    try:
        with torch.device("meta"):
            build(name, options, in_shape, classes)
    except ValueError as error:
        return str(error)
    except (NotImplementedError, RuntimeError):  # it needs numbers: training will tell
        return None
    return None


def weights_bytes(
    name: str, options: Mapping[str, Any], in_shape: Shape, classes: int
) -> int | None:
    """What the model's weights take up; None: it needs numbers to be built, or cannot be."""
    try:
        with torch.device("meta"):
            tensors = build(name, options, in_shape, classes).state_dict().values()
    except (ValueError, NotImplementedError, RuntimeError):
        return None
    return sum(int(tensor.nbytes) for tensor in tensors)


def refusal(
    name: str,
    options: Mapping[str, Any],
    in_shape: Shape,
    classes: int,
    requirement: Callable[[nn.Module, torch.Tensor], None],
) -> str | None:
    """Why a measure with that requirement refuses a model; None: it does not, or cannot tell."""
    try:
        with torch.device("meta"):
            model = build(name, options, in_shape, classes).eval()
            requirement(model, example(in_shape, "float32", 2, "meta"))
    except Refusal as refused:
        return str(refused)
    except (NotImplementedError, RuntimeError):  # it needs numbers: training will tell
        return None
    return None
