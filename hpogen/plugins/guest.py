"""The border to code that is not hpogen's: plug-ins, tasks, models, data sets, measures, searchers.

Whatever such code does to the process ends there: it cannot end the program, move it to another
folder, or go on with hpogen's work in a process that it has forked.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from hpogen.errors import text_of
from hpogen.plugins.interrupts import Ours, interrupts

log = logging.getLogger(__name__)

PREFIX = "hpogen_plugin_"  # of the modules that plug-in files become


class Raised(Exception):
    """A guest raised what is no Exception (SystemExit, say), which is the cause."""

    def __str__(self) -> str:
        return described(self)


class Place:
    """The folder that a guest has moved to: it is there again when it goes on. None: not moved."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder


PLUGINS = Place()  # where the plug-ins were when all were imported
_inside: set[int] = set()  # this process, while it is within a guest


@contextlib.contextmanager
def guest(place: Place = PLUGINS) -> Iterator[None]:
    """Run a guest's code, in its place; what is behind the block is run in this process alone.

    A process that the guest forks ends at the block's end. Ctrl-C within is an Interrupt. Raises
    Raised for all else that is no Exception, and not Ours.
    """
    process = os.getpid()
    nested = process in _inside  # a user's measure, say, called within a trial
    _inside.add(process)
    try:
        with _moved(Place() if nested else place), interrupts():
            yield
    except (Exception, Ours):
        if os.getpid() != process:
            _leave(1, traceback.format_exc())
        _note(place)
        raise
    except BaseException as error:
        if os.getpid() != process:
            _leave(*_wish(error))
        _note(place)
        raise Raised from error
    finally:
        if os.getpid() != process:
            _leave(0)
        if not nested:
            _inside.discard(process)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a guest's, as hpogen calls it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with guest():
            return function(*args, **kwargs)

    return call


def described(error: BaseException) -> str:
    """`ValueError: what it says`, on one line."""
    if isinstance(error, Raised) and error.__cause__ is not None:
        error = error.__cause__
    return text_of(error).removesuffix(":")


def place_of(error: BaseException) -> str | None:
    """`my_task.py, line 12`: where in a plug-in an error came from; None: from elsewhere."""
    found = None
    trace = (error.__cause__ or error if isinstance(error, Raised) else error).__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__")).startswith(PREFIX):
            found = f"{Path(frame.f_code.co_filename).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


@contextlib.contextmanager
def _moved(place: Place) -> Iterator[None]:
    """In the guest's folder, which the place remembers; afterwards hpogen is where it was."""
    try:
        ours = os.getcwd()
    except OSError:  # somebody has deleted it
        yield
        return
    if place.folder is not None:
        with contextlib.suppress(OSError):
            os.chdir(place.folder)
    try:
        yield
    finally:
        theirs = None
        with contextlib.suppress(OSError):
            theirs = os.getcwd()
            place.folder = theirs if theirs != ours else None
        if theirs != ours:
            os.chdir(ours)


def _note(place: Place) -> None:
    """The traceback, for the study's log; a trial's goes to its own."""
    if place is PLUGINS:
        log.info("plug-in raised=true", exc_info=True)


def _wish(error: BaseException) -> tuple[int, str]:
    """The exit code and the last words that a forked process has asked for."""
    if not isinstance(error, SystemExit):
        return 1, traceback.format_exc()
    if error.code is None or isinstance(error.code, int):
        return error.code or 0, ""
    return 1, f"{error.code}\n"


def _leave(code: int, words: str = "") -> NoReturn:
    """End a forked process: its parent's handlers, buffers and files are not its own."""
    with contextlib.suppress(Exception):
        sys.stderr.write(words)
        sys.stderr.flush()
    os._exit(code & 0xFF)
