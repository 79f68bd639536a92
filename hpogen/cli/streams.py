"""Standard output and error, which may be closed, full, or read by somebody who has had enough.

Printing never fails. What could not be written is told once, on standard error; that a reader has
gone is nothing to tell.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any


class Output(io.FileIO):
    """A descriptor to write to, which keeps the error of the first write that failed."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


@contextlib.contextmanager
def outputs() -> Iterator[None]:
    """Within the block, standard output and error are Outputs."""
    _occupy()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _output(sys.stdout, 1), _output(sys.stderr, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def missed() -> str:
    """What must be said of what was printed and could not be written; asked again, nothing."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, Output) else None
    if error is None or error.errno == errno.EPIPE:
        return ""
    error.errno = errno.EPIPE
    return f"standard output: cannot be written: {error.strerror}"


def say(text: str) -> None:
    """One line on standard error."""
    print(" ".join(text.split()), file=sys.stderr, flush=True)


def _occupy() -> None:
    """Open what is closed: a file would be opened in its place, and be printed to."""
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest that is free; who writes to 1 is told so


def _output(stream: Any, number: int) -> Any:
    """The same as an Output; a character that it cannot encode, such as a bar's, becomes a `?`."""
    if stream is not None:
        stream.flush()
        try:
            number = stream.fileno()
        except OSError:  # it lies in memory
            return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Output(number, "w", closefd=False)),
        getattr(stream, "encoding", "utf-8"),
        "replace",
        line_buffering=getattr(stream, "line_buffering", False),
    )
