"""Which functions sum up, rank or choose across the samples of a batch.

`watch.py` and the measures that read rows of hidden values ask. What is ranked, chosen or compared
with such a sum may jump for one sample and not for another, so that no check of a few samples can
vouch for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

NOWHERE = 9  # it has no such argument
ALONG: Mapping[str, tuple[int, int | None]] = {
    **dict.fromkeys(("sort", "argsort", "mode"), (1, -1)),
    **dict.fromkeys(("topk", "kthvalue"), (2, -1)),
    **dict.fromkeys(("median", "nanmedian", "argmax", "argmin"), (1, None)),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"), (1, None)),
    **dict.fromkeys(("quantile", "nanquantile", "take_along_dim"), (2, None)),
    **dict.fromkeys(("index_select", "index_add", "index_copy", "index_fill"), (1, None)),
    **dict.fromkeys(("gather", "scatter", "scatter_add", "scatter_reduce"), (1, None)),
    **dict.fromkeys(("max", "min", "amax", "amin", "count_nonzero"), (1, None)),
    **dict.fromkeys(("sum", "mean", "nansum", "nanmean", "prod", "logsumexp"), (1, None)),
    **dict.fromkeys(("std", "var", "std_mean", "var_mean"), (1, None)),
    **dict.fromkeys(("norm", "vector_norm", "linalg_vector_norm"), (2, None)),
    **dict.fromkeys(("unique", "take", "nonzero", "argwhere", "bincount"), (NOWHERE, None)),
    **dict.fromkeys(("masked_select", "masked_scatter", "aminmax"), (NOWHERE, None)),
    "index_reduce": (1, None),
    "msort": (NOWHERE, 0),
}
"""By name: the place of `dim` among the arguments, and the dimension (None: all) without it."""
EXTREMES = frozenset({"max", "min", "amax", "amin", "aminmax"})
INDEXING = frozenset({"__getitem__", "__setitem__", "index_put"})


class Crossings(TorchFunctionMode):
    """Watches, while it is entered, for functions that cross the samples: `found`."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._samples = samples
        self.looks = samples > 1  # not in a loss, which sums up samples
        self.found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        output = func(*args, **options)
        if self.looks and not self.found:
            self.found = crosses(func.__name__, args, options, self._samples)
        return output


def crosses(name: str, arguments: Sequence[Any], options: Mapping[str, Any], samples: int) -> bool:
    """Whether a call of the function `name` works along a dimension of the samples.

    The first is one where its length is a multiple of their number, the second (of sequences with
    the time first) where it is their number. The largest of whole numbers, a length, is not meant.
    """
    name = name if name in INDEXING else name.rstrip("_")  # in place
    values = arguments[0] if arguments else options.get("input")
    if name not in ALONG and name not in INDEXING:
        return False
    if not isinstance(values, Tensor) or isinstance(values, nn.Parameter) or not values.ndim:
        return False
    if name in EXTREMES and not values.is_floating_point():
        return False
    held = [not len(values) % samples, values.ndim > 2 and values.shape[1] == samples]
    return any(
        held[dim] for dim in _dims(name, values.ndim, arguments, options, samples) if dim < 2
    )


def _dims(
    name: str, rank: int, arguments: Sequence[Any], options: Mapping[str, Any], samples: int
) -> Iterator[int]:
    if name in INDEXING:
        (index,) = arguments[1:2] or ((),)
        parts = index if isinstance(index, tuple) or name == "index_put" else (index,)
        if not _in_order(parts[0] if parts else None, samples):
            yield from _chosen(parts)
        return
    place, default = ALONG[name]
    given = arguments[place] if len(arguments) > place else default
    dim = options.get("dim", options.get("axis", given))
    if isinstance(dim, Tensor):  # the larger of two tensors, number by number
        return
    dims = (dim,) if isinstance(dim, int) else dim
    yield from (dim % rank for dim in dims) if dims else range(rank)


def _chosen(index: Sequence[Any]) -> Iterator[int]:
    """The dimensions in which an index chooses by a tensor or a list."""
    dim = 0
    for part in index:
        if part is Ellipsis:
            return
        if not (part is None or isinstance(part, Integral | slice)):
            yield dim
        masked = isinstance(part, Tensor) and part.dtype == torch.bool
        dim += part.ndim if masked else part is not None


def _in_order(first: object, samples: int) -> bool:
    """Whether the first dimension is chosen as it is: `h[arange(N), lengths - 1]`."""
    if not isinstance(first, Tensor) or first.is_meta or first.shape != (samples,):
        return False
    return first.dtype != torch.bool and first.tolist() == list(range(samples))
