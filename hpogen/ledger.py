"""The append-only record of a study: JSON lines with a sequence number and a checksum each.

The Study is the only writer and holds the folder's lock; everybody else reads. `docs/ledger.md`
describes the lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpogen.errors import UserError

FORMAT = 1
LEDGER, LOCK, TORN = "ledger.jsonl", "lock", "ledger.torn"
SYNC_SECONDS = 0.1  # what a power loss may cost at most

Event = dict[str, Any]
_CRC = len(',"crc":"00000000"}')


class Corrupt(UserError):
    """A line inside the ledger does not hold what was written there."""


def encode(event: Mapping[str, Any], seq: int) -> bytes:
    """One line: the event, its sequence number, and the CRC-32 of everything before the CRC."""
    body = json.dumps({**event, "seq": seq}, separators=(",", ":"), allow_nan=False)[:-1]
    return f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def decode(line: bytes, seq: int) -> Event:
    """The event of one line without its newline. Raises ValueError when it is not that line."""
    event: Event = json.loads(line)
    if line[-_CRC:] != f',"crc":"{zlib.crc32(line[:-_CRC]):08x}"}}'.encode():
        raise ValueError("its checksum does not match")
    if event.pop("crc", None) is None or event.pop("seq", None) != seq:
        raise ValueError(f"its sequence number is not {seq}")
    return event


@dataclass(frozen=True)
class Contents:
    """What a ledger file holds: whole events, and the torn tail behind byte `length`."""

    events: list[Event]
    length: int
    torn: bytes


def parse(data: bytes, path: Path) -> Contents:
    """Read every whole line. Only the last may be damaged: it is left out, as `torn`.

    Raises Corrupt naming the line for damage inside, UserError for a ledger from the future.
    """
    events: list[Event] = []
    *whole, rest = data.split(b"\n")
    lines = [line + b"\n" for line in whole] + ([rest] if rest else [])
    length = 0
    for number, line in enumerate(lines, 1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it has no end")
            events.append(decode(line[:-1], number - 1))
        except (ValueError, AttributeError) as error:
            if number < len(lines) or (number == 1 and line.endswith(b"\n")):
                raise Corrupt(
                    f"{path}:{number}: this line is damaged ({error}); restore the file from a "
                    "copy, or start a new study with --dir"
                ) from None
            break
        length += len(line)
    if events:
        _check_header(events[0], path)
    return Contents(events, length, data[length:])


def _check_header(header: Event, path: Path) -> None:
    if header.get("kind") != "study":
        raise Corrupt(f"{path}:1: this is not the first line of a study's ledger")
    if header.get("format", 0) > FORMAT:
        raise UserError(
            f"{path}:1: the ledger has format {header['format']}, this hpogen reads up to "
            f"{FORMAT}: upgrade hpogen"
        )


def read(directory: Path) -> list[Event]:
    """The events of a study's folder, for readers: no lock, nothing is repaired.

    Raises UserError when there is no study.
    """
    path = directory / LEDGER
    try:
        data = path.read_bytes()
    except OSError:
        raise UserError(f"{directory}: there is no study here (no {LEDGER})") from None
    events = parse(data, path).events
    if not events:
        raise UserError(f"{directory}: the study here has not begun (its {LEDGER} is empty)")
    return events


def holder(directory: Path) -> str | None:
    """Who writes to the folder now (`process 4711 on node3`), or None."""
    if (ours := _OURS.get(str(directory.resolve()))) is not None:
        return ours  # and closing the file, as below, would give our own lock away
    if not (directory / LOCK).exists():
        return None
    with open(directory / LOCK, "rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # somebody writes
            return file.read().decode(errors="replace").strip() or "another process"
    return None


_OURS: dict[str, str] = {}  # lockf does not exclude a second opening by the same process


class Ledger:
    """A study's ledger, open for writing. Raises UserError when another driver has the folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / LEDGER
        with _explained(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = _acquire(directory)
        try:
            with _explained(self.path):
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            contents = parse(self.path.read_bytes(), self.path)
        except BaseException:
            _release(self._lock, directory)
            raise
        self.events = contents.events
        self._seq = len(contents.events)
        self._length = contents.length
        self._torn = contents.torn
        self._dirty = threading.Event()
        self._closed = False
        threading.Thread(target=self._sync, daemon=True, name="ledger-sync").start()

    @property
    def torn(self) -> bytes:
        """The damaged tail that the first append cuts off and keeps aside."""
        return self._torn

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one line; it survives the death of this process when the call returns."""
        if self._torn:
            self._repair()
        line = encode(event, self._seq)
        with _explained(self.path):
            try:
                written = os.write(self._fd, line)
                while written < len(line):
                    written += os.write(self._fd, line[written:])
            except OSError:
                os.ftruncate(self._fd, self._length)
                raise
        self._seq += 1
        self._length += len(line)
        self._dirty.set()

    def close(self) -> None:
        """Sync, and give the folder back. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._dirty.set()
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)
        os.close(self._fd)
        _release(self._lock, self.directory)

    def _repair(self) -> None:
        with _explained(self.path):
            with open(self.directory / TORN, "ab") as aside:
                aside.write(self._torn + b"\n")
            os.ftruncate(self._fd, self._length)
        self._torn = b""

    def _sync(self) -> None:
        while self._dirty.wait() and not self._closed:
            self._dirty.clear()
            with contextlib.suppress(OSError):  # closed meanwhile, which syncs itself
                os.fdatasync(self._fd)
            time.sleep(SYNC_SECONDS * 0.8)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an operating system's error about `path` into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _acquire(directory: Path) -> int:
    key = str(directory.resolve())
    with _explained(directory):
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + 0.5  # a reader's glance at the lock is no driver
    while True:
        try:
            if key in _OURS:
                raise BlockingIOError
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if key not in _OURS and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            who = _OURS.get(key) or os.pread(fd, 200, 0).decode(errors="replace").strip()
            if key not in _OURS:  # closing would drop the lock that this process holds
                os.close(fd)
            raise UserError(
                f"{directory}: in use by {who or 'another process'}; wait for it, or stop it"
            ) from None
    _OURS[key] = f"process {os.getpid()} on {socket.gethostname()}"
    os.ftruncate(fd, 0)
    os.pwrite(fd, _OURS[key].encode(), 0)
    return fd


def _release(lock: int, directory: Path) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
    os.close(lock)
    _OURS.pop(str(directory.resolve()), None)
