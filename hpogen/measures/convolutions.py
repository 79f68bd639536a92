"""The weight gradient of strided 1×1 convolutions on a CPU, right where oneDNN's is not.

`training/precision.py` asks for it when a trial begins, `passes.py` before a measure.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor

BLOCK = 8 if torch.cpu._is_avx2_supported() and not torch.cpu._is_avx512_supported() else 16
"""Channels in a block of oneDNN's kernels in float32."""
ELSEWHERE = torch._C.DispatchKeySet(torch._C.DispatchKey.QuantizedCPU)
"""A key without a kernel of its own: it leads to torch's own, which all backends share."""

log = logging.getLogger(__name__)
_library = torch.library.Library(  # type: ignore[no-untyped-call]
    "aten", "IMPL"
)  # its kernels are in force while it lives


@functools.cache
def mend_convolutions() -> None:
    """From now on this process's weight gradients of 1×1 convolutions on a CPU are right.

    Where the channels lie last and do not fill a block, oneDNN writes past the workspace in which
    the weight gradient of a strided 1×1 convolution, or transposed one, gathers every s-th pixel:
    memory is overwritten, the gradient can be wrong, threads can hang (uxlfoundation/oneDNN#6035,
    which torch 2.15 has). Here these pixels are chosen before, and the rest is a convolution
    without stride. Every other gradient comes from torch's own kernel, as before.
    """
    _library.impl("convolution_backward", _backward, "CPU")  # type: ignore[no-untyped-call]


def _backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """aten::convolution_backward: the gradients by x, weight and bias where `wanted`, from g."""

    def torchs(g: Tensor, x: Tensor, stride: list[int], extra: list[int], wanted: Any) -> Any:
        how = (bias, stride, padding, dilation, transposed, extra, groups, wanted)
        return torch.ops.aten.convolution_backward.default.redispatch(ELSEWHERE, g, x, weight, *how)

    by_x, by_weight, by_bias = wanted
    strided = max(stride) > 1 and not any(padding) and groups == 1
    if not (strided and (by_weight or by_bias) and _overruns(g, x, weight, stride, transposed)):
        return torchs(g, x, stride, output_padding, wanted)  # type: ignore[no-any-return]
    _say()
    pixels: Any = (..., *(slice(None, None, step) for step in stride))
    unstrided = (g[pixels], x) if transposed else (g, x[pixels])
    return (
        torchs(g, x, stride, output_padding, [by_x, False, False])[0],
        torchs(*unstrided, [1] * len(stride), [0] * len(stride), [False, by_weight, False])[1],
        g.sum([0, *range(2, g.ndim)]) if by_bias else None,
    )


def _overruns(g: Tensor, x: Tensor, weight: Tensor, stride: list[int], transposed: bool) -> bool:
    """Whether oneDNN gathers pixels, without padding or groups, into too small a workspace."""
    channels, *kernel = weight.shape[1:]
    few = channels < BLOCK and len(kernel) < 3 and max(kernel) == 1
    if not few or weight.dtype is torch.float64:
        return False
    many, fewer = (g, x) if transposed else (x, g)  # pixels
    sides = zip(many.shape[2:], fewer.shape[2:], stride, strict=True)
    # One channel lies first and last at once.
    first = all(t.shape[1] > 1 and t.stride(-1) == 1 for t in (x, weight))
    return not first and all(a == b * step for a, b, step in sides)


@functools.cache
def _say() -> None:
    log.warning(
        "convolution=1x1_strided onednn=6035 weight gradients without its stride: oneDNN's would "
        "overwrite memory"
    )
