"""Eight mixed ResNet-20 trials on one device: several at a time beside one after another.

    HPOGEN_DATA=DATA .venv/bin/python scripts/bench/packing.py [--workers 1 2 4 8] [--epochs 3]

Random configurations (batch sizes of 32 to 512) on Fashion-MNIST, through real Ray workers that
share the first GPU equally; without a GPU they share the CPUs. Time is that of the study, from
opening to closing it, on workers that have started but not yet imported torch. The metrics of all
arrangements are compared: equal bit for bit on CPU; on a GPU the largest relative difference of a
validation loss is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import hpogen
from hpogen.executors.ray import RayExecutor
from hpogen.record.history import Record

STUDY = """
task:
  dataset: {{name: fashion-mnist, subset: {subset}, validation: 2000, audit: 0}}
  model: resnet20
  epochs: {epochs}
search_space:
  batch_size: {{int: [32, 512], log: true, default: 128}}
  lr: {{float: [0.01, 0.3], log: true, default: 0.1}}
searcher: random
enqueue: []
objective: {{preset: agn+val, alpha: 0.05}}
stop: {{trials: {trials}}}
"""
SAME = 1e-3  # on a GPU, whose kernels may add in another order


def seconds(workers: int, options: argparse.Namespace) -> tuple[float, list[dict[str, float]]]:
    """The time of all trials, and the metrics of each."""
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(STUDY.format(**vars(options)))
        share = 1 / workers if gpu else 0.0
        executor = RayExecutor(workers, cpus_per_trial=1, gpus_per_trial=share)
        while executor.slots < workers:
            executor.wait(0.1)
        begin = time.perf_counter()
        with hpogen.open_study(path, Path(folder) / "run") as study:
            result = hpogen.run(study, executor)
            records = study.history.told()
        taken = time.perf_counter() - begin
        executor.stop()
        if result.end != "finished" or any(record.failure for record in records):
            sys.exit(f"wrong: {result}, {[record.failure for record in records]}")
        outcomes: list[Any] = [record.outcome for record in sorted(records, key=_number)]
        return taken, [dict(outcome.metrics) for outcome in outcomes]


def _number(record: Record) -> int:
    return record.trial.id


def difference(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    """The largest relative difference of a validation loss."""
    return max(abs(x["val_loss"] / y["val_loss"] - 1) for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--subset", type=float, default=0.02)
    options = parser.parse_args()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, ray {version('ray')}, "
        f"{gpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; "
        f"{options.trials} trials of {options.epochs} epochs, subset {options.subset}"
    )
    print(f"{'at a time':>9} {'seconds':>8} {'of serial':>10} {'largest difference':>19}")
    serial: tuple[float, list[dict[str, float]]] | None = None
    for workers in options.workers:
        taken, metrics = seconds(workers, options)
        serial = serial or (taken, metrics)
        apart = difference(metrics, serial[1])
        print(f"{workers:9} {taken:8.1f} {taken / serial[0]:10.2f} {apart:19.1e}", flush=True)
        if apart > SAME or (not torch.cuda.is_available() and metrics != serial[1]):
            sys.exit("wrong: the metrics differ")


if __name__ == "__main__":
    main()
