"""Where a trial's time goes: seconds by what was done, on a GPU by the GPU's own clock.

A GPU works on after the call that asked it has returned: events in its queue are read at the end
of the epoch, when it has come to them anyway, and nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Clock:
    """Adds to `seconds` what the parts of an epoch took."""

    def __init__(self, seconds: dict[str, float], device: torch.device) -> None:
        self.seconds = seconds
        self._on_gpu = device.type == "cuda"
        self._pairs: list[tuple[str, str | None, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, what: str, out_of: str | None = None) -> Iterator[None]:
        """Add the time that passes inside to `what`, and take it from `out_of`."""
        if self._on_gpu:
            begin, end = _event(), _event()
            begin.record()
            try:
                yield
            finally:
                end.record()
                self._pairs.append((what, out_of, begin, end))
            return
        start = perf_counter()
        try:
            yield
        finally:
            self._add(what, out_of, perf_counter() - start)

    def settle(self) -> None:
        """Read the GPU's events; called once per epoch, after its numbers were read."""
        for what, out_of, begin, end in self._pairs:
            end.synchronize()
            self._add(what, out_of, begin.elapsed_time(end) / 1000)
        self._pairs.clear()

    def _add(self, what: str, out_of: str | None, seconds: float) -> None:
        self.seconds[what] += seconds
        if out_of is not None:
            self.seconds[out_of] -= seconds


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Add the time that passes inside to `seconds[what]`, by the clock on the wall."""
    start = perf_counter()
    try:
        yield
    finally:
        seconds[what] += perf_counter() - start
