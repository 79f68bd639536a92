"""The append-only record of a study: JSON lines with a sequence number and a checksum each.

The Study is the only writer and holds the folder's lock; everybody else reads. `docs/ledger.md`
describes the lines.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import secrets
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hpogen.errors import CannotGoOn, UserError, explained, quoted, shortened
from hpogen.record.lock import Lock, Owner
from hpogen.record.lock import holder as holder

log = logging.getLogger("hpogen.study")

FORMAT = 1
LEDGER, TORN = "ledger.jsonl", "ledger.torn"
SYNC_SECONDS = 0.1  # what a power loss may cost at most

Event = dict[str, Any]
_ID = re.compile(rb'{"kind":"study","format":\d+,"id":"([0-9a-f]+)"')
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_CRC = len(',"crc":"00000000"}')


class Corrupt(UserError):
    """A line inside the ledger does not hold what was written there."""


def encode(event: Mapping[str, Any], seq: int) -> bytes:
    """One line: the event, its sequence number, and the CRC-32 of everything before the CRC."""
    body = _encode({**event, "seq": seq})[:-1]
    return f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def decode(line: bytes, seq: int) -> Event:
    """The event of one line without its newline. Raises ValueError when it is not that line."""
    event = _parsed(line)
    if line[-_CRC:] != f',"crc":"{zlib.crc32(line[:-_CRC]):08x}"}}'.encode():
        raise ValueError("its checksum does not match")
    if event.pop("crc", None) is None or event.pop("seq", None) != seq:
        raise ValueError(f"its sequence number is not {seq}")
    return event


def _parsed(line: bytes) -> Event:
    """As JSON, the keys of all lines being the same strings: they take most of the memory else."""
    from pydantic_core import from_json

    try:
        event: Event = from_json(line, cache_strings="keys")
    except ValueError:  # half a surrogate pair, as Python writes what is no Unicode
        event = json.loads(line.decode())
    return event


@dataclass(frozen=True)
class Contents:
    """What a ledger file holds: whole events, and the torn tail behind byte `length`."""

    events: list[Event]
    length: int
    torn: bytes


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """No search for garbage in cycles meanwhile: what is read stays, and has none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@without_collection()
def parse(data: bytes, path: Path, before: int = 0) -> Contents:
    """Read every whole line. Only the last may be damaged: it is left out, as `torn`.

    `data` begins behind `before` lines that have been read. Raises Corrupt naming the line for
    damage inside, UserError for a ledger from the future.
    """
    events: list[Event] = []
    length = 0
    while length < len(data):
        end = data.find(b"\n", length) + 1 or len(data)
        number = before + len(events) + 1
        try:
            if not data.endswith(b"\n", length, end):
                raise ValueError("it has no end")
            events.append(decode(data[length : end - 1], number - 1))
        except (ValueError, AttributeError, RecursionError) as error:
            if end < len(data) or (number == 1 and data.endswith(b"\n")):
                raise Corrupt(
                    f"{path}:{number}: this line is damaged ({shortened(error)}); restore the "
                    "file from a copy, or start a new study with --dir"
                ) from None
            break
        length = end
    if events and not before:
        _check_header(events[0], path)
    return Contents(events, length, data[length:])


def _check_header(header: Event, path: Path) -> None:
    if header.get("kind") != "study":
        raise Corrupt(f"{path}:1: this is not the first line of a study's ledger")
    form = header.get("format", 0)
    if type(form) is not int or form > FORMAT:
        raise UserError(
            f"{path}:1: the ledger has format {quoted(form)}, this hpogen reads up to "
            f"{FORMAT}: upgrade hpogen"
        )


def read(directory: Path) -> list[Event]:
    """The events of a study's folder, for readers: no lock, nothing is repaired.

    Raises UserError when there is no study.
    """
    with opened(directory) as file:
        events = parse(file.read(), directory / LEDGER).events
    if not events:
        raise not_begun(directory)
    return events


