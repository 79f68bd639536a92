"""Where an outcome comes from: the name of the code that trained it, the machine of the driver.

Workers write the code's name into every outcome, and `running/reuse.py` compares it: two outcomes
of one name are worth the same.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
TRAINS = (
    "errors.py",
    "trial.py",
    "plugins",
    "tasks",
    "measures",
    "training",
    "executors/worker.py",
    "record/stores.py",
)
"""What decides the numbers of a trial: files and folders; a test of the imports says so."""

DIGITS = 12
CPUS, NVIDIA = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


def digests(sources: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each file's content, a plug-in's say, by its name."""
    return {name: hashlib.sha256(source).hexdigest() for name, source in sources.items()}


def file_digests(files: Mapping[str, Path]) -> dict[str, str]:
    """The same of files by their paths, as far as they can be read."""
    found = {}
    for name, path in files.items():
        with suppress(OSError), open(path, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


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
    places = [PACKAGE / name for name in TRAINS]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) or [place])]
    own = digests({str(file.relative_to(PACKAGE)): file.read_bytes() for file in files})
    versions = {"hpogen": version("hpogen"), "torch": version("torch")}
    return digest({**own, **versions, "plugins": sources, "device": device_type})


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


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
