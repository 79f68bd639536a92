"""Puts together what the processes of a `DistributedDataParallel` model saw of the data.

Used by the measures that work in any PyTorch loop; a plain model is a group of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch's wrappers: DistributedDataParallel, DataParallel, torch.compile."""
    while (inner := _inside(model)) is not None:
        model = inner
    return model


def group_of(model: nn.Module) -> distributed.ProcessGroup | None:
    """The processes that train copies of the model; None for one that is not wrapped."""
    if isinstance(model, DistributedDataParallel):
        return model.process_group
    inner = _inside(model)
    return None if inner is None else group_of(inner)


def _inside(model: nn.Module) -> nn.Module | None:
    wraps = isinstance(model, DistributedDataParallel | nn.DataParallel)
    inner = getattr(model, "module" if wraps else "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def gathered(values: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
    """The values (n, …) of all processes of the group, one after the other; n may differ."""
    if group is None:
        return values
    parts: list[Tensor | None] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(parts, values.cpu(), group)
    return torch.cat([part for part in parts if part is not None]).to(values.device)


def summed(values: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
    """The sum of the values over the processes of the group."""
    if group is not None:
        distributed.all_reduce(values, group=group)
    return values
