"""What a task's `precision` and `deterministic` mean to torch: set once when a trial begins.

Called by the loop and, for more measures, by `remeasure.py`.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch

from hpogen.measures.convolutions import mend_convolutions
from hpogen.training.forms.task import Precision


class Arithmetic(Protocol):
    """A task's settings, or what is kept of them beside weights."""

    @property
    def precision(self) -> Precision: ...

    @property
    def deterministic(self) -> bool: ...


def set_arithmetic(settings: Arithmetic, device: torch.device) -> None:
    """How this process computes from now on; it changes nothing on a CPU but what is asked.

    `fp32` is IEEE float32 (torch's own default lets convolutions on a GPU use TF32), `tf32` has 10
    bits of mantissa in matrix products and convolutions on a GPU; `bf16` is up to `autocast`.
    `deterministic` allows only kernels that repeat bit for bit; without it cuDNN times its kernels
    and takes the fastest, which need not be the same one the next time. Convolutions on
    a CPU get gradients that are right (`mend_convolutions`).
    """
    mend_convolutions()
    deterministic = settings.deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it takes 3 s
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        kind = "tf32" if settings.precision == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]


def autocast(settings: Arithmetic, device: torch.device) -> AbstractContextManager[object]:
    """Where forward passes run: in bfloat16 where a task says so, its weights stay in float32."""
    if settings.precision != "bf16":
        return nullcontext()  # a disabled autocast takes 5 µs of each step
    kind = device.type if device.type in ("cpu", "cuda") else "cpu"
    return torch.autocast(kind, torch.bfloat16, cache_enabled=False)
