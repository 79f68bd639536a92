"""Whether a Ray cluster has room for workers, now or when it has grown, and what of its GPUs.

`RayExecutor` asks here.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any, cast

from hpogen.errors import UserError
from hpogen.executors.base import ExecutorLost
from hpogen.executors.ray_cluster import Resources, log, notices
from hpogen.executors.ray_cluster import gpus as gpus_of_cluster
from hpogen.tasks.base import SEVERAL_GPUS, Task

ROOM_SECONDS = 20.0  # without any worker, until one is told
NONE_SECONDS = 10.0  # the same where no node that is alive has room for one
NODE_SECONDS = 50.0  # and until a cluster that brings no node by itself is given up
STATUS = "__autoscaling_status"  # the key of Ray's own store where its first autoscaler reports
NAMELESS = re.compile(r"node_[0-9a-f]+")  # the "type" of a node that no autoscaler has started


def room(resources: Resources, cpus: float, gpus: float) -> int:
    """How many workers with such needs a node can hold."""
    fits = [int(resources.get("CPU", 0) / cpus + 1e-9)] if cpus else []
    if gpus:
        per_gpu = int(1 / gpus + 1e-9) if gpus < 1 else 1 / gpus
        fits.append(int(resources.get("GPU", 0) * per_gpu))
    return min(fits, default=1)


def refuse_many_gpus(task: Task, gpus_per_trial: float) -> None:
    """Raise UserError where a trial would leave GPUs unused."""
    if gpus_per_trial > 1 and task.one_gpu:
        raise UserError(
            f"--gpus-per-trial: got {gpus_per_trial:g}, but a trial of task {task.name!r} "
            f"{SEVERAL_GPUS}"
        )


def equal_share(workers: int | None) -> float:
    """The part of a GPU that each of so many workers can have; 1 at most, 0 without GPUs."""
    gpus = gpus_of_cluster()
    if not gpus:
        return 0.0
    return 1.0 if workers is None else 1 / max(1, math.ceil(workers / gpus))


def check(nodes: Mapping[str, Resources], cpus: float | None, gpus: float) -> None:
    """Raise UserError where no node can hold a worker, and none that could will come by itself."""
    for what, need in (("GPU", gpus), ("CPU", cpus)):
        most = max((node.get(what, 0) for node in nodes.values()), default=0)
        if need and need > most and not grows():
            raise UserError(
                f"--{what.lower()}s-per-trial: got {need:g}, but no node of the cluster has "
                f"more than {most:g}, and it has no autoscaler to bring another"
            )


def grows() -> bool:
    """Whether an autoscaler looks after the cluster: then its nodes have a type with a name.

    Where the cluster does not say, it may.
    """
    try:
        return any(name and not NAMELESS.fullmatch(name) for name in _types())
    except Exception as error:  # Ray's are of many classes
        log.info("autoscaler=unknown error=%r", str(error)[:200])
        return True


def _types() -> list[str]:
    """The types of nodes that there are, and those that an autoscaler knows."""
    import ray
    from ray.core.generated import autoscaler_pb2
    from ray.experimental.internal_kv import _internal_kv_get

    raylet, messages = cast(Any, ray._raylet), cast(Any, autoscaler_pb2)
    client = raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = messages.GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=10))
    types = [node.ray_node_type_name for node in reply.cluster_resource_state.node_states]
    report = json.loads(_internal_kv_get(STATUS) or b"{}").get("autoscaler_report") or {}
    return [*types, *report.get("node_type_mapping", {}).values(), *report.get("active_nodes", {})]


class Waiting:
    """Tells that trials wait for room, once they have for a while, and that they go on."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = False

    def look(self, waits: bool, free: int, cpus: float, gpus: float) -> None:
        """`waits`: no worker has started; `free`: how many the nodes that are alive can hold.

        Raises ExecutorLost where none can for long, and no autoscaler will bring another.
        """
        now = time.monotonic()
        if not waits:
            if self._told:
                notices.warning("a worker has started: the run goes on")
            self._since, self._told = None, False
        elif self._since is None:
            self._since = now
        elif now > self._since + (ROOM_SECONDS if free else NONE_SECONDS) and not self._told:
            self._told = True
            notices.warning(
                "no worker (%s) has started for %.0f s: %s",
                _needs(cpus, gpus),
                now - self._since,
                _hope(free, self._since + NODE_SECONDS - now),
            )
        elif now > self._since + NODE_SECONDS and not free and not grows():
            raise ExecutorLost(
                f"no node of the Ray cluster that is alive has room for a worker "
                f"({_needs(cpus, gpus)}), and none has come for {now - self._since:.0f} s"
            )


def _needs(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")


def _hope(free: int, left: float) -> str:
    """What is waited for; `left`: the seconds that a cluster has which does not grow by itself."""
    if free:
        return "waiting for Ray, or for room beside others in the cluster"
    text = "waiting for a node that has room for one; no node that is alive has"
    return text if grows() else f"{text}; the run ends in {left:.0f} s unless one joins"
