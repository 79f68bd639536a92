"""Ctrl-C, SIGTERM and SIGHUP as a polite request: the first sets a flag, the second insists."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt(KeyboardInterrupt):
    """Somebody pressed Ctrl-C; a plain KeyboardInterrupt is one that some code has raised."""


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Within the block Ctrl-C raises Interrupt, where Python would raise KeyboardInterrupt."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupt


class StopRequest:
    """Within the block, `requested` tells whether to stop; a second signal raises at once.

    A signal that was ignored when the block began (SIGHUP under nohup) stays ignored. Outside the
    main thread signals cannot be caught, and nothing is requested. A process that is forked within
    leaves Ctrl-C to its parent, and ends at once by SIGTERM, which is how parents end it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.requested:
            raise Interrupt
        self.requested = True
