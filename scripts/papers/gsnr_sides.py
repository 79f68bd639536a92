"""Both sides of eq. 19 of the GSNR paper for an image classifier: M training sets, plain descent.

`gsnr_equation19.py` draws what comes of it; `gsnr_signs.py` takes its training sets from here.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from common import Run
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hpogen.measures.batches import Batch
from hpogen.measures.network_moments import network_moments
from hpogen.measures.passes import PredictionCollector, forward_pass
from hpogen.training.data.loaded import load, moments
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build

Job, Found = TypeVar("Job"), TypeVar("Found")

BATCH = 1000  # images per forward of an evaluation
LEAST = 16  # pixels: the nets of the paper's Tables 2 and 3 take no smaller side


@dataclass(frozen=True)
class Setting:
    """One point of a figure: what is trained on what."""

    data: str  # a data set's name, or "toy"
    n: int  # samples of a training set
    noise: float  # the chance that a label is drawn anew; of the toy η_noise
    channels: int  # p of Tables 2 and 3; of the toy the hidden units N


@dataclass(frozen=True)
class Work:
    """What a worker does for a setting: M training sets, descended at a rate to the last epoch."""

    setting: Setting
    sets: int  # M
    epochs: tuple[int, ...]  # steps of full-batch descent before the sides are taken
    tested: int  # n', samples of the test set
    device: str
    rate: float = 0.001
    seed: int = 0


@dataclass(frozen=True)
class Reading:
    """What one of the M nets gives at one epoch: losses around a step, and sums over j."""

    train: tuple[float, float]  # L_t, L_{t+1}
    test: tuple[float, float]
    squares: float  # Σ_j g_j²
    variances: float  # Σ_j ρ_j²


@dataclass(frozen=True)
class Sides:
    """One point: both sides of eq. 19 at an epoch, and the mean losses there."""

    epoch: int
    lhs: float
    rhs: float
    train_loss: float
    test_loss: float


def sides(epoch: int, readings: Sequence[Reading], n: int) -> Sides:
    """Eq. 23 on the left, eqs. 19 and 24 on the right; the M means come before the ratios."""
    train, test = (
        np.array([getattr(reading, name) for reading in readings]) for name in ("train", "test")
    )  # (M, 2)
    squares = np.mean([reading.squares for reading in readings])  # Σ_j E g_Dj²
    variances = np.mean([reading.variances for reading in readings])  # Σ_j ρ_j²
    return Sides(
        epoch,
        lhs=float((test[:, 1] - test[:, 0]).sum() / (train[:, 1] - train[:, 0]).sum()),
        rhs=float(1 - variances / (n * squares)),
        train_loss=float(train[:, 0].mean()),
        test_loss=float(test[:, 0].mean()),
    )


@dataclass(frozen=True)
class Pool:
    """Normalised images (N, C, H, W) and labels (N,) to draw training sets from, and to test on."""

    images: Tensor
    labels: Tensor
    test: Batch

    def training_set(self, n: int, seed: int, number: int) -> Batch:
        """The `number`-th training set: n images without replacement."""
        random = np.random.default_rng([seed, number])
        chosen = torch.from_numpy(random.choice(len(self.labels), n, replace=False))
        chosen = chosen.to(self.labels.device)
        return self.images[chosen], self.labels[chosen]


@functools.lru_cache(maxsize=1)
def pool(name: str, noise: float, tested: int, seed: int, device: str) -> Pool:
    """The data set with that share of its labels drawn at random, the test set's labels too.

    Both come from one distribution, which Assumption 2.3.1 needs. A label is drawn from all
    classes, the right one among them. Images of less than 16 pixels are enlarged.
    """
    data = load(Dataset(name=name))
    mean, scale = (np.array(part, np.float32)[:, None, None] for part in moments(data.train.inputs))
    random = np.random.default_rng([seed, 19])

    def ready(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Batch:
        drawn = random.integers(data.classes, size=len(labels))
        mixed = np.where(random.random(len(labels)) < noise, drawn, labels)
        times = -(-LEAST // min(images.shape[2:]))
        enlarged = images.repeat(times, axis=2).repeat(times, axis=3)
        values = (enlarged - mean) * scale  # float32
        return torch.from_numpy(values).to(device), torch.from_numpy(mixed).to(device)

    chosen = np.sort(random.permutation(len(data.test.targets))[:tested])
    everything = np.arange(len(data.train.targets))
    test = ready(data.test.inputs[chosen], data.test.targets[chosen])
    return Pool(*ready(data.train.inputs[everything], data.train.targets), test)


def new_net(data: str, channels: int, images: Tensor, seed: int, classes: int = 10) -> nn.Module:
    """The net of Table 3 for CIFAR-10 and what stands in for it, else of Table 2."""
    name = "gsnr-cifar" if data in ("cifar10", "fashion-mnist") else "gsnr-mnist"
    torch.manual_seed(seed)  # the M nets begin alike
    depth, height, width = images.shape[1:]
    net = build(name, {"channels": channels}, Inputs((depth, height, width), classes))
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0  # the statistics are those of the training set, as in A.2
    return net.to(images.device)


def mean_loss(net: nn.Module, data: Batch) -> float:
    """In evaluation mode, in float64 from the logits on."""
    collector = PredictionCollector()
    for _ in forward_pass(net, batches(data), collector):
        pass
    return collector.result().loss


def batches(data: Batch) -> Iterator[Batch]:
    x, y = data
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


def gradients_of(net: nn.Module, data: Batch) -> tuple[float, list[Tensor]]:
    """The mean loss over the whole set and its gradients, in the order of the parameters."""
    net.train()
    loss = functional.cross_entropy(net(data[0]), data[1])
    return float(loss.detach()), list(torch.autograd.grad(loss, list(net.parameters())))


def descend(net: nn.Module, gradients: Sequence[Tensor], rate: float) -> None:
    """One step of gradient descent, by hand: θ ← θ − λ ∇L[D]."""
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        parameter.data.sub_(gradient, alpha=rate)


def step(net: nn.Module, data: Batch, rate: float) -> None:
    descend(net, gradients_of(net, data)[1], rate)


def statistics(net: nn.Module, data: Batch) -> None:
    """Give BatchNorm the training set's means and variances at the present weights."""
    if any(isinstance(module, _BatchNorm) for module in net.modules()):
        net.train()
        with torch.no_grad():
            net(data[0])


