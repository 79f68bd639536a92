"""Ctrl-C, SIGTERM and SIGHUP as a polite request: the first sets a flag, the second insists."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from hpogen.plugins.interrupts import interrupt

SAME_SECONDS = 1.0  # SLURM's scancel reaches a job's script and this process: one request, twice
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Within the block, `requested` tells whether to stop; a later second signal raises at once.

    A signal that was ignored when the block began (SIGHUP under nohup) stays ignored. Outside the
    main thread signals cannot be caught, and nothing is requested. A process that is forked within
    leaves Ctrl-C to its parent, and ends by SIGTERM, which is how a parent ends its children.
    """

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._received)
            _watching.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in _watching:
            _watching.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.requested and time.monotonic() > self._since + SAME_SECONDS:
            interrupt(number, frame)
        if not self.requested:
            self.requested, self._since = True, time.monotonic()

    def leave(self) -> None:
        """What a forked process does with the signals."""
        for number, handler in self._before.items():
            ends = number == signal.SIGTERM
            signal.signal(number, handler if ends else lambda *_: None)


_watching: list[StopRequest] = []
_masks = threading.local()


def _before_fork() -> None:
    """A signal that reaches the new process before it has its handlers would be lost."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED if _watching else ())


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_forked() -> None:
    while _watching:
        _watching.pop().leave()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_forked)
