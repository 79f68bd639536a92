"""Weights that a network begins with, from a file on disk; nothing is ever downloaded.

`recipe.py` fills each trial's network, `task.py` tries the file once before the first trial.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hpogen.errors import UserError, quoted, shortened, text_of

SHOWN = 3  # names in a message


def fill(model: nn.Module, path: str) -> list[str]:
    """Give a network the tensors of a file; the names of those that it keeps as they were.

    These are the head's, its last module with weights, where the file's is of another shape: of
    other classes. The file is a `state_dict` as torch.save writes it, read without running code, or
    safetensors. Raises UserError, in one line, where anything else does not fit.
    """
    tensors, own = read(path), model.state_dict()
    for lacking, names in (
        ("which it lacks", own.keys() - tensors.keys()),
        ("which the model has not", tensors.keys() - own.keys()),
    ):
        if names:
            raise _unfit(path, f"{lacking}: {_listed(names)}")
    other = [name for name in own if own[name].shape != tensors[name].shape]
    head = [name for name in own if name.rpartition(".")[0] == _head(model)]
    if wrong := [name for name in other if name not in head]:
        shapes = [tuple(part[wrong[0]].shape) for part in (tensors, own)]
        raise _unfit(path, f"of another shape: {wrong[0]} is {shapes[0]}, in the model {shapes[1]}")
    kept = head if other else []
    model.load_state_dict({**tensors, **{name: own[name] for name in kept}})
    return kept


def read(path: str) -> Mapping[str, Tensor]:
    """The tensors of a file by name. Raises UserError, beginning with the key and the file."""
    file = Path(path).expanduser()
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = error.strerror or text_of(error)
        raise UserError(f"task.weights: {path}: cannot be read: {reason}") from error
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        said = shortened(text_of(error))
        raise UserError(f"task.weights: {path}: is no file of tensors: {said}") from error
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise UserError(
            f"task.weights: {path}: has a {type(found).__name__}, expected tensors by name: "
            "torch.save(model.state_dict(), PATH)"
        )
    return found


def _head(model: nn.Module) -> str:
    """The name of the last module that has parameters of its own."""
    names = [name for name, part in model.named_modules() if part._parameters]
    return names[-1] if names else ""


def _unfit(path: str, problem: str) -> UserError:
    return UserError(
        f"task.weights: {path}: has not the tensors of task.model, {problem}: take the weights of "
        "that model with those options"
    )


def _listed(names: Collection[str]) -> str:
    shown = [quoted(name) for name in sorted(names)[:SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
