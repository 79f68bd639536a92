"""A SLURM of several nodes on this machine, all of it on the loopback address, for the tests.

Needs Debian's packages `slurm-wlm` and `munge`, whose slurmd can play several nodes (-N).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ray_processes import without_rays

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "srun")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
WHY = f"needs a SLURM: apt-get install slurm-wlm munge (missing: {', '.join(MISSING)})"
NODES = 3
CONF = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={home}/munge.sock,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ReturnToService=0
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Submits jobs and asks after them. `environment` is that of its programs and of the jobs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **without_rays(os.environ),
            "PATH": PATH,
            "SLURM_CONF": str(home / "slurm.conf"),
            "HOME": str(home / "user"),
            "RAY_TMPDIR": str(home),
        }

    def call(self, *words: str, cwd: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(
            words, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, (words, done.stderr)
        return done.stdout

    def submit(self, directory: Path, *words: str) -> str:
        """The number of the new job."""
        few = ("--cpus-per-task=1", "--gpus-per-node=0", "--mem=0")
        return self.call("sbatch", "--parsable", *few, *words, cwd=directory).strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job: JobState, Restarts, NodeList, ExitCode, …"""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "show", "job", number)))

    def wait_for(self, number: str, *states: str, seconds: float = 120) -> dict[str, str]:
        deadline = time.monotonic() + seconds
        while (found := self.job(number))["JobState"] not in states:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def processes(self) -> list[int]:
        """All that runs in this SLURM, daemons and what jobs have left included."""
        mark = f"SLURM_CONF={self.home}/".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found


@contextlib.contextmanager
def slurm() -> Iterator[Slurm]:
    """A running one, of which nothing is left after the block."""
    home = Path(tempfile.mkdtemp(prefix="hp-", dir="/tmp"))  # sockets have short names only
    started = Slurm(home)
    try:
        _configure(home)
        _start(started)
        yield started
    finally:
        started.call("scancel", "--user", getpass.getuser(), check=False)
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 20
            while (left := started.processes()) and time.monotonic() < deadline:
                for process in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, number)
                time.sleep(0.5)
        for daemon in started.daemons:
            daemon.wait(10)
        shutil.rmtree(home, ignore_errors=True)


def _configure(home: Path) -> None:
    for name in ("state", "user", *(f"spool-n{i}" for i in range(NODES))):
        (home / name).mkdir()
    with contextlib.ExitStack() as stack:
        servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(NODES + 1)]
        ports = [stack.enter_context(server).getsockname()[1] for server in servers]
    lines = [
        f"NodeName=n{i} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN"
        for i, port in enumerate(ports[1:])
    ]
    text = CONF.format(home=home, user=getpass.getuser(), ports=ports, nodes="\n".join(lines))
    (home / "slurm.conf").write_text(text)
    (home / "munge.key").write_bytes(secrets.token_bytes(128))
    (home / "munge.key").chmod(0o600)


def _start(slurm: Slurm) -> None:
    home = slurm.home
    names = {"socket": "sock", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{name}={home}/munge.{suffix}" for name, suffix in names.items()]
    _daemon(slurm, "munged", "--foreground", "--force", f"--log-file={home}/munge.log", *options)
    _until((home / "munge.sock").exists)
    _daemon(slurm, "slurmctld", "-D")
    for i in range(NODES):
        _daemon(slurm, "slurmd", "-D", "-N", f"n{i}")
    _until(lambda: slurm.call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(NODES))


def _daemon(slurm: Slurm, *words: str) -> None:
    with open(slurm.home / "daemons.log", "ab") as log:
        process = subprocess.Popen(words, env=slurm.environment, stdout=log, stderr=log)
    slurm.daemons.append(process)


def _until(holds: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "SLURM did not start"
        time.sleep(0.1)
