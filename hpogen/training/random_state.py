"""Gives a trial torch's random numbers to itself: nobody else's draws change it, nor it theirs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
TICK = 0.25  # seconds between two signs of life


class PrivateRandom:
    """Torch's random state of one trial, in place only while the trial runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own: list[torch.Tensor] | None = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        others = random_state(self._device)
        if self._own is not None:
            set_random_state(self._own, self._device)
        try:
            yield
        finally:
            self._own = random_state(self._device)
            set_random_state(others, self._device)


def paced(steps: Iterator[T | None], device: torch.device) -> Iterator[T | None]:
    """The values of `steps`, and None every TICK seconds, with private random numbers.

    Closing it closes `steps`, which must be a generator.
    """
    random = PrivateRandom(device)
    done = False
    try:
        while not done:
            deadline = time.monotonic() + TICK
            value: T | None = None
            with random.in_place():
                for value in steps:
                    if value is not None or time.monotonic() > deadline:
                        break
                else:
                    done = True
            if not done:
                yield value
    finally:
        with random.in_place():
            steps.close()  # type: ignore[attr-defined]


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Torch's random states, of the CPU and then of a CUDA device."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_random_state(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