def read(net: nn.Module, data: Batch, test: Batch, rate: float) -> Reading:
    """Both sums over parameters and both losses, and one step between the latter."""
    statistics(net, data)
    moved = network_moments(net, batches(data), signs=False)
    train, tested = mean_loss(net, data), mean_loss(net, test)
    step(net, data, rate)
    statistics(net, data)
    squares = float(moved.mean.square().sum())
    variances = float(moved.second.sum()) / moved.count - squares
    return Reading(
        (train, mean_loss(net, data)), (tested, mean_loss(net, test)), squares, variances
    )


def points(work: Work) -> list[Sides]:
    """Both sides at each of the epochs, for an image data set."""
    setting = work.setting
    images = pool(setting.data, setting.noise, work.tested, work.seed, work.device)
    readings: dict[int, list[Reading]] = {epoch: [] for epoch in work.epochs}
    for number in range(work.sets):
        data = images.training_set(setting.n, work.seed, number)
        net = new_net(setting.data, setting.channels, data[0], work.seed)
        for epoch in range(max(work.epochs) + 1):
            if epoch in readings:
                readings[epoch].append(read(net, data, images.test, work.rate))
            else:
                step(net, data, work.rate)
    return [sides(epoch, found, setting.n) for epoch, found in readings.items()]


def on_all_cores(run: Run, function: Callable[[Job], Found], jobs: Sequence[Job]) -> list[Found]:
    """The function of each job, in their order; on a CPU a process per core takes them."""
    torch.set_num_threads(1)
    cores = os.cpu_count() or 1
    if run.device != "cpu" or run.scale == "tiny" or cores < 2:
        return list(_counted(map(function, jobs), len(jobs)))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, torch.set_num_threads, (1,)) as processes:
        return list(_counted(processes.map(function, jobs), len(jobs)))


def _counted(found: Iterable[Found], total: int) -> Iterator[Found]:
    """The same, saying how many there are, but not more often than every ten seconds."""
    said = time.monotonic()
    for number, one in enumerate(found, 1):
        yield one
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{number} of {total}", file=sys.stderr, flush=True)
