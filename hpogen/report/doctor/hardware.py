"""Processors, memory and GPUs, as the system has them and as torch sees them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpogen.record.provenance import machine
from hpogen.report.doctor.finding import GIB, Finding, Silent, note, ok, probed, problem

CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
DRIVER = Path("/proc/driver/nvidia/version")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of processor per period
MEMORY = Path("/sys/fs/cgroup/memory.max")
VISIBLE = "CUDA_VISIBLE_DEVICES"
LEAST_MEMORY = 2 * GIB  # for torch and a small data set
VECTORS = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}
GET_TORCH = "install torch for this machine, see pytorch.org/get-started"


def hardware() -> Iterator[Finding]:
    """The machine; torch is asked in a process of its own."""
    yield _processors()
    yield _memory()
    try:
        found = probed("torch")
    except Silent as silent:
        yield problem("torch", f"cannot be used: {silent}", GET_TORCH)
        return
    yield _instructions(found)
    yield from gpus(found, driver())


def _processors() -> Finding:
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    quota = _quota()
    text = f"{usable} of {there}, {machine()['processor']}"
    if quota is not None and quota < usable:
        todo = "use so many workers times task.threads at most"
        return note("processors", f"{text}; the container gets the time of {quota:g}", todo)
    return ok("processors", text)


def _quota() -> float | None:
    """How many processors' time the container may use; None: no limit that is known."""
    allowed, _, period = _read(QUOTA).partition(" ")
    return int(allowed) / int(period) if allowed.isdigit() else None


def _memory() -> Finding:
    total, available = (_kilobytes(name) for name in ("MemTotal", "MemAvailable"))
    limit = _read(MEMORY)
    text = f"{available / GIB:.1f} of {total / GIB:.1f} GiB are available"
    if limit.isdigit() and int(limit) < total:
        text += f"; the container may use {int(limit) / GIB:.1f} GiB"
        available = min(available, int(limit))
    if 0 < available < LEAST_MEMORY:
        return note("memory", text, "end other programs, or run with one worker")
    return ok("memory", text)


def _instructions(found: Mapping[str, Any]) -> Finding:
    """What of the processor's vectors torch uses; which of oneDNN's gradients hpogen replaces."""
    flags = set(_read(CPUINFO).split()) & set(VECTORS)
    has = ", ".join(name for flag, name in VECTORS.items() if flag in flags) or "no AVX2"
    text = f"{has}; torch uses {found['instructions']} and {found['threads']} threads by default"
    if os.uname().machine == "x86_64" and "avx2" not in flags:
        return note("instructions", text, "expect slow training on this processor")
    return ok("instructions", f"{text}; oneDNN#6035 is avoided (docs/speed.md)" if flags else text)


def gpus(found: Mapping[str, Any], driver: str) -> Iterator[Finding]:
    """The GPUs that torch has, or why it has none; `driver` is NVIDIA's version, empty: none."""
    build = f"CUDA {found['cuda']}" if found["cuda"] else "ROCm" if found["hip"] else "no CUDA"
    for i, gpu in enumerate(found["gpus"]):
        room = f"{gpu['free'] / GIB:.1f} of {gpu['total'] / GIB:.1f} GiB are free"
        about = f"compute capability {gpu['capability']}, driver {driver or 'unknown'}"
        yield ok(f"gpu {i}", f"{gpu['name']}: {room}, {about}; torch has {build}")
    if found["gpus"]:
        return
    if not driver:
        yield ok("gpu", f"none: training is on the CPU (torch has {build}, there is no driver)")
    elif os.environ.get(VISIBLE) in ("", "-1"):
        yield note("gpu", f"driver {driver}; {VISIBLE} hides every GPU", f"unset {VISIBLE}")
    elif build == "no CUDA":
        text = f"driver {driver}, but this torch is a CPU build"
        yield problem("gpu", text, GET_TORCH)
    else:
        text = f"driver {driver}, torch has {build} and no device: {found['error']}"
        todo = "bring the driver up to what torch needs, or install a torch for it"
        yield problem("gpu", text, todo)


def driver() -> str:
    """The version of NVIDIA's kernel module; empty: there is none."""
    version = re.search(r"\b\d+\.\d+(\.\d+)?\b", _read(DRIVER))
    return version[0] if version else ""


def _kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _read(MEMINFO), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
