"""Whether a Ray cluster has room for workers, now or when it has grown; `RayExecutor` asks here."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, cast

from hpogen.errors import UserError
from hpogen.executors.ray_cluster import Resources, notices

ROOM_SECONDS = 20.0  # without any worker, until one is told
STATUS = "__autoscaling_status"  # the key of Ray's own store where its first autoscaler reports
NAMELESS = re.compile(r"node_[0-9a-f]+")  # the "type" of a node that no autoscaler has started


def room(resources: Resources, cpus: float, gpus: float) -> int:
    """How many workers with such needs a node can hold."""
    fits = [int(resources.get("CPU", 0) / cpus + 1e-9)] if cpus else []
    if gpus:
        per_gpu = int(1 / gpus + 1e-9) if gpus < 1 else 1 / gpus
        fits.append(int(resources.get("GPU", 0) * per_gpu))
    return min(fits, default=1)


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
    """Whether an autoscaler looks after the cluster: then its nodes have a type with a name."""
    import ray
    from ray.core.generated import autoscaler_pb2
    from ray.experimental.internal_kv import _internal_kv_get

    raylet, messages = cast(Any, ray._raylet), cast(Any, autoscaler_pb2)
    client = raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = messages.GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=10))
    types = [node.ray_node_type_name for node in reply.cluster_resource_state.node_states]
    report = json.loads(_internal_kv_get(STATUS) or b"{}").get("autoscaler_report") or {}
    types += [*report.get("node_type_mapping", {}).values(), *report.get("active_nodes", {})]
    return any(name and not NAMELESS.fullmatch(name) for name in types)


class Waiting:
    """Tells that trials wait for room, once they have for a while, and that they go on."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = False

    def look(self, waits: bool, free: int, cpus: float, gpus: float) -> None:
        """`waits`: no worker has started; `free`: how many the nodes that are alive can hold."""
        now = time.monotonic()
        if not waits:
            if self._told:
                notices.warning("a worker has started: the run goes on")
            self._since, self._told = None, False
        elif self._since is None:
            self._since = now
        elif now > self._since + ROOM_SECONDS and not self._told:
            self._told = True
            needs = f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")
            notices.warning(
                "no worker (%s) has started for %.0f s: %s",
                needs,
                now - self._since,
                "waiting for Ray, or for room beside others in the cluster"
                if free
                else "waiting for a node that has room for one; no node that is alive has",
            )
