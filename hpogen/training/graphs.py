"""Training steps as CUDA graphs: captured once per batch size, then one launch for each.

The nets of a search are small: on a GPU their kernels take less time than their launches.
`step.py` uses it on a GPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hpogen.training.augment import Draws

WARM_UP = 3  # eager steps of a size before its capture: kernels are chosen, buffers are made

log = logging.getLogger(__name__)
Body = Callable[[Draws, Tensor], None]  # of a batch's draws and its learning rate, () float32


class Tape:
    """An epoch's draws and learning rates at fixed places on the device, read batch by batch.

    How far it is read stands on the device, too: reading on needs nothing from the host.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._draws: Draws | None = None
        self._rates = torch.zeros(0, device=device)
        self._position = torch.zeros(2, dtype=torch.int64, device=device)  # images, steps read
        self._ahead: dict[int, tuple[Tensor, Tensor]] = {}

    def lay(self, draws: Draws, rates: Tensor, images: int, steps: int) -> None:
        """Put another epoch in its place, of which so many images and steps are read."""
        if self._draws is None:
            self._draws, self._rates = draws, rates
        else:
            self._draws.copy_(draws)
            self._rates.copy_(rates)
        self._position.copy_(torch.tensor([images, steps]))

    def prepare(self, size: int) -> None:
        """Make what reading `size` images needs; a capture cannot make it from Python's numbers."""
        if size not in self._ahead:
            step = torch.tensor([size, 1], device=self.device)
            self._ahead[size] = torch.arange(size, device=self.device), step

    def read(self, size: int) -> tuple[Draws, Tensor]:
        """The draws of the next `size` images, and the learning rate () of the step."""
        if self._draws is None:
            raise RuntimeError("no epoch is laid")
        offsets, step = self._ahead[size]
        draws = self._draws.of(self._position[0] + offsets)
        rate = self._rates.index_select(0, self._position[1:])[0]
        self._position += step
        return draws, rate


class Graphs:
    """Runs `body` for one batch of the tape after the other.

    Where a capture fails, one line in the log says why, and all steps are eager from then on: they
    compute the same.
    """

    def __init__(self, body: Body, tape: Tape) -> None:
        # an optimizer that can be captured says, in its first eager step, that it need not be so
        warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
        self._tape = tape
        self._body = body
        self._stream = torch.cuda.Stream(tape.device)  # type: ignore[no-untyped-call]
        self._eager_steps: dict[int, int] = {}
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # of the first graph: the others run after it, in its memory
        self._refused = False

    def step(self, size: int) -> None:
        """The next batch, of `size` images."""
        self._tape.prepare(size)
        done = self._eager_steps.get(size, 0)
        if size not in self._graphs and not self._refused and done >= WARM_UP:
            self._capture(size)
        if size in self._graphs:
            self._graphs[size].replay()
        else:
            self._run_eagerly(size)
            self._eager_steps[size] = done + 1

    def _run_eagerly(self, size: int) -> None:
        """On the stream of the captures: what autograd sets up is bound to its stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._body(*self._tape.read(size))
        torch.cuda.current_stream().wait_stream(self._stream)

    def _capture(self, size: int) -> None:
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # other threads of a worker may go on
        try:
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode):
                self._body(*self._tape.read(size))
        except RuntimeError as error:
            self._refused = True
            said = " ".join(str(error).split())[:200]
            log.warning("cuda_graph=refused batch_size=%d eager=true: %s", size, said)
            return
        self._graphs[size], self._pool = graph, graph.pool()
