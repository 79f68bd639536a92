"""How much memory is free for images, on the host or on a GPU; `data/loaded.py` asks."""

from __future__ import annotations

import os
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of a container: what it may use may be less than the machine has


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
