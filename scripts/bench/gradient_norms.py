"""Per-sample gradient norms of a whole network: time and peak memory beside three peers.

.venv/bin/python scripts/bench/gradient_norms.py [--rounds 7] [--models MLP] [--batches 32]
    [--device cuda]

Each method gives the (N,) squared norms of one batch, on one model in evaluation mode, without
in-place layers (BackPACK's hooks refuse those). Time: calls for a quarter of a second, after one to
warm up; all methods interleaved, in turn forwards and backwards; the least of the rounds, and the
ratio to hpogen with the interval of the paired ratios; hpogen runs twice in each round, as a
control. Memory: what the peak of a fresh process's resident memory grows by in the first call,
after a plain training step on a batch of 2. The peers do not belong to hpogen's environment; one
that is missing is skipped. To get them:

uv pip install --target PEERS --no-deps backpack-for-pytorch opacus opt_einsum einops unfoldNd
PYTHONPATH=PEERS .venv/bin/python scripts/bench/gradient_norms.py
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.measures import gradient_norms
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build
from hpogen.training.models.lenet import lenet5

Norms = Callable[[Tensor, Tensor], Tensor]  # (x, y) → (N,)
BATCHES = (32, 128)
BURST = 0.25  # seconds of calls per measurement


class Block(nn.Module):
    """The block of hpogen's ResNet-20, from modules that every peer knows."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            norm(outputs),
        )
        self.relu = nn.ReLU()
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.added:
            half = self.added // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return self.relu(x + y)


