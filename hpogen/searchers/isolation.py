"""Keeps apart the engines that draw from numpy's global generator, and everybody else.

`with PrivateRandom(seed):` around a call gives the engine a generator of its own.
"""

from __future__ import annotations

import numpy as np


class PrivateRandom:
    """A state of numpy's global generator that is swapped in for a `with` block, again and again.

    The engine continues where its last block ended; outside, nothing is used and nothing changes.
    """

    def __init__(self, seed: int) -> None:
        self._inside = np.random.RandomState(seed % 2**32).get_state()

    def __enter__(self) -> None:
        self._outside = np.random.get_state()
        np.random.set_state(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = np.random.get_state()
        np.random.set_state(self._outside)
