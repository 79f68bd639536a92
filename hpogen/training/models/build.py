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


def build(
    name: str, options: Mapping[str, Any], in_shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """The registered model for images of `in_shape` (C, H, W).

    Raises ValueError, naming the model, when its builder does not take such images or options.
    """
    model = plugins.models.get(name)(in_shape, classes, **options)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} is a {type(model).__name__}, expected an nn.Module")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        _run_once(model, in_shape)
    return model


def _run_once(model: nn.Module, in_shape: tuple[int, int, int]) -> None:
    """A forward of nothing, from which lazy modules take their sizes; no statistics change."""
    model.eval()
    with torch.no_grad():
        model(torch.zeros(2, *in_shape))
    model.train()


def unfit(
    name: str, options: Mapping[str, Any], in_shape: tuple[int, int, int], classes: int
) -> str | None:
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
    name: str, options: Mapping[str, Any], in_shape: tuple[int, int, int], classes: int
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
    in_shape: tuple[int, int, int],
    classes: int,
    requirement: Callable[[nn.Module, torch.Tensor], None],
) -> str | None:
    """Why a measure with that requirement refuses a model; None: it does not, or cannot tell."""
    try:
        with torch.device("meta"):
            model = build(name, options, in_shape, classes).eval()
            requirement(model, torch.empty(2, *in_shape))
    except Refusal as refused:
        return str(refused)
    except (NotImplementedError, RuntimeError):  # it needs numbers: training will tell
        return None
    return None
