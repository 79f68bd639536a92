"""Convolutions on a CPU whose weight gradient oneDNN gets wrong: memory and gradients are right.

In child processes, under an allocator that checks: what overwrites memory ends them.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CHILD = Path(__file__).with_name("strided_convolutions.py")
CHECKS = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_WAIT_POLICY": "passive"}
OVERRUN = """
import ctypes
block = bytearray(1000)
address = ctypes.addressof(ctypes.c_char.from_buffer(block))
ctypes.memset(address + block.__alloc__(), 0, 1)
"""
AVX512 = torch.cpu._is_avx512_supported()
ISAS = [
    "DEFAULT",
    pytest.param("AVX2", marks=pytest.mark.skipif(not AVX512, reason="is the default here")),
]


def python(*arguments: str, isa: str = "DEFAULT") -> subprocess.CompletedProcess[str]:
    """Runs with the C library's checks, which newer ones keep in another library."""
    library = ctypes.util.find_library("c_malloc_debug") or ""
    variables = {**os.environ, **CHECKS, "LD_PRELOAD": library, "ONEDNN_MAX_CPU_ISA": isa}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=550)


@pytest.fixture(scope="module")
def _checking() -> None:
    if python("-c", OVERRUN).returncode >= 0:
        pytest.skip("this C library's allocator notices no write past a block")


@pytest.mark.usefixtures("_checking")
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "group",
    [
        "nets",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("models", "training", "torchvision")
        ),
    ],
)
def test_memory_is_left_alone_and_gradients_are_those_of_float64(group: str, isa: str) -> None:
    done = python(str(CHILD), group, isa=isa)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("onednn=6035") == 1  # said once
