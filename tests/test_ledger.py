"""The ledger file: what survives, what is refused, who may write."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.record.ledger import Ledger

HEADER = {"kind": "study", "format": ledger.FORMAT, "spec": {"stop": {"trials": 3}}}


def write(directory: Path, *events: dict[str, object]) -> Path:
    book = Ledger(directory)
    for event in events:
        book.append(event)
    book.close()
    return directory / ledger.LEDGER


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    write(tmp_path, HEADER, {"kind": "asked", "trial": 0, "config": {"name": "ä\u2028\r\n"}})
    assert ledger.read(tmp_path) == [
        HEADER,
        {"kind": "asked", "trial": 0, "config": {"name": "ä\u2028\r\n"}},
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4), st.integers(0, 10**6))
def test_a_line_is_one_line_and_comes_back(event: dict[str, object], seq: int) -> None:
    event = {key: value for key, value in event.items() if key not in ("seq", "crc")}
    line = ledger.encode(event, seq)
    assert line.count(b"\n") == 1
    assert ledger.decode(line[:-1], seq) == event


def test_truncation_at_every_byte_of_the_last_line(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, {"kind": "asked", "trial": 0}, {"kind": "told", "trial": 0})
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        book = Ledger(tmp_path)
        assert [event["kind"] for event in book.events] == ["study", "asked"]
        assert path.read_bytes() == whole[:end]  # opening repairs nothing
        book.append({"kind": "told", "trial": 0})
        book.close()
        assert path.read_bytes() == whole
    aside = (tmp_path / ledger.TORN).read_bytes()
    assert whole[start : len(whole) - 1] in aside


def test_a_damaged_last_line_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, {"kind": "asked", "trial": 0})
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + b"x" + whole[-7:])
    assert ledger.read(tmp_path) == [HEADER]


@pytest.mark.parametrize("line", [1, 2, 3])
def test_every_flipped_byte_inside_is_reported_with_its_line(tmp_path: Path, line: int) -> None:
    path = write(tmp_path, HEADER, *({"kind": "asked", "trial": i} for i in range(3)))
    lines = path.read_bytes().split(b"\n")
    before = sum(len(part) + 1 for part in lines[: line - 1])
    for position in range(len(lines[line - 1])):
        damaged = bytearray(b"\n".join(lines))
        damaged[before + position] ^= 0x04
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"^{path}:{line}: ") as caught:
            Ledger(tmp_path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == damaged


def test_a_missing_inner_line_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, *({"kind": "asked", "trial": i} for i in range(3)))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:1] + lines[2:]))
    with pytest.raises(UserError, match=f"{path}:2: .*sequence number is not 1"):
        ledger.read(tmp_path)


def test_a_file_without_a_whole_header_is_a_new_study(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER)
    path.write_bytes(path.read_bytes()[:-1])
    book = Ledger(tmp_path)
    assert book.events == []
    book.append(HEADER)
    book.close()
    assert ledger.read(tmp_path) == [HEADER]


def test_a_format_from_the_future_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {**HEADER, "format": ledger.FORMAT + 1})
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"{path}:1: .*format {ledger.FORMAT + 1}.*upgrade"):
        Ledger(tmp_path)
    assert path.read_bytes() == before


def test_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ledger.LEDGER
    path.write_text("these are\nmy notes\n")
    with pytest.raises(UserError, match=f"{path}:1: "):
        Ledger(tmp_path)
    assert path.read_text() == "these are\nmy notes\n"


def test_nan_is_never_written(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    with pytest.raises(ValueError):
        book.append({"kind": "study", "score": float("nan")})
    book.close()
    assert (tmp_path / ledger.LEDGER).read_bytes() == b""


def test_one_thread_syncs_all_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    true_sync = os.fdatasync

    def spy(fd: int) -> None:
        true_sync(fd)
        synced.add(fd)

    monkeypatch.setattr(os, "fdatasync", spy)
    before = threading.active_count()
    with ExitStack() as stack:
        books = [stack.enter_context(closing(Ledger(tmp_path / str(i)))) for i in range(100)]
        for book in books:
            book.append(HEADER)
        assert threading.active_count() <= before + 1
        deadline = time.monotonic() + 60
        while len(synced) < len(books):
            assert time.monotonic() < deadline, "some were never synced"
            time.sleep(0.01)
        synced.clear()
        books[7].append({"kind": "asked", "trial": 0})
        while not synced:
            assert time.monotonic() < deadline, "it sleeps for ever"
            time.sleep(0.01)
        assert len(synced) == 1  # the others have not been written to


def test_macos_has_no_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fdatasync")
    with closing(Ledger(tmp_path)) as book:
        book.append(HEADER)
    assert len(ledger.read(tmp_path)) == 1


def test_two_drivers_on_one_folder(tmp_path: Path) -> None:
    hold = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from hpogen.record.ledger import Ledger
        book = Ledger(Path(sys.argv[1]))
        print("held", flush=True)
        time.sleep(60)
    """)
    other = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=rf"^{tmp_path}: in use by process {other.pid} on "):
            Ledger(tmp_path)
        assert ledger.holder(tmp_path) == f"process {other.pid} on {os.uname().nodename}"
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close() if other.stdout else None
    assert ledger.holder(tmp_path) is None
    Ledger(tmp_path).close()  # the lock went with the process


def test_twice_in_one_process_is_refused_too(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    with pytest.raises(UserError, match="in use by process"):
        Ledger(tmp_path)
    assert ledger.holder(tmp_path) is not None
    first.append(HEADER)
    first.close()
    Ledger(tmp_path).close()


def test_asking_who_writes_does_not_give_the_lock_away(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    assert ledger.holder(tmp_path) == f"process {os.getpid()} on {os.uname().nodename}"
    other = (
        "import sys, pathlib; from hpogen.record import ledger;"
        "ledger.Ledger(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", other, str(tmp_path)], capture_output=True, text=True
    )
    assert f"in use by process {os.getpid()}" in done.stderr
    book.close()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A file size limit stands in for the disk: the write comes back short, then fails."""
    book = Ledger(tmp_path)
    book.append(HEADER)
    size = book.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(UserError, match=f"{book.path}: cannot be written: "):
            book.append({"kind": "asked", "trial": 0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    book.append({"kind": "asked", "trial": 0})
    book.close()
    assert ledger.read(tmp_path) == [HEADER, {"kind": "asked", "trial": 0}]


def test_no_study_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path}: there is no study here"):
        ledger.read(tmp_path)
