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
    """Within the block Ctrl-C raises Interrupt, where Python would raise KeyboardInterrupt."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    global _interrupted
    _interrupted = False
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_interrupted = False  # in the last such block


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler: a library that is being imported may make something else of the exception."""
    global _interrupted
    _interrupted = True
    raise Interrupt


def interrupted() -> bool:
    """Whether Ctrl-C was raised in the last block of `interrupts`, whatever has become of that."""
    return _interrupted
