"""One Ray cluster for all the tests that need one: a head and a second node on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster`, to which this process is connected."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's own spelling
    import ray
    from ray.cluster_utils import Cluster

    config = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100_000_000}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "_system_config": config})
    nodes.add_node(**node)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="critical")
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()
