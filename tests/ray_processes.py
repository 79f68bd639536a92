"""Ray's processes and hpogen's, found and signalled by the tests that take a cluster apart."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def without_rays(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the switches that a Ray of this process has left for its children."""
    return {key: value for key, value in environment.items() if not key.startswith("RAY_")}


def command_line(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def marked(mark: str) -> dict[int, str]:
    """The command lines of the processes, dead ones left out, in whose environment `mark` is."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            process = int(path.parent.name)
            if mark.encode() in path.read_bytes() and process != os.getpid():
                found[process] = command_line(process)
    return found


class Sandbox:
    """A folder and an environment of their own for processes, all of which end with the block."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **without_rays(os.environ),
            **QUIET,
            "HOME": str(home),
            "RAY_TMPDIR": str(home),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start a program; what it says stands in files, so that it never waits for a reader."""
        name = self.home / f"{len(self._started)}"
        with open(name.with_suffix(".out"), "w") as out, open(name.with_suffix(".err"), "w") as err:
            environment = self.environment | variables
            process = subprocess.Popen(words, env=environment, stdout=out, stderr=err, text=True)
        process.said = name  # type: ignore[attr-defined]
        self._started.append(process)
        return process

    def ray(self, *words: str) -> subprocess.Popen[str]:
        """A node of Ray, once it is up."""
        memory = "--object-store-memory=100000000"
        patience = {"RAY_raylet_start_wait_time_s": "200"}  # for a busy machine; Ray's is 30
        process = self.start(str(BIN / "ray"), "start", "--block", memory, *words, **patience)
        wait_until(lambda: "Ray runtime started" in said(process)[0], process)
        return process

    def processes(self) -> dict[int, str]:
        return marked(f"RAY_TMPDIR={self.home}")

    def find(self, name: str, beneath: int | None = None) -> list[int]:
        """The processes with such a name, perhaps only the descendants of one."""
        found = self.processes()
        named = [p for p in found if name in found[p].split(" ")[0].rsplit("/", 1)[-1]]
        return sorted(p for p in named if beneath is None or beneath in ancestors(p))

    def end(self) -> None:
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            for process in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            time.sleep(0.5 if self.processes() else 0)
        for started in self._started:
            started.wait(10)


@contextlib.contextmanager
def sandbox() -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="hp-", dir="/tmp", ignore_cleanup_errors=True) as home:
        place = Sandbox(Path(home))  # sockets have short names only
        try:
            yield place
        finally:
            place.end()


def said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process of a sandbox has written to standard output and standard error."""
    name: Path = process.said  # type: ignore[attr-defined]
    return name.with_suffix(".out").read_text(), name.with_suffix(".err").read_text()


def ancestors(process: int) -> Iterator[int]:
    while process > 1:
        yield process
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return


def wait_until(
    holds: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240
) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, said(process)
        assert time.monotonic() < deadline, said(process)
        time.sleep(0.1)
