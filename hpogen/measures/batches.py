"""What a batch is, and how a model is called with it: pairs of tensors, named inputs, one's own.

Every measure reads its batches and its model's outputs here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal

Batch = tuple[Tensor, Tensor]  # images (B, …) and labels (B,)
Forward = Callable[[nn.Module, Any], Any]
"""A model's forward of one's own: of the model and the inputs of a batch; gives logits (B, C)."""

TARGETS = ("labels", "label", "targets", "target")
"""Under which of these names a batch that is a mapping has its targets: the first there is."""


class Keywords(dict[str, Tensor]):
    """The inputs of a batch that was a mapping: a model is given each by its name."""


def pairs(batches: Iterable[Any], named: bool = False) -> Iterator[Any]:
    """The batches. Raises Refusal, saying what to pass, for one that is not two tensors.

    Where `named`, the first may be a mapping of tensors; or the batch is one, with its targets
    under a name of `TARGETS`.
    """
    for batch in batches:
        yield pair(batch, named)


def pair(batch: Any, named: bool = True) -> tuple[Any, Tensor]:
    """Inputs and targets of one batch, as `pairs` says."""
    if named and isinstance(batch, Mapping):
        return _split(batch)
    kinds = (Tensor, Mapping) if named else Tensor
    given = tuple(batch) if isinstance(batch, tuple | list) else ()
    if len(given) != 2 or not (isinstance(given[0], kinds) and isinstance(given[1], Tensor)):
        raise Refusal(
            f"a batch is {kind_of(batch)}, expected two tensors (x, y): pass an iterable of "
            "such pairs, ((b['x'], b['y']) for b in loader), say"
        )
    return given[0], given[1]


def _split(batch: Mapping[str, Any]) -> tuple[Keywords, Tensor]:
    name = next((name for name in TARGETS if name in batch), None)
    if name is None or not all(isinstance(value, Tensor) for value in batch.values()):
        raise Refusal(
            f"a batch is {kind_of(batch)}, expected tensors, the targets under one of the names "
            f"{', '.join(map(repr, TARGETS))}: or pass pairs, ((b['x'], b['y']) for b in loader)"
        )
    inputs = Keywords({key: value for key, value in batch.items() if key != name})
    targets: Tensor = batch[name]
    return inputs, targets


def first(batches: Iterable[Batch]) -> Batch:
    """The first batch with a sample. Raises ValueError when there is none."""
    for x, y in pairs(batches):
        if len(x):
            return x, y
    raise ValueError("got no samples: the batches are empty")


def size_of(x: Any) -> int:
    """How many samples the inputs of a batch are of."""
    return len(next(iter(x.values()), ())) if isinstance(x, Mapping) else len(x)


def each_input(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The inputs of a batch, a tensor or a mapping of them, with the function applied to each."""
    if isinstance(x, Mapping):
        kind = Keywords if isinstance(x, Keywords) else dict
        return kind({name: function(part) for name, part in x.items()})
    return function(x)


def moved(x: Any, device: torch.device | None) -> Any:
    """The inputs of a batch on the device."""
    return each_input(x, lambda part: part.to(device))


def called(model: nn.Module, x: Any, forward: Forward | None = None) -> Any:
    """What the model gives for the inputs of a batch, by a forward of one's own where there is."""
    if forward is not None:
        return forward(model, x)
    return model(**x) if isinstance(x, Keywords) else model(x)


def device_of(model: nn.Module) -> torch.device | None:
    """Where the model is; None, which leaves a tensor where it is, for one without parameters."""
    return next((parameter.device for parameter in model.parameters()), None)


def tensor_of(model: nn.Module, given: object) -> Tensor:
    """What a model gave, or the `logits` in it. Raises Refusal, naming the model, if no tensor."""
    found = logits_in(given)
    if isinstance(found, Tensor):
        return found
    raise Refusal(
        f"{type(model).__name__} gives {kind_of(given)}, expected a tensor of logits (N, C): pass "
        "a module whose forward gives that, `return self.model(x).logits`, say"
    )


def logits_in(given: Any) -> Any:
    """The `logits` of what a model of Hugging Face gives: an attribute or a key; else all of it."""
    if isinstance(given, Tensor):
        return given
    logits = given.get("logits") if isinstance(given, Mapping) else getattr(given, "logits", None)
    return given if logits is None else logits


def kind_of(value: object) -> str:
    """`a tuple of Tensor, Tensor` or `a dict of 'x', 'y'`, in at most about 200 characters."""
    name = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {name} of {', '.join(map(repr, value))}"[:200]
    if isinstance(value, tuple | list):
        return f"a {name} of {', '.join(type(part).__name__ for part in value)}"[:200]
    return f"a {name}"
