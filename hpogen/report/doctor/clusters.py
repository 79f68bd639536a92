"""Ray: a cluster that this machine is part of, the token, and whether one can be started here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpogen.report.doctor.finding import GIB, Finding, Silent, note, ok, probed, problem

SHM = Path("/dev/shm")
GET_RAY = "pip install 'ray[tune]', or scripts/setup; one worker needs no Ray"


def clusters(start: bool) -> Iterator[Finding]:
    """What is there; with `start` also whether a cluster of one's own begins, and ends."""
    try:
        found = probed("ray")
    except Silent as silent:
        yield problem("ray", f"cannot be used: {silent}", GET_RAY)
        return
    yield _running(found)
    if found["mode"] is not None:
        yield _token(found)
    yield from _shared_memory()
    if start:
        yield _started()


def _running(found: Mapping[str, Any]) -> Finding:
    if not found["address"]:
        return ok("cluster", "none runs here; --workers N starts its own")
    if found["answers"]:
        return ok("cluster", f"{found['address']} answers: --ray auto uses it")
    text = f"{found['address']} is said to run here, and does not answer"
    return note("cluster", text, "ray stop, if it should be gone; unset RAY_ADDRESS")


def _token(found: Mapping[str, Any]) -> Finding:
    place, mode = found["token"], f"{found['mode']:o}"
    if found["mode"] & 0o077:
        todo = f"chmod 600 {place}"
        return problem("token", f"{place} has the mode {mode}: others can read it", todo)
    return ok("token", f"{place} has the mode {mode}")


def _shared_memory() -> Iterator[Finding]:
    if not SHM.is_dir():
        return
    free = shutil.disk_usage(SHM).free
    text = f"{SHM} has {free / GIB:.1f} GiB free"
    if free < GIB:
        todo = "in a container: --shm-size=4g; workers share their data there"
        yield note("shared memory", text, todo)
    else:
        yield ok("shared memory", text)


def _started() -> Finding:
    try:
        found = probed("ray-start")
    except Silent as silent:
        return problem("start", f"--ray local: {silent}", "look at /tmp/ray/session_latest/logs")
    return ok("start", f"a cluster of its own began and worked within {found['seconds']:.0f} s")
