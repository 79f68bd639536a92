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

CHILD = Path(__file__).with_name("strided_convolutions.py")
CHECKS = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_WAIT_POLICY": "passive"}


def child(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs to its end with the C library's checks, which newer ones keep in another library.

    Threads wait without spinning: other tests may run beside it.
    """
    library = ctypes.util.find_library("c_malloc_debug") or ""
    variables = {**os.environ, **CHECKS, "LD_PRELOAD": library, **variables}
    command = [sys.executable, str(CHILD), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def _checking() -> None:
    if child("overrun").returncode >= 0:
        pytest.skip("the C library has no checking allocator")


@pytest.mark.usefixtures("_checking")
@pytest.mark.parametrize("isa", ["DEFAULT", "AVX2"])
def test_strided_convolutions_leave_memory_alone_and_have_right_gradients(isa: str) -> None:
    done = child(ONEDNN_MAX_CPU_ISA=isa)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("onednn=6035") == 1
