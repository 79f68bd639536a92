"""What was fitted to a trial's data, as tensors by name: a file of weights holds them.

`weights.py` writes them beside the network's own, `predictor.py` makes the fits of them again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from hpogen.training.data.fitted import ByName, Fit, Normalization, unchanged
from hpogen.training.data.fitted_table import Filled, Vocabulary
from hpogen.training.data.prepared import Prepared
from hpogen.training.forms.inputs import Shape

INPUTS, TARGETS, TOKENIZER = "inputs/", "targets/", "tokenizer/"  # what the names begin with

Tensors = Mapping[str, Tensor]


def stored(data: Prepared) -> dict[str, Tensor]:
    """The fits of inputs and targets, and a tokenizer's file; of images a header has theirs."""
    found = {} if data.images else _under(INPUTS, tensors_of(data.normalization))
    if data.unit is not None:
        found |= _under(TARGETS, tensors_of(data.unit))
    if data.lines:
        found[TOKENIZER] = torch.frombuffer(bytearray(data.lines), dtype=torch.uint8)
    return found


def divided(tensors: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the network, and those of `stored`."""
    of_data = {n: t for n, t in tensors.items() if n.startswith((INPUTS, TARGETS, TOKENIZER))}
    return {name: t for name, t in tensors.items() if name not in of_data}, of_data


def tensors_of(fit: Fit) -> dict[str, Tensor]:
    """By the names of their fields, of named inputs behind the input's name and a slash."""
    if isinstance(fit, ByName):
        parts = [_under(f"{name}/", tensors_of(part)) for name, part in fit.parts.items()]
        return {name: tensor for part in parts for name, tensor in part.items()}
    if isinstance(fit, Filled):
        return {"median": fit.median, "gaps": fit.gaps, **tensors_of(fit.normalization)}
    if isinstance(fit, Vocabulary):
        return {"lookup": fit.lookup, "starts": fit.starts}
    return {"mean": fit.mean, "scale": fit.scale} if isinstance(fit, Normalization) else {}


def fit_of(tensors: Tensors, names: Collection[str] | None) -> Fit:
    """The fit that has those tensors, of inputs of those names.

    Numbers that are no category's are read as one that is unknown.
    """
    if names is not None:
        return ByName({name: fit_of(within(f"{name}/", tensors), None) for name in names})
    if "lookup" in tensors:
        return Vocabulary(tensors["lookup"], tensors["starts"], ()).of_any
    if "mean" not in tensors:
        return unchanged
    normalization = Normalization(tensors["mean"], tensors["scale"])
    if "median" not in tensors:
        return normalization
    return Filled(tensors["median"], normalization, tensors["gaps"])


def check_shapes(fits: Tensors, raw: Shape) -> None:
    """Raise ValueError where a fit is of other inputs than those of that shape, of no images."""
    for name, shape in raw.items() if isinstance(raw, Mapping) else [("", raw)]:
        of = within(f"{INPUTS}{name}/" if name else INPUTS, fits)
        for key in of.keys() & {"mean", "scale", "median", "starts"}:
            size = tuple(of[key].shape[key != "starts" :])
            if size != shape:
                raise ValueError(f"{key} is of {size}, expected {shape} of the inputs {name}")


def within(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    """Those whose names begin so, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}