def not_begun(directory: Path) -> UserError:
    return UserError(f"{directory}: the study here has not begun (its {LEDGER} is empty)")


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[BinaryIO]:
    """The ledger of a study's folder, for readers. Raises UserError when there is none."""
    path = directory / LEDGER
    with explained(path, UserError, "read"):
        try:
            with open(path, "rb") as file:
                yield file
        except (FileNotFoundError, NotADirectoryError):
            text = f"{shortened(directory)}: there is no study here (no {LEDGER})"
            raise UserError(text) from None


def new_id() -> str:
    """What a study's header and all that it writes beside its ledger have in common."""
    return secrets.token_hex(8)


def write_whole(file: int, data: bytes, end: int) -> None:
    """Append to an open file that ends at byte `end`, all or nothing. Raises OSError."""
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError:
        os.ftruncate(file, end)
        raise


def study_id(directory: Path) -> str:
    """The id of the study in a folder; empty where there is none, or it is older than ids."""
    try:
        with open(directory / LEDGER, "rb") as file:
            found = _ID.match(file.read(100))
    except OSError:
        return ""
    return found[1].decode() if found else ""


class Ledger:
    """A study's ledger, open for writing. Raises UserError when another driver has the folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / LEDGER
        self.owner = Owner(self.path)
        with explained(directory, UserError):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(directory)
        try:
            with explained(self.path, UserError):
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                data = self.path.read_bytes()
            contents = parse(data, self.path)
        except BaseException:
            self._lock.release()
            raise
        self.events = contents.events
        self._seq = len(contents.events)
        self._length = contents.length
        self.torn = contents.torn  # which the first append cuts off and keeps aside
        self._closed = False

    def check(self) -> None:
        """Raise CannotGoOn unless the file at `path` is the one that is open, as it was left."""
        try:
            there: os.stat_result | None = os.stat(self.path)
        except OSError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self._fd)):
            raise CannotGoOn(
                f"{shortened(self.path)}: has been deleted, moved or replaced while the study ran; "
                "where the folder was moved, hpogen resume goes on there"
            )
        if there.st_size != self._length + len(self.torn):
            raise CannotGoOn(
                f"{shortened(self.path)}: has been changed by something else while the study ran: "
                f"it has {there.st_size} bytes, {self._length} were written; restore it from a copy"
            )

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one line; it survives the death of this process when the call returns.

        Raises CannotGoOn, and has written nothing then.
        """
        self.owner.check()
        self.check()
        if self.torn:
            self._repair()
        line = encode(event, self._seq)
        with explained(self.path):
            write_whole(self._fd, line, self._length)
        self._seq += 1
        self._length += len(line)
        _SYNCER.add(self)

    def sync(self) -> None:
        """Bring what was written to the disk; a closed ledger has been."""
        with contextlib.suppress(OSError):
            getattr(os, "fdatasync", os.fsync)(self._fd)  # macOS has the second only

    def close(self) -> bool:
        """Sync, and give the folder back; whether that was done.

        A second call does nothing, nor does one in a forked process.
        """
        if self._closed or not self.owner.is_here:
            return False
        self._closed = True
        self.sync()
        os.close(self._fd)
        self._lock.release()
        return True

    def _repair(self) -> None:
        log.warning("ledger torn_bytes=%d action=cut_off", len(self.torn))
        with explained(self.path):
            with open(self.directory / TORN, "ab") as aside:
                aside.write(self.torn + b"\n")
            os.ftruncate(self._fd, self._length)
        self.torn = b""


class _Syncer:
    """Syncs the ledgers that were written to, from one thread, however many are open."""

    def __init__(self) -> None:
        self._written: deque[Ledger] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, ledger: Ledger) -> None:
        self._written.append(ledger)
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():  # the child of a fork has none
            self._thread = threading.Thread(target=self._run, daemon=True, name="ledger-sync")
            self._thread.start()

    def _run(self) -> None:
        while self._wake.wait():
            self._wake.clear()
            for ledger in {self._written.popleft() for _ in range(len(self._written))}:
                ledger.sync()
            time.sleep(SYNC_SECONDS * 0.8)


_SYNCER = _Syncer()
