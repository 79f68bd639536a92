"""How much memory is free, how much a trial takes, and how many images fit into what there is.

`data/loaded.py` asks what is free; `status` goes by the peak when it suggests how to pack trials;
the recipe takes the size of its evaluation batches from here, and the loop what it says when a
device is full.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from hpogen.training.forms.inputs import Shape
from hpogen.training.models.build import example

STATUS, MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of a container: what it may use may be less than the machine has
CPU_BATCH, LARGEST_BATCH = 250, 8192  # images per batch of an evaluation
CPU_ROWS = 1000  # in such a batch, of other inputs than images
CPU_PIXELS = 250 * 64 * 64  # in such a batch, at most: of large images fewer
CPU_TOKENS = 1 << 14  # in such a batch, at most, of integers (T,): a network keeps a row for each
EVALUATION_SHARE = 1 / 16  # of a GPU's memory, at most, for an evaluation's largest layer


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device; of the CPU those that can be had without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_of_machine(), _of_container())


def _of_machine() -> int:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(available.split()[1]) * 1024  # written in kB


def _of_container() -> int:
    try:
        limit = int((GROUP / "memory.max").read_text())
        used = int((GROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max": no limit
        return 1 << 62
    return max(limit - used, 0)


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes: the `peak` of this process so far, and the `total` of the GPU or of the machine.

    On a GPU what torch has reserved there, without the process's context; on a CPU the resident
    memory. Empty where the system does not tell.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return {"peak": torch.cuda.max_memory_reserved(device), "total": total}
    if not STATUS.exists():
        return {}
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"peak": 1024 * int(found[1]), "total": total} if found else {}


class NoSpace(MemoryError):
    """A device is full: says how large a batch would have had room."""


def evaluation_batch(
    model: nn.Module, in_shape: Shape, device: torch.device, dtype: Any = "float32"
) -> int:
    """Samples per batch of an evaluation: on a GPU many, on a CPU what stays in its cache.

    The same for the same net on the same kind of device, however full that is: the size of a batch
    changes last bits.
    """
    if device.type != "cuda":
        if isinstance(in_shape, Mapping) or len(in_shape) != 3:
            return _of_tokens(in_shape) if dtype == "int64" else CPU_ROWS
        _, height, width = in_shape
        return max(min(CPU_BATCH, CPU_PIXELS // (height * width)), 1)
    total = torch.cuda.get_device_properties(device).total_memory
    fits = int(total * EVALUATION_SHARE / activations(model, in_shape, dtype).largest)
    return min(max(1 << max(fits.bit_length() - 1, 0), CPU_BATCH), LARGEST_BATCH)


def _of_tokens(in_shape: Shape) -> int:
    return min(CPU_ROWS, max(1, CPU_TOKENS // math.prod(cast(tuple[int, ...], in_shape))))


@dataclass(frozen=True)
class Activations:
    """Bytes per image of the outputs of a net's layers in float32."""

    all: int  # what training keeps for the backward pass, to within what layers share
    largest: int  # the input and output of the layer where they are largest: an evaluation's


def activations(model: nn.Module, in_shape: Shape, dtype: Any = "float32") -> Activations:
    """From one forward pass of a copy on the meta device, which holds no numbers."""
    outputs: list[tuple[int, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append((sum(x.numel() for x in inputs), output.numel()))

    copy = deepcopy(model).to("meta").eval()
    for module in copy.modules():
        if not any(module.children()):
            module.register_forward_hook(note)
    with torch.no_grad():
        copy(example(in_shape, dtype, 1, "meta"))
    largest = max(inputs + output for inputs, output in outputs)
    return Activations(4 * sum(output for _, output in outputs), 4 * largest)


def batch_that_fits(
    model: nn.Module, in_shape: Shape, free: int, tried: int, dtype: Any = "float32"
) -> int:
    """About how many samples a training batch may have in `free` bytes; `tried` were too many.

    Half as many at most, at least one: layers' outputs are not all that a step keeps.
    """
    kept = 2 * activations(model, in_shape, dtype).all  # each output, and the gradient by it
    parameters = sum(4 * p.numel() for p in model.parameters())
    return max(min((free - 3 * parameters) // kept, tried // 2), 1)
