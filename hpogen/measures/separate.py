"""Numbers of single samples, from batches where those give them and one by one where they do not.

For the measures that read rows of hidden values. A batch is tried by a few of its samples without
the others: rows that are no samples or not in their order, and samples that change each other's,
give other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.batches import Batch, device_of
from hpogen.measures.other_samples import few, refuse_mixing, rounding

Numbers = Sequence[Tensor]
"""The outputs (n, …) of samples, detached, and what else is measured of each, (n, …)."""
Measure = Callable[[Tensor, Tensor], Numbers | None]
"""Of some x and y; None where several samples have no rows of their own, or `crossing` says so."""


def separate(model: nn.Module, batches: Iterable[Batch], measure: Measure) -> Iterator[Numbers]:
    """What `measure` gives of each batch, or of each of its samples where the batch misleads.

    One small forward for each shape. Raises Refusal, naming the model, for samples that are mixed
    or whose numbers have not the same shapes; ValueError when there is no batch.
    """
    settled: set[object] = set()
    empty = True
    for x, y in batches:
        empty = False
        numbers = measure(x, y)
        if numbers is not None:
            _require_each(model, numbers, x)
        shape = (x.shape, x.dtype)
        if numbers is not None and (shape in settled or confirmed(model, measure, numbers, x, y)):
            if few(x, x)[1]:
                settled.add(shape)
            yield numbers
        else:
            yield from alone(model, measure, x, y)
    if empty:
        raise ValueError("got no samples: the batches are empty")


def confirmed(model: nn.Module, measure: Measure, numbers: Numbers, x: Tensor, y: Tensor) -> bool:
    """Whether a few samples have the same numbers without the others, in another order."""
    if len(x) == 1:
        return True
    rows, _ = few(x, x)
    try:
        found = measure(x[rows], y[rows])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the model's own: it takes no such batch
        return False
    if found is None or len(found) != len(numbers):
        return False
    error = rounding([*numbers, *model.parameters()])
    return all(_alike(n, f, rows, error) for n, f in zip(numbers, found, strict=True))


def alone(model: nn.Module, measure: Measure, x: Tensor, y: Tensor) -> Iterator[Numbers]:
    """What `measure` gives of each sample by itself, whose outputs must be those among the others.

    Raises as `separate`.
    """
    with torch.no_grad():
        outputs = model(x.to(device_of(model)))
    shapes: list[torch.Size] = []
    for row in range(len(x)):
        numbers = _of_one(model, measure, x[row : row + 1], y[row : row + 1])
        refuse_mixing(model, outputs, slice(row, row + 1), numbers[0], "numbers of single samples")
        shapes = shapes or [number.shape for number in numbers]
        if [number.shape for number in numbers] != shapes:
            raise Refusal(
                f"{type(model).__name__} has other hidden values for sample {row} of a batch than "
                "for sample 0: expected as many for each"
            )
        yield numbers


def _of_one(model: nn.Module, measure: Measure, x: Tensor, y: Tensor) -> Numbers:
    try:
        numbers = measure(x, y)
    except (Refusal, FloatingPointError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the model's own
        reason = str(error).partition("\n")[0]
        raise Refusal(f"{type(model).__name__} takes no sample by itself: {reason}") from error
    return _require_each(model, numbers or [], x)


def _require_each(model: nn.Module, numbers: Numbers, x: Tensor) -> Numbers:
    if not numbers or len(numbers[0]) != len(x):
        given = len(numbers[0]) if numbers else "several"
        raise Refusal(
            f"{type(model).__name__} gives {given} outputs for {len(x)} samples: expected one for "
            "each"
        )
    return numbers


def _alike(together: Tensor, found: Tensor, rows: list[int], error: float) -> bool:
    """Whether rows (N, …) are those of a few samples (n, …), by their norms."""
    if together[0].shape != found[0].shape or len(found) != len(rows):
        return False
    sizes, missed = _sizes(together), _sizes(found - together[rows])
    return bool((missed <= error * torch.maximum(sizes[rows], sizes.mean())).all())


def _sizes(values: Tensor) -> Tensor:
    """The norm of each sample's values, (N,)."""
    sizes: Tensor = torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1)
    return sizes
