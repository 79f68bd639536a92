"""How often somebody has looked at a study's audit figures: counted in its ledger.

The commands that show them call `count_looks`. A figure that has led to decisions is no longer of
samples that nobody has seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from hpogen.errors import UserError
from hpogen.record import events
from hpogen.record.ledger import LEDGER, encode, holder, write_whole
from hpogen.record.lock import Lock

MANY = 10  # looks, from which on it is said
KNOWN = b'"finalists":'  # in the header of every study since there are looks


def count_looks(directories: Iterable[Path], command: str) -> None:
    """Write one more look down for each study, but where that cannot be, or would disturb somebody.

    That is a folder that cannot be written to, that a driver has, or whose ledger is torn (the next
    driver mends it), or was begun by an hpogen that does not know this line.
    """
    for directory in directories:
        with contextlib.suppress(UserError, OSError):
            if (directory / LEDGER).exists() and holder(directory) is None:
                _count(directory, command)


def _count(directory: Path, command: str) -> None:
    """The ledger has been read once by whoever calls: its lines are counted here, not parsed."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(directory / LEDGER, "r+b", buffering=0))
        if KNOWN not in file.readline():
            return
        stack.callback(Lock(directory).release)
        file.seek(0)
        data = file.read()
        if data.endswith(b"\n"):
            line = encode(events.looked(command), data.count(b"\n"))
            write_whole(file.fileno(), line, len(data))
