"""hpogen's training loop beside two others: the same net, recipe and images, interleaved.

    .venv/bin/python scripts/bench/throughput.py [--models lenet5 resnet20] [--batches 32 128]
        [--threads 1 2] [--rounds 7] [--subset 0.2] [--data FOLDER] [--device cpu]
        [--workers 0 1] [--clock wall] [--precision fp32] [--accuracy EPOCHS --seeds 5]

`loader` is the loop of the PyTorch examples: torchvision's data set and transforms, a DataLoader;
with `workers` processes beside its own, and the number of them that served it best here. `tensors`
is the best plain loop that we know: the images on the device, augmented by the epoch,
`channels_last`, a fused optimizer, nothing recorded. An epoch trains on `--subset` of Fashion-MNIST
with augmentation (pad by 4, crop, flip) and evaluates 5,000 other images; hpogen's is that of a
study, checkpoints included. On a GPU `eager` is hpogen without CUDA graphs.

The table gives images per second of the fastest round (trained on; the evaluation's time counts)
and how many times longer the others take: the ratio of the least times, the median of the paired
rounds and its 95 % interval, beside hpogen compared with itself. When that control is more than
3 % from 1, the run says nothing. `--clock cpu` counts the process's own time: for one thread, on a
machine that others use as well.

`--accuracy` trains each loop from several seeds instead, with a cosine schedule: at a constant rate
the last epoch's accuracy is mostly luck. It compares validation accuracies: means, standard
deviations, and Welch's 99 % interval of the difference. Exits with 1 when that leaves
out 0; times decide nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from throughput_loops import Case, Hpogen, Loader, Loop, Tensors

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
RATES = {"lenet5": 0.02, "resnet20": 0.05, "resnet56": 0.05, "mlp": 0.02}


@dataclass(frozen=True)
class Times:
    """Seconds of the rounds of one loop, and of hpogen's epochs before and after each."""

    theirs: np.ndarray  # (R,)
    ours: np.ndarray  # (R,)

    def row(self, name: str, images: int) -> str:
        ratios = self.theirs / self.ours
        resampled = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
        low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
        least = self.theirs.min() / self.ours.min()
        return (
            f"  {name:<22}{images / self.theirs.min():>11,.0f}{least:>9.2f}"
            f"{np.median(ratios):>9.2f}   [{low:.2f}, {high:.2f}]"
        )


def seconds(loop: Loop, case: Case, threads: int) -> float:
    """Of one more epoch."""
    torch.set_num_threads(threads)
    clock = CLOCKS[case.clock]
    start = clock()
    loop.epoch()
    if case.device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def paired(ours: Loop, other: Loop, case: Case, threads: int, rounds: int) -> Times:
    """Rounds of hpogen, the other, the other, hpogen."""
    for loop, own in ((ours, case.threads), (other, threads)):
        seconds(loop, case, own)
    a, b = [], []
    for _ in range(rounds):
        before = seconds(ours, case, case.threads)
        both = [seconds(other, case, threads) for _ in range(2)]
        a.append((before + seconds(ours, case, case.threads)) / 2)
        b.append(sum(both) / 2)
    return Times(np.array(b), np.array(a))


def best_workers(case: Case, tried: Sequence[int]) -> tuple[int, int]:
    """Processes beside the loader's own, and its own threads, with which an epoch is shortest."""
    found = {}
    for workers in tried:
        for threads in {1, case.threads}:
            loop = Loader(case, workers)
            seconds(loop, case, threads)
            found[seconds(loop, case, threads)] = workers, threads
    return found[min(found)]


def others(case: Case, home: Path, tried: Sequence[int]) -> Iterator[tuple[str, Loop, int]]:
    """What hpogen is set beside, each with its number of threads; itself first."""
    yield "hpogen (control)", Hpogen(case, home / "control"), case.threads
    if case.device == "cuda":
        yield "hpogen, eager", Hpogen(replace(case, cuda_graphs=False), home / "e"), case.threads
    yield "tensors", Tensors(case), case.threads
    yield "loader, 0 workers", Loader(case, 0), case.threads
    workers, threads = best_workers(case, tried)
    name = f"loader, {workers} workers" + (f", {threads} thr." if threads != case.threads else "")
    if case.clock == "wall" and (workers or threads != case.threads):
        yield name, Loader(case, workers), threads


def speed(case: Case, rounds: int, tried: Sequence[int]) -> None:
    images = round(case.subset * 60_000)
    print(
        f"\n{case.model}, batch {case.batch}, {case.threads} threads, {case.precision}: "
        f"{images:,} images an epoch"
    )
    print(f"  {'':<22}{'images/s':>11}{'least':>9}{'median':>9}   interval")
    with tempfile.TemporaryDirectory() as home:
        for name, other, threads in others(case, Path(home), tried):
            with closing(Hpogen(case, Path(home) / f"beside {name}")) as ours, closing(other):
                print(paired(ours, other, case, threads, rounds).row(name, images), flush=True)


def accuracies(make: Callable[[Case], Loop], case: Case, epochs: int, seeds: int) -> np.ndarray:
    """The validation accuracy after the last epoch, of each seed."""
    found = []
    for seed in range(seeds):
        with closing(make(replace(case, seed=seed, epochs=epochs, schedule="cosine"))) as loop:
            found.append([loop.epoch() for _ in range(epochs)][-1])
    return np.array(found)


def accuracy(case: Case, epochs: int, seeds: int) -> bool:
    """Whether all loops reach the same, as far as so many seeds can tell."""
    print(f"\n{case.model}, batch {case.batch}, {epochs} epochs, lr {case.lr}, {seeds} seeds")
    with tempfile.TemporaryDirectory() as home:
        torch.set_num_threads(case.threads)
        ours = accuracies(lambda c: Hpogen(c, Path(home) / str(c.seed)), case, epochs, seeds)
        print(f"  {'hpogen':<10}{ours.mean():.4f} ± {ours.std(ddof=1):.4f}", flush=True)
        same = True
        for name, make in (("tensors", Tensors), ("loader", lambda c: Loader(c, 0))):
            theirs = accuracies(make, case, epochs, seeds)
            interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.99)
            same &= bool(interval.low <= 0 <= interval.high)
            print(
                f"  {name:<10}{theirs.mean():.4f} ± {theirs.std(ddof=1):.4f}"
                f"   hpogen − {name}: [{interval.low:+.4f}, {interval.high:+.4f}]",
                flush=True,
            )
    return same


def main() -> None:
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lenet5", "resnet20"], choices=list(RATES))
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, cores])
    parser.add_argument("--workers", nargs="+", type=int, default=sorted({0, 1, cores // 2, cores}))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--subset", type=float, default=0.2)
    parser.add_argument("--data", type=Path, default=Path("~/.cache/hpogen").expanduser())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--accuracy", type=int, metavar="EPOCHS", default=0)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    versions = f"torch {version('torch')}, torchvision {version('torchvision')}"
    load = f"load {os.getloadavg()[0]:.1f} before"
    where = f"{given.device}, {os.cpu_count()} cores, {load}"
    print(f"Python {platform.python_version()}, {versions}; {where}; {given.rounds} rounds")
    same = True
    for model in given.models:
        for batch in given.batches:
            for threads in sorted({*given.threads}):
                case = Case(model, batch, RATES[model], given.data, given.subset)
                case = replace(
                    case,
                    device=given.device,
                    threads=threads,
                    precision=given.precision,
                    clock=given.clock,
                )
                if given.accuracy:
                    same &= accuracy(case, given.accuracy, given.seeds)
                else:
                    speed(case, given.rounds, given.workers)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
