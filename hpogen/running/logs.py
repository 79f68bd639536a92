"""The study's `hpogen.log`: one line per ask and tell, key=value, written by `hpogen run`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from logging.handlers import MemoryHandler
from pathlib import Path

from hpogen.errors import shortened
from hpogen.record.folder import LOG

NOTICES = ("hpogen.executors.cluster", "hpogen.export.tracking")
"""Whose warnings are for who waits: they stand on standard error at once."""
FORMAT = "time=%(asctime)s level=%(levelname)s %(message)s"


class LogFile(logging.FileHandler):
    """Appends to a file. Where it cannot be written, that is said once, and the study goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(logging.Formatter(FORMAT))
        self._off = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # of opening it
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not self._off and isinstance(error, OSError):
            path = shortened(self.baseFilename)
            print(f"{path}: cannot be written: {error.strerror}: no log is kept", file=sys.stderr)
        self._off = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def logged(directory: Path) -> Iterator[Callable[[], None]]:
    """Log `hpogen` at INFO; nothing is written before the function given is called.

    So a study that cannot be opened leaves no trace. The warnings up to there go to standard
    error, too, and at once how far a replay is.
    """
    logger, notices = logging.getLogger("hpogen"), [*map(logging.getLogger, NOTICES)]
    told = logging.lastResort or logging.NullHandler()
    file = LogFile(directory / LOG)
    waiting = MemoryHandler(1_000_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(
        logging.Formatter("%(directory)s: %(message)s", defaults={"directory": directory})
    )
    logging.getLogger("hpogen.replay").addHandler(shown)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(waiting)

    def begin() -> None:
        for record in waiting.buffer:
            if record.levelno >= logging.WARNING:
                print(f"{directory}: {record.getMessage()}", file=sys.stderr)
        logger.removeHandler(waiting)
        logger.addHandler(file)
        for notice in notices:
            notice.addHandler(told)
        waiting.setTarget(file)
        waiting.flush()

    try:
        yield begin
    finally:
        logger.removeHandler(waiting)
        logger.removeHandler(file)
        logging.getLogger("hpogen.replay").removeHandler(shown)
        for notice in notices:
            notice.removeHandler(told)
        logger.setLevel(before)
        file.close()
