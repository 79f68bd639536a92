"""`python guard.py WORD…` runs a command; when it ends, nothing that it has started is left.

`command.py` starts it as a program of its own, with the standard library alone. Its standard input
is a pipe from there: a byte asks the command to end, the pipe's end (whoever held it is gone, by
SIGKILL even) ends it at once. It ends as the command did, with the same exit code or signal.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
NOT_FOUND = 127  # the exit code of a shell for a program that it cannot start

SET_DEATH_SIGNAL, SET_SUBREAPER = 1, 36  # of prctl(2)


def main() -> None:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not ignored: the pipe above tells of it
    prctl(SET_SUBREAPER, 1)
    command = _start(sys.argv[1:])
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # the command alone holds its output
    status = _watch(command, woken)
    _end_all(command)
    _end_like(status)


def _start(words: list[str]) -> int:
    """The process of the command, which dies with this one (on Linux)."""
    process = os.fork()
    if process:
        _group(process)
        return process
    try:
        _group(0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(words[0], words)
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())
    os._exit(NOT_FOUND)


def _watch(command: int, woken: int) -> int:
    """Wait until the command ends; its status as `os.waitpid` gives it."""
    deadline = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = select.select([0, woken], [], [], left)[0]
        if woken in ready:
            os.read(woken, 4096)
        if (status := _ended(command)) is not None:
            return status
        if 0 in ready and os.read(0, 1) and deadline is None:
            deadline = time.monotonic() + GRACE
            _send(signal.SIGTERM, -command)
        elif 0 in ready or left == 0.0:
            _send(signal.SIGKILL, -command, command)
            return os.waitpid(command, 0)[1]


def _ended(command: int) -> int | None:
    """Reap what has ended, orphans included; the command's status if it was among them."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if process in (0, command):
            return status if process else None


def _end_all(command: int) -> None:
    """Kill the command's process group, and on Linux whoever has left that, until none is left."""
    while True:
        _send(signal.SIGKILL, -command, *_children())
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _group(process: int) -> None:
    """Make it the leader of a group; both it and its parent do so, whoever comes first."""
    try:
        os.setpgid(process, process)
    except OSError:
        return


def _send(number: int, *processes: int) -> None:
    """A signal to processes, or to groups by a minus; those that have gone are passed over."""
    for process in processes:
        try:
            os.kill(process, number)
        except OSError:
            continue


def _children() -> list[int]:
    """This process's children, orphans of the command's among them; none where /proc has none."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _end_like(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); elsewhere nothing."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
