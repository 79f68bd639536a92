"""How much memory training has taken: what `status` goes by when it suggests how to pack trials."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


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
