"""A whole trial with AGN and validation after each epoch, and several of them in one process.

    .venv/bin/python scripts/bench/whole_trial.py [--model resnet56] [--epochs 160] [--batch 128]
        [--images 10000] [--precision fp32] [--device cuda] [--together 1 2 4 8] [--eager]

Images are noise: their values change no time. The first line tells a trial's seconds, by part, its
peak memory and, on a GPU, how long each batch size took to be captured as a CUDA graph. `together`
runs so many trials step by step in turns, each on a CUDA stream of its own (on a CPU they only take
turns): time over that of the same number one after the other. `packing.py` is the same with a
process for each.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from hpogen import plugins
from hpogen.tasks.base import Epoch
from hpogen.training import random_state
from hpogen.training.data import ImageData
from hpogen.training.graphs import Graphs
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial

CAPTURES: dict[int, float] = {}  # seconds, by batch size


def noise(root: Path, *, count: int = 100) -> ImageData:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    return ImageData(images, labels, images[:10], labels[:10], 10, "noise")


def trials(given: argparse.Namespace, count: int, home: Path) -> list[Iterator[Epoch | None]]:
    """So many trials that differ in their seed, not yet begun."""
    settings = ImageClassification.model_validate(
        {
            "dataset": {
                "name": "noise",
                "count": 2 * given.images,
                "subset": 0.5,
                "validation": given.images,
                "audit": 0,
                "augment": "standard",
            },
            "model": given.model,
            "epochs": given.epochs,
            "precision": given.precision,
            "cuda_graphs": not given.eager,
        }
    )
    config = {"lr": 1e-3, "batch_size": given.batch}
    return [
        settings.train(
            RunningTrial(
                config,
                given.epochs,
                id=seed,
                seed=seed,
                start_epoch=0,
                home=home / str(seed),
                device=given.device,
            ),
            frozenset({"agn", "train_loss", "val_loss"}),
        )
        for seed in range(count)
    ]


def in_turns(given: argparse.Namespace, count: int, home: Path) -> tuple[float, Epoch]:
    """The seconds of all to the end, and the last epoch of one of them."""
    begin, last = time.perf_counter(), None
    streams = [stream(given.device) for _ in range(count)]
    running = list(zip(trials(given, count, home), streams, strict=True))
    while running:
        for pair in list(running):
            with pair[1]:
                told = next(pair[0], StopIteration)
            if told is StopIteration:
                running.remove(pair)
            elif isinstance(told, Epoch):
                last = told
    if given.device != "cpu":
        torch.cuda.synchronize()
    if last is None:
        raise RuntimeError("a trial has told no epoch")
    return time.perf_counter() - begin, last


def stream(device: str) -> AbstractContextManager[object]:
    if device == "cpu":
        return nullcontext()
    context: AbstractContextManager[object] = torch.cuda.stream(
        torch.cuda.Stream()  # type: ignore[no-untyped-call]
    )
    return context


def note_captures() -> None:
    """Time the captures of this process."""
    capture = Graphs._capture

    def timed(graphs: Graphs, size: int) -> None:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        capture(graphs, size)
        torch.cuda.synchronize()
        CAPTURES.setdefault(size, time.perf_counter() - begin)

    Graphs._capture = timed  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet56")
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    given = parser.parse_args()
    plugins.datasets.add("noise", noise)
    random_state.TICK = 0.0  # a turn is a step
    note_captures()
    name = torch.cuda.get_device_name() if given.device != "cpu" else "CPU"
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {name}, {os.cpu_count()} "
        f"cores, load {os.getloadavg()[0]:.1f} before; {given.model}, batch {given.batch}, "
        f"{given.images} images to train and as many to validate, {given.epochs} epochs, "
        f"{given.precision}{', eager' if given.eager else ''}"
    )
    with tempfile.TemporaryDirectory() as home:
        shorter = argparse.Namespace(**{**vars(given), "epochs": 1})
        in_turns(shorter, 1, Path(home) / "first")  # what is imported and compiled but once
        alone, last = in_turns(given, 1, Path(home) / "alone")
        parts = ", ".join(f"{what} {value:.2f} s" for what, value in last.seconds.items())
        peak = f", peak memory {last.memory['peak'] / 2**20:,.0f} MiB" if last.memory else ""
        captures = "".join(f", batch {b} captured in {s:.3f} s" for b, s in CAPTURES.items())
        print(f"  one trial {alone:.2f} s: {parts}{peak}{captures}", flush=True)
        for count in given.together:
            taken, _ = in_turns(given, count, Path(home) / str(count))
            print(f"  {count} in turns: {taken:.2f} s, {taken / (count * alone):.2f} of serial")


if __name__ == "__main__":
    main()
