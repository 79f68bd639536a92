"""The study's `hpogen.log`: one line per ask and tell, key=value, written by `hpogen run`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from logging.handlers import MemoryHandler
from pathlib import Path

from hpogen.folder import LOG

FORMAT = "time=%(asctime)s level=%(levelname)s %(message)s"


@contextlib.contextmanager
def logged(directory: Path) -> Iterator[Callable[[], None]]:
    """Log `hpogen` at INFO; nothing is written before the function given is called.

    So a study that cannot be opened leaves no trace. The warnings up to there go to standard
    error, too.
    """
    logger = logging.getLogger("hpogen")
    file = logging.FileHandler(directory / LOG, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter(FORMAT))
    waiting = MemoryHandler(1_000_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(waiting)

    def begin() -> None:
        for record in waiting.buffer:
            if record.levelno >= logging.WARNING:
                print(f"{directory}: {record.getMessage()}", file=sys.stderr)
        logger.removeHandler(waiting)
        logger.addHandler(file)
        waiting.setTarget(file)
        waiting.flush()

    try:
        yield begin
    finally:
        logger.removeHandler(waiting)
        logger.removeHandler(file)
        logger.setLevel(before)
        file.close()
