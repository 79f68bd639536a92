"""What torch and Ray say of this machine, as one line of JSON: `python -m hpogen.executors.probe`.

`hpogen doctor` runs it as a process of its own, because a library that does not fit a machine may
kill its process, or never come back. The argument is `torch`, `ray` or `ray-start`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def torch() -> dict[str, Any]:
    """Its build, its view of the processor, and each GPU: name, capability, bytes."""
    import torch

    found: dict[str, Any] = {
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpus": [],
        "error": "",
    }
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        found["gpus"] = [_gpu(i) for i in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError) as error:  # no driver, no device, or a CPU build
        found["error"] = " ".join(str(error).split())
    return found


def _gpu(i: int) -> dict[str, Any]:
    import torch

    free, total = torch.cuda.mem_get_info(i)
    capability = ".".join(map(str, torch.cuda.get_device_capability(i)))
    return {
        "name": torch.cuda.get_device_name(i),
        "capability": capability,
        "free": free,
        "total": total,
    }


def ray() -> dict[str, Any]:
    """The cluster that this machine is part of, whether it answers, and the token's file mode."""
    from ray._private import services

    from hpogen.executors.ray_cluster import TOKEN, answers

    try:
        address = services.canonicalize_bootstrap_address("auto") or ""
    except (ConnectionError, ValueError):
        address = ""
    host, _, port = address.rpartition(":")
    try:
        spoke = bool(address) and answers(host, int(port))
    except OSError:
        spoke = False
    mode = TOKEN.stat().st_mode & 0o777 if TOKEN.exists() else None
    return {"address": address, "answers": spoke, "token": str(TOKEN), "mode": mode}


def ray_start() -> dict[str, Any]:
    """Start a cluster here as `--ray local` does, run something in it, and end it; seconds."""
    from hpogen.executors import ray_cluster

    begin = time.monotonic()
    ray_cluster.connect("local", 1)
    import ray

    found = ray.get(ray.remote(_forty_two).remote(), timeout=60)
    seconds = time.monotonic() - begin
    ray.shutdown()
    return {"seconds": seconds, "answer": found}


def _forty_two() -> int:
    return 42


if __name__ == "__main__":
    wanted = {"torch": torch, "ray": ray, "ray-start": ray_start}[sys.argv[1]]
    print(json.dumps(wanted()))
