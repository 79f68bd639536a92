"""The file system of a study's folder: room, writing, locks, renames and syncs, each by trying.

A study needs all of them (docs/ledger.md); what is written to try is deleted again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hpogen.errors import UserError
from hpogen.record.ledger import SYNC_SECONDS
from hpogen.record.stores import is_url
from hpogen.report.doctor.finding import GIB, Finding, note, ok, problem
from hpogen.study.read import read

FULL, SCARCE = GIB // 4, 4 * GIB  # bytes that are free
MOUNTS = Path("/proc/self/mountinfo")
NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs",
}  # fmt: skip
PASSING = {
    "tmpfs": "in memory, gone when the machine goes down",
    "ramfs": "in memory, gone when the machine goes down",
    "overlay": "of a container, gone with it",
}
SYNCS = 5  # of which the median counts
ELSEWHERE = "give the study another folder: --dir DIR on a local disk, or on NFS 4"
TAKE = """
import fcntl, sys
file = open(sys.argv[1], "r+")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(3)
"""
"""Another process's attempt; 3: somebody has the lock."""


def storage(directory: Path, checkpoints: Path | None = None) -> Iterator[Finding]:
    """A study's folder, or where it would be made; the places of checkpoints and temporary files.

    `checkpoints` is None where they are in the study's folder.
    """
    home = existing(directory)
    yield room("disk", home)
    for name, place in (("checkpoints", checkpoints), ("temporary", Path(tempfile.gettempdir()))):
        if place is not None and os.stat(existing(place)).st_dev != os.stat(home).st_dev:
            yield room(name, existing(place))
    yield _kind(home)
    try:
        trial = tempfile.TemporaryDirectory(prefix=".hpogen-doctor-", dir=home)
    except OSError as error:
        text = f"{home}: cannot be written: {error.strerror}"
        yield problem("writing", text, "give a folder that you may write, by --dir DIR")
        return
    with trial as folder:
        for name, attempt in (("locks", _locks), ("renames", _renames), ("syncs", _syncs)):
            yield _tried(name, attempt, Path(folder))


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    while not os.path.isdir(path) and path != path.parent:  # what may not be seen is not there
        path = path.parent
    return path


def room(name: str, folder: Path) -> Finding:
    """How much can be written there, in bytes and in files."""
    found = os.statvfs(folder)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    text = f"{folder}: {_size(free)} of {_size(total)} are free"
    if free < FULL or (found.f_files and found.f_favail < 1000):
        if free >= FULL:
            text += f", but only {found.f_favail} more files"
        return problem(name, text, "make room, or give another folder by --dir DIR")
    if free < SCARCE:
        return note(name, text, "it is enough for small networks whose checkpoints are not kept")
    return ok(name, text)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"


def _kind(folder: Path) -> Finding:
    kind, point = mount(folder)
    text = f"{kind or 'of an unknown kind'}{f', mounted at {point}' if point else ''}"
    if kind in NETWORK or kind.startswith("fuse."):
        todo = "one driver at a time; each epoch waits for it: look at the time of syncs"
        return note("file system", f"{text}: over a network or another process", todo)
    if kind in PASSING:
        return note("file system", f"{text}: {PASSING[kind]}", "have a study's folder elsewhere")
    return ok("file system", text)


def mount(folder: Path) -> tuple[str, str]:
    """The kind of the file system that a folder is on, and its mount point; empty: not known."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return "", ""
    place, found = folder.resolve(), ("", "")
    for words, _, rest in (line.partition(" - ") for line in lines):
        point = _unescaped(words.split(" ")[4])
        if place.is_relative_to(point) and len(point) >= len(found[1]):
            found = rest.split(" ")[0], point  # the last one covers others
    return found


def _unescaped(point: str) -> str:
    return re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), point)


def _tried(name: str, attempt: Callable[[Path], Finding], folder: Path) -> Finding:
    try:
        return attempt(folder)
    except OSError as error:
        return problem(name, f"do not work: {error.strerror}", ELSEWHERE)


def _locks(folder: Path) -> Finding:
    """Whether a lock that this process has keeps another out, and no longer than that."""
    path = folder / "lock"
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept_out = _take(path) == 3
    if kept_out and _take(path) == 0:
        return ok("locks", "a lock keeps another process out (POSIX, this machine)")
    text = "a lock does not keep another process out" if not kept_out else "a lock is not let go"
    return problem("locks", f"{text}: two drivers could write to one study", ELSEWHERE)


def _take(path: Path) -> int:
    return subprocess.run([sys.executable, "-I", "-S", "-c", TAKE, str(path)]).returncode


def _renames(folder: Path) -> Finding:
    """Whether a file takes another's place while a reader has that one open."""
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with open(old, "rb") as reader:
        os.replace(new, old)
        if (reader.read(), old.read_bytes(), new.exists()) == (b"old", b"new", False):
            return ok("renames", "a file is replaced whole")
    return problem("renames", "a file is not replaced whole", ELSEWHERE)


def _syncs(folder: Path) -> Finding:
    """How long it takes to bring a page to the disk."""
    with open(folder / "sync", "wb", buffering=0) as file:
        seconds = statistics.median(_sync(file.fileno()) for _ in range(SYNCS))
    text = f"{1000 * seconds:.1f} ms each"
    if seconds > SYNC_SECONDS:
        todo = "each checkpoint waits so long: checkpoints.path on a faster disk helps"
        return note("syncs", f"{text}, longer than the {SYNC_SECONDS:g} s between two", todo)
    return ok("syncs", text)


def _sync(file: int) -> float:
    begin = time.perf_counter()
    os.write(file, bytes(4096))
    os.fsync(file)
    return time.perf_counter() - begin


def checkpoints_of(directory: Path) -> Path | None:
    """The folder that a study in `directory` keeps its checkpoints in, where that is another."""
    with contextlib.suppress(UserError, OSError):
        path = read(directory).spec.checkpoints.path
        return Path(path) if path is not None and not is_url(path) else None
    return None
