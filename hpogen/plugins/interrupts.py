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

    Where Ctrl-C is ignored, as in a shell's background, or means something else, it stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _within, _interrupted
    outermost, _within = not _within, True
    if outermost:
        _interrupted = False
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if outermost:
            _within = False


_within = False  # one of these blocks
_interrupted = False  # in the last such block that lay in no other


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler: a library that is being imported may make something else of the exception."""
    global _interrupted
    _interrupted = True
    raise Interrupt


def interrupted() -> bool:
    """Whether Ctrl-C was raised in the last block of `interrupts`, whatever has become of that."""
    return _interrupted
