"""The lock of a study's folder: one process writes, the kernel frees it when that process ends.

The ledger takes it; readers ask who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import time
from pathlib import Path

from hpogen.errors import UserError, explained, shortened

LOCK = "lock"
HELD = (errno.EACCES, errno.EAGAIN)  # what POSIX says of a lock that another process holds

_OURS: dict[str, str] = {}  # lockf does not exclude a second opening by the same process


class Owner:
    """The process that has opened something to write to. One that it forks must not write there."""

    def __init__(self, what: object) -> None:
        self._what = what
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        return os.getpid() == self._process

    def check(self) -> None:
        """Raise UserError in a forked process."""
        if not self.is_here:
            raise UserError(
                f"{self._what}: is written by process {self._process} alone, which has forked this "
                f"one, {os.getpid()}: end it by os._exit() before it comes back to hpogen"
            )


def this_process() -> str:
    """What stands in the lock of each folder that this process has open."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def mark(directory: Path) -> tuple[Path, str]:
    """The lock of a folder that this process has open, and what stands in it.

    Who reads that there, on whatever machine, sees the same folder.
    """
    return directory.absolute() / LOCK, this_process()


def holder(directory: Path) -> str | None:
    """Who writes to the folder now (`process 4711 on node3`), or None.

    Raises UserError where the lock cannot be read.
    """
    if (ours := _OURS.get(str(directory.resolve()))) is not None:
        return ours  # and closing the file, as below, would give our own lock away
    path = directory / LOCK
    try:
        with open(path, "rb") as file:
            return _owner(file.fileno()) if _is_held(file.fileno()) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}: whether the study runs is not known; "
            "make it a file that you may read, or delete it"
        ) from None


def _is_held(lock: int) -> bool:
    """Whether another process holds the lock of an open file."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return True
    return False


def _owner(lock: int) -> str:
    found = re.match(r"process \d+ on \S+", os.pread(lock, 200, 0).decode(errors="replace"))
    return shortened(found[0]) if found else "another process"


class Lock:
    """The lock, held. Raises UserError where another process, or this one, has it already."""

    def __init__(self, directory: Path) -> None:
        self._key = str(directory.resolve())
        self._fd = _acquire(directory, self._key)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)
        _OURS.pop(self._key, None)


def _acquire(directory: Path, key: str) -> int:
    path = directory / LOCK
    if key in _OURS:  # opening and closing it would drop the lock that this process holds
        raise _in_use(directory, _OURS[key])
    with explained(path, UserError):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait_for(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    _OURS[key] = this_process()
    with contextlib.suppress(OSError):  # a full disk: the lock is held, whatever stands in it
        os.ftruncate(fd, 0)
        os.pwrite(fd, _OURS[key].encode(), 0)
    return fd


def _wait_for(lock: int, directory: Path) -> None:
    """Take the lock of an open file; a reader's glance at it is waited for, a driver is not."""
    deadline = time.monotonic() + 0.5
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in HELD:
                raise UserError(
                    f"{directory / LOCK}: cannot be locked: {error.strerror}: the study's folder "
                    "must be on a file system that has POSIX locks"
                ) from None
            if time.monotonic() > deadline:
                raise _in_use(directory, _owner(lock)) from None
            time.sleep(0.02)


def _in_use(directory: Path, who: str) -> UserError:
    return UserError(f"{directory}: in use by {who}; wait for it, or stop it")
