"""What stands where in a study's folder, and the trials' curves.

    ledger.jsonl  lock  hpogen.log  plugins/  trials/00012.jsonl  trials/00012.log  trials/00012/

The driver writes the curves, every reader takes the last row of each epoch.
"""

from __future__ import annotations

import json
import os
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


def keep_files(directory: Path, trial: int, files: Mapping[str, bytes]) -> None:
    """Write an outcome's small files beside the trial's curve, whole or not at all."""
    for suffix, data in files.items():
        path = trial_stem(directory, trial).with_suffix(f".{suffix}")
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)
