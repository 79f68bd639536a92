"""Ctrl-C as an exception of hpogen's own, which is told from one that a plug-in raises."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Ours(BaseException):
    """hpogen's own, raised by a signal in whatever code runs then: no fault of that code."""


class Interrupt(Ours, KeyboardInterrupt):
    """Somebody pressed Ctrl-C; a plain KeyboardInterrupt is one that some code has raised."""


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Within the block Ctrl-C raises Interrupt, where Python would raise KeyboardInterrupt.

    Where it is ignored, as in a shell's background, or is somebody else's, it stays so. A block
    within a block does nothing.
    """
    global _within, _interrupted
    if _within or threading.current_thread() is not threading.main_thread():
        yield
        return
    _within, _interrupted = True, False
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        _within = False
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


_within = False  # such a block
_interrupted = False  # in the last one


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler: a library that is being imported may make something else of the exception."""
    global _interrupted
    _interrupted = True
    raise Interrupt


def interrupted() -> bool:
    """Whether Ctrl-C was raised in the last block of `interrupts`, whatever has become of it."""
    return _interrupted
