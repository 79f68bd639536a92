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
from hpogen.training.forms.tokens import Tokens
from hpogen.training.models.catalog import FLAT, TOKEN_MODELS

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""Of a sample, as a model sees it: (C, H, W) of an image; of named inputs each one's."""


@dataclass(frozen=True)
class Inputs:
    """What a plug-in's builder `(data, **options)` is told: shapes, types, the kind of target.

    `in_shape` and `dtype` ("float32", "int64" or "uint8", as the model sees it) are mappings for
    named inputs; `outputs` is how many numbers the model gives for a sample, or of the kind
    `positions` for each place in it. `tokens` is there where inputs are token ids. `cardinalities`
    are how many numbers each column of a table's "categories" has, 0 for the unknown included.
    """

    in_shape: Shape
    dtype: str | Mapping[str, str]
    kind: str
    outputs: int
    tokens: Tokens | None = None
    cardinalities: tuple[int, ...] = ()


def build(
    name: str,
    options: Mapping[str, Any],
    in_shape: Shape,
    outputs: int,
    kind: str = "classes",
    dtype: str | Mapping[str, str] = "float32",
    tokens: Tokens | None = None,
    cardinalities: tuple[int, ...] = (),
) -> nn.Module:
    """The registered model for inputs of `in_shape`.

    Raises ValueError, naming the model, when its builder does not take such inputs or options.
    """
    data = Inputs(in_shape, dtype, kind, outputs, tokens, cardinalities)
    _require_fit(name, data)
    builder = plugins.models.get(name)
    if plugins.takes_data(builder):
        model = builder(data, **options)
    else:
        model = builder(in_shape, outputs, **options)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}, expected an nn.Module")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        _run_once(model, in_shape, dtype)
    return model


def _require_fit(name: str, data: Inputs) -> None:
    """Raise ValueError for inputs that hpogen's own models, and torchvision's, do not take."""
    if plugins.models.is_plugin(name) or (data.cardinalities and name in FLAT):
        return
    in_shape, of_tokens = data.in_shape, " or ".join(TOKEN_MODELS)
    if isinstance(in_shape, Mapping):
        fitting = f"{' or '.join(FLAT)}, for a table, or " if data.cardinalities else ""
        raise ValueError(
            f"model {name!r} takes no named inputs: expected {fitting}a plug-in's model"
        )
    if data.tokens is None and name in TOKEN_MODELS:
        raise ValueError(
            f"model {name!r} takes token ids, got {data.dtype} {in_shape}: expected the data set "
            "'text', or another model"
        )
    if data.tokens is not None and name not in TOKEN_MODELS:
        raise ValueError(
            f"model {name!r} takes floats, got token ids: expected {of_tokens}, or a plug-in's "
            "model"
        )
    if data.kind == "positions" and name not in TOKEN_MODELS:
        raise ValueError(
            f"model {name!r} gives no logits for each position: expected token ids for {of_tokens},"
            " or a plug-in's model"
        )
    if len(in_shape) != 3 and name not in (*FLAT, *TOKEN_MODELS):
        raise ValueError(
            f"model {name!r} takes images (C, H, W), got inputs {in_shape}: expected "
            f"{' or '.join(FLAT)}, or a plug-in's model"
        )
    if data.dtype != "float32" and name not in TOKEN_MODELS:
        raise ValueError(
            f"model {name!r} takes floats, got {data.dtype}: convert them, x.astype('float32'), or "
            "use a plug-in's model"
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


def unfit(
    name: str,
    options: Mapping[str, Any],
    in_shape: Shape,
    outputs: int,
    kind: str = "classes",
    dtype: str | Mapping[str, str] = "float32",
    tokens: Tokens | None = None,
) -> str | None:
    """Why the model takes no such inputs or options, in a line; None: it does, or cannot tell."""
    try:
        with torch.device("meta"):
            build(name, options, in_shape, outputs, kind, dtype, tokens)
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
    requirement: Callable[[nn.Module, torch.Tensor], None],
    in_shape: Shape,
    outputs: int,
    kind: str = "classes",
    dtype: str | Mapping[str, str] = "float32",
    tokens: Tokens | None = None,
) -> str | None:
    """Why a measure with that requirement refuses a model; None: it does not, or cannot tell."""
    try:
        with torch.device("meta"):
            model = build(name, options, in_shape, outputs, kind, dtype, tokens).eval()
            requirement(model, example(in_shape, dtype, 2, "meta"))
    except Refusal as refused:
        return str(refused)
    except (NotImplementedError, RuntimeError):  # it needs numbers: training will tell
        return None
    return None