def resnet20(norm: Callable[[int], nn.Module]) -> nn.Module:
    body: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), norm(16), nn.ReLU()]
    inputs = 16
    for outputs, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            body.append(Block(inputs, outputs, stride, norm))
            inputs = outputs
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def plain(model: nn.Module) -> nn.Module:
    """The same without in-place ReLUs, and with torch's own maximum pooling."""
    layers = [nn.MaxPool2d(2) if "Maximum" in type(m).__name__ else m for m in model.children()]
    return nn.Sequential(*(nn.ReLU() if isinstance(m, nn.ReLU) else m for m in layers))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "MLP": (lambda: plain(build("mlp", {}, Inputs((1, 28, 28), 10))), (1, 28, 28)),
    "LeNet-5": (lambda: plain(lenet5((1, 28, 28), 10)), (1, 28, 28)),
    "ResNet-20": (lambda: resnet20(nn.BatchNorm2d), (3, 32, 32)),
    "ResNet-20, GroupNorm": (lambda: resnet20(lambda c: nn.GroupNorm(c // 8, c)), (3, 32, 32)),
}


def ours(model: nn.Module) -> Norms:
    return lambda x, y: gradient_norms(model, x, y)


def vmapped(model: nn.Module) -> Norms:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = torch.func.functional_call(model, values, (x[None],))
        return functional.cross_entropy(outputs, y[None])

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    return lambda x, y: total(g.flatten(1) for g in gradients(parameters, x, y).values())


def backpack(model: nn.Module) -> Norms:
    from backpack import backpack as quantities
    from backpack import extend
    from backpack.extensions import BatchL2Grad

    extended, loss = extend(model), extend(nn.CrossEntropyLoss(reduction="sum"))

    def norms(x: Tensor, y: Tensor) -> Tensor:
        extended.zero_grad()
        with quantities(BatchL2Grad()):
            loss(extended(x), y).backward()
        return torch.stack([p.batch_l2 for p in extended.parameters()]).sum(0)

    return norms


def opacus(model: nn.Module) -> Norms:
    from opacus.grad_sample import GradSampleModule

    wrapped = GradSampleModule(model.train(), loss_reduction="sum")

    def norms(x: Tensor, y: Tensor) -> Tensor:
        wrapped.zero_grad()
        functional.cross_entropy(wrapped(x), y, reduction="sum").backward()
        return total(p.grad_sample.flatten(1) for p in wrapped.parameters())

    return norms


def opacus_ghost(model: nn.Module) -> Norms:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(model.train(), loss_reduction="sum")

    def norms(x: Tensor, y: Tensor) -> Tensor:
        wrapped.zero_grad()
        functional.cross_entropy(wrapped(x), y, reduction="sum").backward()
        return wrapped.get_norm_sample().square()

    return norms


def total(gradients: Iterable[Tensor]) -> Tensor:
    return torch.stack([g.square().sum(1) for g in gradients]).sum(0)


METHODS: dict[str, tuple[str, Callable[[nn.Module], Norms]]] = {  # package, how
    "hpogen": ("hpogen", ours),
    "BackPACK": ("backpack", backpack),
    "Opacus": ("opacus", opacus),
    "Opacus, ghost": ("opacus", opacus_ghost),
    "vmap(grad)": ("torch", vmapped),
}
CANNOT = {  # Opacus has no BatchNorm, BackPACK's BatchL2Grad no GroupNorm
    ("Opacus", "ResNet-20"),
    ("Opacus, ghost", "ResNet-20"),
    ("BackPACK", "ResNet-20, GroupNorm"),
}


def prepared(method: str, model: str, batch: int) -> tuple[Norms, Tensor, Tensor]:
    build, shape = MODELS[model]
    torch.manual_seed(0)
    x, y = torch.randn(batch, *shape), torch.randint(0, 10, (batch,))
    return METHODS[method][1](build().eval()), x, y


def seconds(methods: list[str], model: str, batch: int, rounds: int) -> dict[str, list[float]]:
    runs = {name: prepared(name, model, batch) for name in methods}
    runs["(hpogen again)"] = prepared("hpogen", model, batch)
    expected = runs["hpogen"][0](*runs["hpogen"][1:]).float()
    for name, (norms, x, y) in runs.items():
        error = float(((norms(x, y) - expected) / expected).abs().max())
        if not error < 1e-3:
            sys.exit(f"{name} differs from hpogen by {error:.1e} on {model}, batch {batch}")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            norms, x, y = runs[name]
            times[name].append(per_call(norms, x, y))
    return times


def per_call(norms: Norms, x: Tensor, y: Tensor) -> float:
    """Seconds of one call: the mean over BURST, after one that warms the caches again."""
    norms(x, y)
    wait(x)
    begin, calls = time.perf_counter(), 0
    while (taken := time.perf_counter() - begin) < BURST:
        norms(x, y)
        wait(x)
        calls += 1
    return taken / calls


def wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def resident(field: str) -> float:
    """MiB of this process's resident memory, now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def print_memory(method: str, model: str, batch: int) -> None:
    norms, x, y = prepared(method, model, batch)
    norms(x[:2], y[:2])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    norms(x, y)
    print(resident("VmHWM") - before)


def memory(method: str, model: str, batch: int, threads: int) -> float:
    command = [sys.executable, __file__, "--memory", method, model, str(batch)]
    command += ["--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_grouped() -> None:
    """How far each is from per-sample autograd on a convolution with two groups."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 10, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x, y = torch.randn(8, 4, 8, 8), torch.randint(0, 10, (8,))
    exact = vmapped(copy.deepcopy(model))(x, y)
    print("\nnorms over exact norms, a convolution of groups = 2:")
    for name in available():
        ratios = METHODS[name][1](copy.deepcopy(model))(x, y) / exact
        print(f"  {name:<16}{float(ratios.min()):.4f} to {float(ratios.max()):.4f}")


def available() -> list[str]:
    return [name for name, (package, _) in METHODS.items() if importlib.util.find_spec(package)]


def print_rows(model: str, batch: int, rounds: int, threads: int) -> None:
    methods = [name for name in available() if (name, model) not in CANNOT]
    times = seconds(methods, model, batch, rounds)
    control = min(times["(hpogen again)"]) / min(times["hpogen"])
    noisy = ": discard, the control differs by more than 3 %" if abs(control - 1) > 0.03 else ""
    print(f"\n{model}, batch {batch}{noisy}")
    for name, taken in times.items():
        paired = sorted(a / b for a, b in zip(taken, times["hpogen"], strict=True))
        least = min(taken) / min(times["hpogen"])
        on_cpu = torch.get_default_device().type == "cpu"
        measured = name in METHODS and on_cpu
        used = f"{memory(name, model, batch, threads):8.1f} MiB" if measured else ""
        print(
            f"  {name:<16}{1000 * min(taken):9.2f} ms  ×{least:6.2f} "
            f"[{paired[0]:.2f}, {statistics.median(paired):.2f}, {paired[-1]:.2f}]  {used}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--device", default="cpu", help="cuda: without memory")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    warnings.filterwarnings("ignore")  # the peers' own
    if options.memory:
        print_memory(options.memory[0], options.memory[1], int(options.memory[2]))
        return
    found = {"backpack": "backpack-for-pytorch", "opacus": "opacus"}
    for package, project in found.items():
        if importlib.util.find_spec(package) is None:
            print(f"{project} is not installed: skipped")
    peers = [f"{p} {version(p)}" for m, p in found.items() if importlib.util.find_spec(m)]
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {', '.join(peers)}; "
        f"{options.threads} of {os.cpu_count()} cores, n = {options.rounds}; "
        "× and [least, median, most] of the paired ratios: time over hpogen's"
    )
    for model in options.models:
        for batch in options.batches:
            print_rows(model, batch, options.rounds, options.threads)
    print_grouped()


if __name__ == "__main__":
    main()
