"""Puts together what the processes of a `DistributedDataParallel` model saw of the data.

Used by the measures that work in any PyTorch loop; a plain model is a group of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def group_of(model: nn.Module) -> distributed.ProcessGroup | None:
    """The processes that train copies of the model; None for one that is not wrapped."""
    return model.process_group if isinstance(model, DistributedDataParallel) else None


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
