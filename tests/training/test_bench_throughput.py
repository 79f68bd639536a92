"""The benchmark of the training loop, on a few images of noise: its loops train the same."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Fashion-MNIST as torchvision keeps it, with 5,600 images to train on and 10 for the test."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 5600), ("t10k", 10)):
        images = random.integers(0, 32, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[14 * (label % 2) :][:14] = 255 - 25 * label  # where, and how bright
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">i{array.ndim}i", 0x800 + array.ndim, *array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path


def bench(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/bench/throughput.py"), "--data", str(data)]
    command += ["--models", "mlp", "--batches", "50", "--threads", "1", "--subset", "0.1"]
    return subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)


def test_the_table_has_each_loop(noise: Path) -> None:
    done = bench(noise, "--rounds", "1", "--workers", "0")
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[1] for line in done.stdout.splitlines()[4:]] == [
        "hpogen (control)",
        "tensors",
        "loader, 0 workers",
    ]


@pytest.mark.slow
def test_the_loops_learn_the_same(noise: Path) -> None:
    done = bench(noise, "--accuracy", "2", "--seeds", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    means = [float(line.split()[1]) for line in done.stdout.splitlines()[3:]]
    assert len(means) == 3
    assert max(means) - min(means) < 0.2
    assert min(means) > 0.25  # there is something to learn
