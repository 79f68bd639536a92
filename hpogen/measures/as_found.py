"""A network's attributes, buffers and parameters, put back as a measure found them.

`passes.undisturbed` keeps them around a measure, the measures that run a model often around a pass.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hpogen.errors import Refusal

HOOKS = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}
"""What torch keeps of every module beside its contents: hooks are left to who registers them, and
the mode to `train`."""
KNOWN = ("torch.nn.", "torchvision.", "hpogen.")
"""Whose modules change nothing in evaluation mode, save what `_may_change` names."""


class AsFound:
    """What a model holds at one moment."""

    def __init__(self, model: nn.Module) -> None:
        self._attributes = [
            (vars(module), {n: v for n, v in vars(module).items() if n != "training"})
            for module in model.modules()
        ]
        self._containers: list[tuple[Any, Any]] = []
        tensors: dict[int, Tensor] = {}
        for _, attributes in self._attributes:
            for name, value in attributes.items():
                if name not in HOOKS and isinstance(value, dict | list | set):
                    self._containers.append((value, copy.copy(value)))
                    values = value.values() if isinstance(value, dict) else value
                    tensors |= {id(held): held for held in values if isinstance(held, Tensor)}
                elif isinstance(value, Tensor):
                    tensors[id(value)] = value
        self._tensors = [
            _Kept(tensor)
            for tensor in tensors.values()
            if tensor.layout is torch.strided and not tensor.is_nested
        ]

    def put_back(self) -> None:
        """Undo what was set, replaced, added or written to since."""
        for now, before in self._attributes:
            for name in now.keys() - before.keys() - {"training"}:
                del now[name]
            now |= before
        for container, contents in self._containers:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(contents)
        for kept in self._tensors:
            kept.put_back()


class _Kept:
    """The memory of a tensor, the numbers there, and whether it requires a gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._memory = tensor.data
        self._numbers = self._memory.clone()
        self._requires_grad = tensor.requires_grad

    def put_back(self) -> None:
        if _place(self._tensor) != _place(self._memory):
            self._tensor.data = self._memory
        with torch.inference_mode():  # may be what made them
            self._memory.copy_(self._numbers)
        if self._tensor.is_leaf:
            self._tensor.requires_grad_(self._requires_grad)


def _place(tensor: Tensor) -> tuple[object, ...]:
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """What the model holds is afterwards as before, whatever its forward does.

    That is, but for the modes: the attributes of its modules, also in lists, dicts and sets that
    are attributes, buffers (also where they are replaced), parameters and their flags. Takes the
    memory of parameters and buffers, where the model has code that may change something.
    """
    if not may_change(model):
        yield
        return
    found = AsFound(model)
    try:
        yield
    finally:
        found.put_back()


@contextmanager
def without(name: str, nothing: object, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Inside, that attribute of the tensors is `nothing`, whatever they have before and after."""
    before = [(tensor, getattr(tensor, name)) for tensor in tensors]
    try:
        for tensor, _ in before:
            setattr(tensor, name, nothing)
        yield
    finally:
        for tensor, value in before:
            setattr(tensor, name, value)


def may_change(model: nn.Module) -> bool:
    """Whether there is code in the model that may change what it holds, in evaluation mode."""
    return any(map(_may_change, model.modules()))


def modes_of(model: nn.Module) -> dict[nn.Module, bool]:
    """Whether each module is in training mode; each comes after every module that holds it."""
    order: dict[nn.Module, None] = {}

    def visit(module: nn.Module) -> None:
        if module not in order:
            for child in module.children():
                visit(child)
            order[module] = None

    visit(model)
    return {module: module.training for module in reversed(order)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module is in its own again."""
    modes = modes_of(model)
    try:
        model.eval()
        yield
    finally:
        set_modes(modes)


def set_modes(modes: Mapping[nn.Module, bool]) -> None:
    """Call `train(mode)` where the mode is another, so that layers which merge weights see it.

    Parents, whose `train` sets their children, come first. A module whose `train` does otherwise
    gets its flag at last.
    """
    for module, mode in modes.items():
        if module.training != mode:
            module.train(mode)
    for module, mode in modes.items():
        module.training = mode


def require_initialized(model: nn.Module) -> None:
    """Raise Refusal, naming the module, where a lazy one has not seen its first batch."""
    for name, module in model.named_modules():
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            raise Refusal(
                f"{type(model).__name__} has no weights yet in its module {name!r}, a "
                f"{type(module).__name__}: run it on one batch first"
            )


def _may_change(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
        return True
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    if not all((getattr(hook, "__module__", None) or "").startswith("hpogen.") for hook in hooks):
        return True
    return "forward" in vars(module) or not type(module).__module__.startswith(KNOWN)
