"""An index beside a long ledger: what its events add up to, so that a look reads but its end.

A cache that may be deleted at any time. It is passed over where the ledger does not begin with the
very bytes that it is of, or another hpogen wrote it; then the ledger is read, and it is made anew.
"""

from __future__ import annotations

import contextlib
import json
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from hpogen.objective import Location
from hpogen.record import ledger
from hpogen.record.folder import INDEX, replace_file
from hpogen.record.history import Alike, History, Table, checked, go_on
from hpogen.record.ledger import LEDGER, Event
from hpogen.record.provenance import version
from hpogen.record.stored import Firsts, Places, Stored
from hpogen.trial import Rung

FORMAT = 2
SMALL = 2**20  # bytes of lines: sooner read than an index is worth
FOLLOWS = frozenset(
    {"asked", "part", "held", "told", "reused", "lost", "extended", "ended", "ran", "looked"}
)
"""The kinds of lines behind which who has led still leads. Others change scores or metrics."""
PLAIN = ("stop", "ended", "ran", "reused", "looks", "duplicates", "repeats", "pruned")
EXACT = ("spent", "done", "over")  # integers or fractions

Leaders = dict[str, list[int]]


@dataclass(frozen=True)
class Read:
    """A study's history, and the bytes of its ledger; `places` are those of an index, if any."""

    path: Path
    history: History
    data: bytes  # whole lines
    places: Places
    length: int  # bytes that the index is of; 0 without

    def keep(self, known: Callable[[], tuple[Leaders, Table]]) -> None:
        """Write an index of all lines, where there are enough new ones, and where that can be.

        `known` gives what it tells of all trials: `History.leaders` and `table`.
        """
        if len(self.data) - self.length < SMALL:
            return
        with contextlib.suppress(OSError, ValueError):
            places = deepcopy(self.places)  # these are used meanwhile
            places.add(self.data, self.length, self.history)
            told = _encoded(self.history, places, self.data, *known())
            replace_file(self.path.with_name(INDEX), told)


def of(history: History, directory: Path) -> Read:
    """The same of a history that somebody has: who writes the ledger.

    Raises OSError, or ValueError where the folder has another study by now, or more or fewer lines.
    """
    path = directory / LEDGER
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    if (ledger.study_id(directory), data.count(b"\n")) != (history.id, history.lines):
        raise ValueError("the history is of other lines")
    known = _by_index(path, data)
    return replace(known, history=history) if known else Read(path, history, data, Places(), 0)


def read(directory: Path) -> Read:
    """As `history.read`, by the index where that fits."""
    path = directory / LEDGER
    with ledger.opened(directory) as file:
        data = file.read()
    return _by_index(path, data) or _whole(path, data)


def _whole(path: Path, data: bytes) -> Read:
    contents = ledger.parse(data, path)
    if not contents.events:
        raise ledger.not_begun(path.parent)
    history = checked(contents.events, path)
    return Read(path, history, data[: contents.length], Places(), 0)


def _by_index(path: Path, data: bytes) -> Read | None:
    """None where there is no index, it is not of this ledger, or what follows needs all trials."""
    try:
        said, places, order, table = _decoded(path.with_name(INDEX).read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    length = said["length"]
    if len(data) < length or zlib.crc32(memoryview(data)[:length]) != said["of"]:
        return None
    new = ledger.parse(data[length:], path, said["lines"])
    if not {event["kind"] for event in new.events} <= FOLLOWS:
        return None
    whole = data[: length + new.length]
    history = _restored(said, order, ledger.parse(data[: data.index(b"\n") + 1], path).events, path)
    history.table = table
    history.records = stored = Stored(history, whole, places, path)
    history.firsts = Firsts(stored)
    go_on(history, new.events, path)
    return Read(path, history, whole, places, length)


def _encoded(
    history: History, places: Places, data: bytes, leaders: Leaders, table: Table
) -> bytes:
    """A checksum, a line of JSON, and the numbers of `places`, `order` and the table."""
    rungs = history.infeasible.items()
    said = {
        "index": FORMAT,
        "hpogen": version("hpogen"),
        "order": sys.byteorder,
        "length": len(data),
        "lines": history.lines,
        "of": zlib.crc32(data),
        "trials": [len(places.begins), len(history.order), len(table.trials)],
        "plain": {name: getattr(history, name) for name in PLAIN},
        "exact": {name: str(getattr(history, name)) for name in EXACT},
        "running": sorted(history.running),
        "held": sorted(history.held),
        "failures": {text: asdict(alike) for text, alike in history.failures.items()},
        "infeasible": [[*rung, number] for rung, number in rungs],
        "locations": [
            [*rung, {name: asdict(at) for name, at in own.items()}]
            for rung, own in history.locations.items()
        ],
        "fractions": [*history.fractions],
        "leaders": leaders,
        "table": [*table.rung, *table.metrics],
    }
    order = array("Q", history.order)
    of_trials = (places.begins, places.ends, places.seeds, order, table.trials)
    columns: list[array[Any]] = [*of_trials, *table.metrics.values()]
    numbers = b"".join(column.tobytes() for column in columns)
    body = json.dumps(said, allow_nan=False).encode() + b"\n" + numbers
    return f"{zlib.crc32(body):08x}\n".encode() + body


def _decoded(index: bytes) -> tuple[dict[str, Any], Places, list[int], Table]:
    """What `_encoded` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    crc, _, body = index.partition(b"\n")
    if crc != f"{zlib.crc32(body):08x}".encode():
        raise ValueError("it is damaged")
    line, _, numbers = body.partition(b"\n")
    said = json.loads(line)
    ours = (FORMAT, version("hpogen"), sys.byteorder)
    if (said["index"], said["hpogen"], said["order"]) != ours:
        raise ValueError("another program's")
    asked, told, finished = said["trials"]
    epochs, data, *names = said["table"]
    left = memoryview(numbers)

    def column(kind: Literal["Q", "d"], size: int) -> array[Any]:
        nonlocal left
        values = array(kind)
        values.frombytes(left[: 8 * size])
        left = left[8 * size :]
        return values

    places = Places(*(column("Q", asked) for _ in range(3)))
    order, trials = column("Q", told), column("Q", finished)
    metrics = {name: column("d", finished) for name in names}
    return said, places, order.tolist(), Table(Rung(epochs, data), trials, metrics)


def _restored(
    said: Mapping[str, Any], order: list[int], header: list[Event], path: Path
) -> History:
    """The state without its trials."""
    history = checked(header, path)
    for name, value in said["plain"].items():
        setattr(history, name, value)
    for name, text in said["exact"].items():
        number = Fraction(text)
        setattr(history, name, int(number) if number.denominator == 1 else number)
    history.lines = said["lines"]
    history.running, history.held = set(said["running"]), set(said["held"])
    history.order, history.settled = order, len(order)
    history.failures = {text: Alike(**alike) for text, alike in said["failures"].items()}
    counted = {Rung(epochs, data): number for epochs, data, number in said["infeasible"]}
    history.infeasible = Counter(counted)
    history.locations = {
        Rung(epochs, data): {name: Location(**at) for name, at in own.items()}
        for epochs, data, own in said["locations"]
    }
    history.fractions = set(said["fractions"])
    history.leaders = said["leaders"]
    return history
