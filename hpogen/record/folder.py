"""What stands where in a study's folder, whose it is, and the trials' curves and kept files.

    ledger.jsonl  lock  hpogen.log  plugins/  trials/00012.jsonl  trials/00012.log  trials/00012/
    trials/00012-3.jsonl …: of training 3 (`part`) of a trial that is several; see `trial.Parts`

The driver writes the curves, every reader takes the last row of each epoch. All of it belongs to
the study whose id stands in the ledger's header, and is read by no other: curves, kept files and
checkpoints carry the id themselves; logs and what a task keeps do not.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, explained, shortened
from hpogen.record.ledger import TORN, study_id, write_whole
from hpogen.record.rows import row, row_of
from hpogen.record.stores import checkpoint_prefix
from hpogen.trial import Progress

LOG, TRIALS = "hpogen.log", "trials"
KEPT = "kept.json"  # beside a trial's kept files: whose they are, and their CRC-32s
MARK = "study"  # a file that holds the id, in `trials/` and `retrain/`
INDEX = "ledger.index"  # what `index.py` reads and writes
ENSEMBLE = "ensemble.json"  # what `study/ensemble.py` reads and writes
LEFT = (
    TRIALS,
    "retrain",
    "tensorboard",
    "wandb",
    ENSEMBLE,
    INDEX,
    LOG,
    TORN,
)  # by a study whose ledger has gone

log = logging.getLogger("hpogen.study")


def trial_stem(directory: Path, trial: int, part: int | None = None, suffix: str = "") -> Path:
    """No name has a dot, so that `with_suffix` adds one where none is given."""
    name = f"{trial:05d}" if part is None else f"{trial:05d}-{part}"
    return directory.joinpath(TRIALS, name + suffix)


def curve_path(directory: Path, trial: int, part: int | None = None) -> Path:
    return trial_stem(directory, trial, part, ".jsonl")


def log_path(directory: Path, trial: int, part: int | None = None) -> Path:
    return trial_stem(directory, trial, part, ".log")


def append_curve(
    directory: Path, progress: Progress, study: str = "", part: int | None = None
) -> None:
    """Add one epoch's row; a torn row of a killed driver stays on a line of its own.

    `study` is the study's id. Raises CannotGoOn where it cannot be written whole.
    """
    line = _encoded(row(progress), study)
    path = curve_path(directory, progress.trial, part)
    with explained(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            end = os.lseek(fd, 0, os.SEEK_END)
            torn = end and os.pread(fd, 1, end - 1) != b"\n"
            write_whole(fd, b"\n" + line if torn else line, end)
        finally:
            os.close(fd)


def write_curve(
    directory: Path, trial: int, rows: Iterable[Mapping[str, Any]], study: str = ""
) -> None:
    """Write a whole curve, in the place of what is there. Raises OSError."""
    data = b"".join(_encoded(row, study) for row in rows)
    replace_file(curve_path(directory, trial), data)


def _encoded(row: Mapping[str, Any], study: str) -> bytes:
    owned = {**row, "study": study} if study else row
    return json.dumps(owned, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_curve(
    directory: Path, trial: int, study: str | None = None, part: int | None = None
) -> list[dict[str, Any]]:
    """The rows of a trial by epoch, the last one of each: `epoch`, `metrics`, `seconds`, `device`.

    `study` is the study's id; None: looked up. What is no such row, or another study's, is passed
    over.
    """
    try:
        lines = curve_path(directory, trial, part).read_bytes().split(b"\n")
    except OSError:
        return []
    rows = by_epoch(lines, study_id(directory) if study is None else study)
    return [rows[epoch] for epoch in sorted(rows)]


def by_epoch(lines: Iterable[bytes], study: str) -> dict[int, dict[str, Any]]:
    """The last row of each epoch among those of the study of that id."""
    return {
        found["epoch"]: found
        for found in map(row_of, lines)
        if found is not None and found.pop("study", "") == study
    }


def received_curve(
    directory: Path, trial: int, study: str | None = None, part: int | None = None
) -> list[dict[str, Any]]:
    """The rows of the epochs from the first on that have been received without a gap."""
    rows = read_curve(directory, trial, study, part)
    return [row for number, row in enumerate(rows, 1) if row["epoch"] == number]


def keep_files(
    directory: Path,
    trial: int,
    files: Mapping[str, bytes],
    study: str = "",
    part: int | None = None,
) -> None:
    """Write an outcome's small files beside the trial's curve, whole or not at all.

    `study` is the study's id. Raises CannotGoOn where they cannot be written.
    """
    stem = trial_stem(directory, trial, part)
    if study and files:
        known = {**_kept(stem, study), **{name: _crc(data) for name, data in files.items()}}
        index = json.dumps({"study": study, "files": known}).encode()
        files = {**files, KEPT: index}
    for suffix, data in files.items():
        path = stem.with_suffix(f".{suffix}")
        with explained(path):
            replace_file(path, data)


def read_kept(
    directory: Path, trial: int, suffix: str, study: str | None = None, part: int | None = None
) -> bytes:
    """A file that the study of that id (None: looked up) kept of a trial.

    Raises FileNotFoundError where there is none, or only another study's; OSError.
    """
    study = study_id(directory) if study is None else study
    stem = trial_stem(directory, trial, part)
    data = stem.with_suffix(f".{suffix}").read_bytes()
    if study and _kept(stem, study).get(suffix) != _crc(data):
        raise FileNotFoundError("it is not the one that this study kept")
    return data


def trials_with(directory: Path, suffix: str) -> set[int]:
    """The trials beside which a kept file of that suffix stands, whoever kept it."""
    found = (directory / TRIALS).glob(f"*.{suffix}")
    names = (path.name.removesuffix(f".{suffix}") for path in found)
    return {int(name) for name in names if name.isdecimal()}


def has_kept(directory: Path, trial: int, suffix: str) -> bool:
    """Whether a kept file of that suffix stands beside the trial."""
    return trial_stem(directory, trial).with_suffix(f".{suffix}").exists()


def sync_kept(directory: Path, trial: int, suffix: str) -> None:
    """Bring a kept file, and what tells that it is whole, to the disk. Raises OSError."""
    for name in (suffix, KEPT):
        path = trial_stem(directory, trial).with_suffix(f".{name}")
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # no id, no index
            os.fsync(file.fileno())


def drop_kept(directory: Path, trial: int, suffix: str) -> None:
    """Delete a kept file of a trial. Raises OSError where that cannot be done."""
    trial_stem(directory, trial).with_suffix(f".{suffix}").unlink(missing_ok=True)


def _kept(stem: Path, study: str) -> dict[str, str]:
    """The CRC-32 of each file that the study kept of the trial, by suffix."""
    try:
        index = json.loads(stem.with_suffix(f".{KEPT}").read_bytes())
        return dict(index["files"]) if index["study"] == study else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _crc(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def copy_trial(source: Path, twin: int, directory: Path, trial: int) -> None:
    """Copy what stands beside a trial, but for its log, to a trial of another study.

    The copies are that one's. Raises CannotGoOn where they cannot be written.
    """
    old, new = study_id(source), study_id(directory)
    name, stem = trial_stem(source, twin).name, trial_stem(directory, trial)
    files: dict[str, bytes] = {}
    with explained(stem):
        for path in trial_stem(source, twin).parent.glob(f"{name}*"):
            suffix = path.name.removeprefix(name)
            if not suffix:
                shutil.copytree(path, stem, dirs_exist_ok=True)
                _rename_checkpoints(stem, checkpoint_prefix(old), checkpoint_prefix(new))
            elif suffix == ".jsonl":
                write_curve(directory, trial, read_curve(source, twin), new)
            elif suffix.startswith(".") and not suffix.endswith((".log", ".tmp", KEPT)):
                files[suffix[1:]] = path.read_bytes()
    known = _kept(trial_stem(source, twin), old)
    kept = {s: data for s, data in files.items() if not old or known.get(s) == _crc(data)}
    keep_files(directory, trial, kept, new)


def _rename_checkpoints(home: Path, old: str, new: str) -> None:
    for path in home.glob(f"{old}e*"):
        path.rename(path.with_name(new + path.name.removeprefix(old)))


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device or a pipe gets the bytes."""
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{os.getpid()}.tmp")  # a name may be as long as names can be
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def begin(directory: Path, study: str) -> None:
    """Make `trials/` for a new study of that id. What an earlier one left is moved aside."""
    left = [name for name in LEFT if _holds_something(directory / name)]
    if left:
        _set_aside(directory, left)
    (directory / TRIALS).mkdir(exist_ok=True)
    (directory / TRIALS / MARK).write_text(study)


def own(folder: Path, study: str) -> None:
    """Make a folder the study's. One that is known to be another study's is moved aside.

    Raises UserError where that cannot be.
    """
    with explained(folder.parent, UserError):
        if not belongs(folder, study):
            _set_aside(folder.parent, [folder.name])
        folder.mkdir(exist_ok=True)
        if study and not _mark(folder):
            (folder / MARK).write_text(study)


def belongs(folder: Path, study: str) -> bool:
    """Whether it is not known to be another's: before there were ids, folders had no mark."""
    return _mark(folder) in ("", study)


def _mark(folder: Path) -> str:
    try:
        return (folder / MARK).read_text(errors="replace")
    except OSError:
        return ""


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(inner.name != MARK for inner in path.iterdir())
    return path.exists()


def _set_aside(directory: Path, names: Sequence[str]) -> None:
    numbers = iter(range(1, 10**6))
    aside = next(p for n in numbers if not (p := directory / f"earlier-{n}").exists())
    aside.mkdir()
    for name in names:
        (directory / name).rename(aside / name)
    log.warning("files of an earlier study were here, they are in %s now", shortened(aside))
