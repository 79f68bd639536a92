"""How many trials a device has room for, from the memory that its epochs took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpogen.record import folder
from hpogen.study.read import AnyStudy

LOOKED_AT = 200  # trials, the latest: a long study is not read whole
MARGIN = 1.2  # later epochs and other batch sizes
CONTEXT = 0.6 * 2**30  # bytes of a GPU that each process takes beside what torch reserves


def memory(study: AnyStudy) -> dict[str, Any] | None:
    """The largest peak of the latest trials: `peak`, `total` (bytes), `device`, `share`.

    `share` is the part of the device that a trial should be given; None while nothing is known.
    """
    rows = [
        row
        for record in study.history.records[-LOOKED_AT:]
        for row in folder.read_curve(study.directory, record.trial.id, study.history.id)
        if row.get("memory")
    ]
    if not rows:
        return None
    row = max(rows, key=lambda row: int(row["memory"]["peak"]))
    device = str(row["device"]).partition(":")[0]
    return {**row["memory"], "device": device, "share": _share(row["memory"], device)}


def _share(memory: Mapping[str, int], device: str) -> float:
    need = MARGIN * memory["peak"] + (CONTEXT if device == "cuda" else 0)
    return min(1.0, math.ceil(100 * need / memory["total"]) / 100)


def advice(found: Mapping[str, Any]) -> str:
    """One line of `status`."""
    used = f"a trial took up to {_gib(found['peak'])} of {_gib(found['total'])} GiB"
    if found["device"] == "cuda":
        return f"{used} of its GPU: --gpus-per-trial {found['share']:g} has room"
    return f"{used} of memory: room for {count_of(found)} workers"


def count_of(found: Mapping[str, Any]) -> int:
    """Workers that the device has room for."""
    return max(1, int(1 / found["share"]))


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
