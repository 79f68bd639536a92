"""Builds the network that the task names, and tells beforehand what it cannot do.

The loop builds; the task and its forms ask while a study is loaded, with everything on the meta
device: the network holds no numbers there and is run in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.training.forms.inputs import Dtype, Inputs, Shape
from hpogen.training.models.catalog import FLAT, TOKEN_MODELS


def build(name: str, options: Mapping[str, Any], data: Inputs) -> nn.Module:
    """The registered model for such inputs.

    Raises ValueError, naming the model, when its builder does not take such inputs or options.
    """
    _require_fit(name, data)
    builder = plugins.models.get(name)
    if plugins.takes_data(builder):
        model = builder(data, **options)
    else:
        model = builder(data.in_shape, data.outputs, **options)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}, expected an nn.Module")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        _run_once(model, data)
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


def example(in_shape: Shape, dtype: Dtype, count: int, device: str = "cpu") -> Any:
    """Inputs of so many samples, all zeros."""
    if isinstance(in_shape, Mapping):
        kinds = dtype if isinstance(dtype, Mapping) else dict.fromkeys(in_shape, dtype)
        return {n: example(shape, kinds[n], count, device) for n, shape in in_shape.items()}
    return torch.zeros(count, *in_shape, dtype=getattr(torch, str(dtype)), device=device)


def _run_once(model: nn.Module, data: Inputs) -> None:
    """A forward of nothing, from which lazy modules take their sizes; no statistics change."""
    model.eval()
    with torch.no_grad():
        model(example(data.in_shape, data.dtype, 2))
    model.train()


def unfit(name: str, options: Mapping[str, Any], data: Inputs) -> str | None:
    """Why the model takes no such inputs or options, in a line; None: it does, or cannot tell."""
    try:
        with torch.device("meta"):
            build(name, options, data)
    except ValueError as error:
        return str(error)
    except (NotImplementedError, RuntimeError):  # it needs numbers: training will tell
        return None
    return None


def weights_bytes(name: str, options: Mapping[str, Any], data: Inputs) -> int | None:
    """What the model's weights take up; None: it needs numbers to be built, or cannot be."""
    try:
        with torch.device("meta"):
            tensors = build(name, options, data).state_dict().values()
    except (ValueError, NotImplementedError, RuntimeError):
        return None
    return sum(int(tensor.nbytes) for tensor in tensors)


def refusal(
    name: str,
    options: Mapping[str, Any],
    requirement: Callable[[nn.Module, torch.Tensor], None],
    data: Inputs,
) -> str | None:
    """Why a measure with that requirement refuses a model; None: it does not, or cannot tell."""
    try:
        with torch.device("meta"):
            model = build(name, options, data).eval()
            requirement(model, example(data.in_shape, data.dtype, 2, "meta"))
    except Refusal as refused:
        return str(refused)
    except (NotImplementedError, RuntimeError):  # it needs numbers: training will tell
        return None
    return None
