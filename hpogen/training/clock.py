"""Where a trial's time goes: seconds by what was done, on a GPU by the GPU's own clock.

A GPU works on after the call that asked it has returned: events in its queue are read at the end
of the epoch, when it has come to them anyway, and nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

Moment = float | torch.cuda.Event


@dataclass(eq=False)
class _Part:
    """One that runs: its time is added to `what`, and taken from `out_of`."""

    what: str
    out_of: str | None
    by_gpu: bool
    begun: Moment


class Clock:
    """Adds to `seconds` what the parts of an epoch took."""

    def __init__(self, seconds: dict[str, float], device: torch.device) -> None:
        self.seconds = seconds
        self._on_gpu = device.type == "cuda"
        self._running: list[_Part] = []
        self._waiting: list[tuple[str, str | None, Any, Any]] = []  # between two events

    @contextmanager
    def __call__(
        self, what: str, out_of: str | None = None, *, wall: bool = False
    ) -> Iterator[None]:
        """Add the time that passes inside to `what`, and take it from `out_of`.

        With `wall` by the clock on the wall, whatever the device.
        """
        by_gpu = self._on_gpu and not wall
        part = _Part(what, out_of, by_gpu, _now(by_gpu))
        self._running.append(part)
        try:
            yield
        finally:
            self._running.remove(part)
            self._count(part)

    @contextmanager
    def away(self) -> Iterator[None]:
        """What passes inside is not this trial's: others have the processor."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.give(begun - perf_counter())

    def give(self, seconds: float) -> None:
        """Add seconds, or take them where they are negative, to what all parts that run have."""
        for part in self._running:
            self.seconds[part.what] += seconds

    def settle(self) -> None:
        """Have all in `seconds` that has passed so far, also in parts that still run.

        Reads the GPU's events: called once per epoch, after its numbers were read, and before a
        checkpoint.
        """
        for part in reversed(self._running):  # what others are inside of is never less than they
            self._count(part)
        for what, out_of, begin, end in self._waiting:
            end.synchronize()
            self._add(what, out_of, begin.elapsed_time(end) / 1000)
        self._waiting.clear()

    def _count(self, part: _Part) -> None:
        """Count the part up to now, from where on it may go on."""
        begun, part.begun = part.begun, _now(part.by_gpu)
        if isinstance(begun, float) and isinstance(part.begun, float):
            self._add(part.what, part.out_of, part.begun - begun)
        else:
            self._waiting.append((part.what, part.out_of, begun, part.begun))

    def _add(self, what: str, out_of: str | None, seconds: float) -> None:
        self.seconds[what] += seconds
        if out_of is not None:
            self.seconds[out_of] -= seconds


def _now(by_gpu: bool) -> Moment:
    if not by_gpu:
        return perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
