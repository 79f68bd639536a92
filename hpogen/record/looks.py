"""How often somebody has looked at a study's audit figures: counted in its ledger.

The commands that show them call `count_looks`. A figure that has led to decisions is no longer of
samples that nobody has seen.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from hpogen.errors import UserError
from hpogen.record import events
from hpogen.record.ledger import LEDGER, encode, holder, write_whole
from hpogen.record.lock import Lock

MANY = 10  # looks, from which on it is said
KNOWN = b'"finalists":'  # in the header of every study since there are looks
LAST = 64  # bytes of a ledger in which its last line's number stands
_LAST = re.compile(rb',"seq":(\d+),"crc":"[0-9a-f]{8}"\}\n\Z')


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
    """The ledger has been read once by whoever calls: only the last line's number is read here."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(directory / LEDGER, "r+b", buffering=0))
        if KNOWN not in file.readline():
            return
        stack.callback(Lock(directory).release)
        end = file.seek(0, os.SEEK_END)
        file.seek(end - LAST)
        if last := _LAST.search(file.read()):
            line = encode(events.looked(command), int(last[1]) + 1)
            write_whole(file.fileno(), line, end)
