"""What stands where in a study's folder, and the trials' curves.

    ledger.jsonl  lock  hpogen.log  plugins/  trials/00012.jsonl  trials/00012.log  trials/00012/

The driver writes the curves, every reader takes the last row of each epoch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpogen.trial import Progress

LOG = "hpogen.log"


def trial_stem(directory: Path, trial: int) -> Path:
    return directory / "trials" / f"{trial:05d}"


def curve_path(directory: Path, trial: int) -> Path:
    return trial_stem(directory, trial).with_suffix(".jsonl")


def log_path(directory: Path, trial: int) -> Path:
    return trial_stem(directory, trial).with_suffix(".log")


def append_curve(directory: Path, progress: Progress) -> None:
    """Add one epoch's row; a torn row of a killed driver stays on a line of its own."""
    row = {
        "epoch": progress.epoch,
        "metrics": dict(progress.metrics),
        "seconds": dict(progress.seconds),
        "device": progress.device,
    }
    if progress.memory:
        row["memory"] = dict(progress.memory)
    if progress.audit:
        row["audit"] = dict(progress.audit)
    line = json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    fd = os.open(curve_path(directory, progress.trial), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        end = os.lseek(fd, 0, os.SEEK_END)
        if end and os.pread(fd, 1, end - 1) != b"\n":
            line = b"\n" + line
        os.write(fd, line)
    finally:
        os.close(fd)


def read_curve(directory: Path, trial: int) -> list[dict[str, Any]]:
    """The rows of a trial by epoch, the last one of each: `epoch`, `metrics`, `seconds`."""
    try:
        lines = curve_path(directory, trial).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            row = json.loads(line)
            rows[row["epoch"]] = row
        except (ValueError, KeyError, TypeError):
            continue  # a torn row: the epoch is trained again
    return [rows[epoch] for epoch in sorted(rows)]


def received_curve(directory: Path, trial: int) -> list[dict[str, Any]]:
    """The rows of the epochs from the first on that have been received without a gap."""
    rows = read_curve(directory, trial)
    return [row for number, row in enumerate(rows, 1) if row["epoch"] == number]


def copy_trial(source: Path, twin: int, directory: Path, trial: int) -> None:
    """Copy what stands beside a trial, but for its log, to a trial of another study."""
    name, stem = trial_stem(source, twin).name, trial_stem(directory, trial)
    for path in trial_stem(source, twin).parent.glob(f"{name}*"):
        suffix = path.name.removeprefix(name)
        if not suffix:
            shutil.copytree(path, stem, dirs_exist_ok=True)
        elif suffix.startswith(".") and not suffix.endswith((".log", ".tmp")):
            replace_file(stem.with_name(stem.name + suffix), path.read_bytes())


def keep_files(directory: Path, trial: int, files: Mapping[str, bytes]) -> None:
    """Write an outcome's small files beside the trial's curve, whole or not at all."""
    for suffix, data in files.items():
        replace_file(trial_stem(directory, trial).with_suffix(f".{suffix}"), data)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
