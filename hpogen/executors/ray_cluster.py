"""Connects to a Ray cluster, or starts one on this machine, with every failure as one line.

`RayExecutor` begins here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpogen.errors import UserError

log = logging.getLogger("hpogen.executors")
notices = logging.getLogger("hpogen.executors.cluster")  # the command line shows its warnings

COPY = "copy ~/.ray/auth_token of the cluster's head to this machine"
TOKEN = Path.home() / ".ray" / "auth_token"
CONNECT_SECONDS = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the type of the frame with which a gRPC server answers

Resources = Mapping[str, float]


def connect(address: str, cpus: int) -> bool:
    """Connect this process to `local` (a new cluster here), `auto` (the one here) or host:port.

    `cpus` is what a local one may be asked for. False: it was connected already, and is left so.
    Raises UserError within 30 seconds.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do one day
    if address == "local":  # Ray's switch for "loopback only", named after where it is the default
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves beside anything else
    else:
        where = _running() if address == "auto" else address
        _reach(where)
    import ray

    if ray.is_initialized():
        return False
    _keep_token()
    if address != "local":
        _use_token(where)
    options: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": "critical",
    }
    if address == "local":
        options |= {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(**options)
    except Exception as error:  # where it was too slow to start, that is Ray's class for it
        text = " ".join(str(error).split())
        raise UserError(f"--ray {address}: {text}") from None
    finally:
        _keep_token()
    _hush()
    return True


def _running() -> str:
    """HOST:PORT of the cluster that this machine is part of. Raises UserError without one."""
    from ray._private import services

    try:
        return services.canonicalize_bootstrap_address("auto") or ""
    except (ConnectionError, ValueError) as error:
        raise UserError(f"--ray auto: {' '.join(str(error).split())}") from None


def _use_token(where: str) -> None:
    """Show the token to a cluster that asks for one, and only there. Raises UserError if it is not
    the cluster's, of which Ray itself says in 20 seconds that it "failed to connect".

    Ray shows it to `auto` alone, and also to a cluster that has none; that one cannot call back.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "disabled"
        if not _refuses(where):
            return
        os.environ["RAY_AUTH_MODE"] = "token"
    mode = os.environ["RAY_AUTH_MODE"]
    if mode.lower() == "token" and not _has_token():
        raise UserError(f"--ray {where}: Ray's token is not here: {COPY}")
    if _refuses(where):
        why = f"RAY_AUTH_MODE={mode} keeps it back: unset that"
        if mode.lower() == "token":
            why = f"that of this machine is another: {COPY}"
        raise UserError(f"--ray {where}: the cluster asks for Ray's token, and {why}")


def _has_token() -> bool:
    """Whether Ray finds one: where there is none, its client ends this process."""
    if os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return True
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN)
    try:
        return bool(path.read_text().strip())
    except (OSError, ValueError):
        return False


def _refuses(where: str) -> bool:
    """Whether the cluster asks for a token and is not given it, as RAY_AUTH_MODE is now."""
    import ray

    raylet: Any = ray._raylet
    raylet.Config.initialize("")  # as Ray itself does, so that the mode is read again
    try:  # with a name that no cluster has, or it would be asked for one first, for 20 s
        client = raylet.GcsClient(address=where, cluster_id="0" * 56)
        client.internal_kv_get(b"session_name", b"session", timeout=CONNECT_SECONDS)
    except Exception as error:
        return "InvalidAuthToken" in str(error)
    return False


def _keep_token() -> None:
    """Let nobody else read the token: Ray 2.60 writes it for all the world."""
    with contextlib.suppress(OSError):
        TOKEN.parent.mkdir(mode=0o700, exist_ok=True)
        TOKEN.chmod(0o600)


def abandon() -> None:
    """Leave a cluster that does not let go: what `connect` started ends, nothing waits for it."""
    import atexit

    import ray
    import ray._private.worker as internals

    atexit.unregister(ray.shutdown)
    if internals._global_node is not None:
        internals._global_node.kill_all_processes(check_alive=False)


def _hush() -> None:
    """Send to the log what Ray prints, all over the live table, of each worker that dies."""
    import ray._private.worker as internals

    def write(data: Mapping[str, Any], **_: object) -> None:
        log.info("ray said=%r", " ".join(data["lines"])[:300])

    internals.print_to_stdstream = write  # type: ignore[assignment]


def _reach(address: str) -> None:
    """Raise UserError unless something that may be Ray answers: Ray's own attempt takes minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UserError(
            f"--ray: got {address!r}, expected local, auto or HOST:PORT (the port of `ray start "
            "--head`, 6379 by default); run hpogen on a machine of the cluster"
        )
    try:
        spoke = answers(host, int(port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray {address}: cannot be reached ({error}); is the cluster up, and is this a "
            "machine of it?"
        ) from None
    if not spoke:
        raise UserError(f"--ray {address}: what listens there is not a Ray cluster")


def answers(host: str, port: int) -> bool:
    """Whether what listens there speaks as Ray's servers do. Raises OSError where nothing does."""
    with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
        connection.settimeout(CONNECT_SECONDS)
        connection.sendall(PREFACE)
        answer = connection.recv(9)
    return len(answer) >= 4 and answer[3] == SETTINGS


def nodes() -> dict[str, Resources]:
    """The resources of each node that is alive, by Ray's name of it."""
    import ray

    found: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in found if node["Alive"]}


def raylet(node: str) -> tuple[str, int]:
    """Where a node's raylet listens."""
    import ray

    found: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    mine = next(each for each in found if each["NodeID"] == node)
    return mine["NodeManagerAddress"], mine["NodeManagerPort"]


def gpus() -> int:
    """The GPUs of the cluster that this process is connected to."""
    return int(sum(resources.get("GPU", 0) for resources in nodes().values()))
