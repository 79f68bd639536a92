"""Where an outcome comes from: the name of the code that trained it, the machine of the driver.

Workers write the code's name into every outcome, and `sharing.py` compares it: two outcomes of one
name are worth the same.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import hpogen

PACKAGE = Path(__file__).parent
ELSEWHERE = ("report", "analysis", "export", "searchers", "integrations", "cli", "driving.py")
"""Parts of the package that no training ever sees: a test of the imports says so."""

DIGITS = 12
CPUS, NVIDIA = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


def digests(plugins: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of each plug-in's content, by the name of its file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in plugins}


def digest(parts: Mapping[str, str]) -> str:
    """One short name for them all, whatever their order."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def code_of(sources: str, device: str) -> str:
    """hpogen's sources as far as they train, the plug-ins', hpogen's and torch's versions, the
    type of device.

    `device` is "cpu" or "cuda:K".
    """
    return _code_of(sources, device.partition(":")[0])


@functools.cache
def _code_of(sources: str, device_type: str) -> str:
    own = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in ELSEWHERE:
            own[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    versions = {"hpogen": hpogen.__version__, "torch": importlib.metadata.version("torch")}
    return digest({**own, **versions, "plugins": sources, "device": device_type})


def machine() -> dict[str, str | int]:
    """System, processor, cores and NVIDIA GPUs of this machine, as far as Linux tells of them."""
    gpus = [_line(path, "Model") for path in sorted(NVIDIA.glob("*/information"))]
    found: dict[str, str | int] = {
        "system": platform.platform(),
        "processor": _line(CPUS, "model name") or platform.machine(),
        "cores": os.cpu_count() or 0,
    }
    return {**found, "gpus": ", ".join(gpus)} if gpus else found


def _line(path: Path, name: str) -> str:
    """What stands behind `name:` in a file of the system; nothing where it is not there."""
    try:
        found = re.search(rf"^{name}\s*:\s*(.+)$", path.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1].strip() if found else ""
