"""Several trials trained as one batched network beside the same trials one after the other.

    .venv/bin/python scripts/bench/together.py [--models mlp lenet5 resnet20] [--ways hpogen vmap]
        [--batches 16 32 64 128 512] [--trials 2 4 8 16] [--threads 1 2] [--rounds 9]

A round is an epoch of training steps of all trials, each with its own learning rate, momentum,
weight decay, start and order of the samples: by hpogen's own steps, one trial after the other, and
as one network, of which the first dimension of each parameter is the trial. `hpogen` is what
`task.together` does, `stacked` writes the layers out (`torch.baddbmm`, convolutions in groups),
`vmap` is `torch.func`'s; these two step by one rule over all parameters as one row per trial.
Ratios are alone / together of paired rounds, with the median's 95 % interval, of the process's
own time and of the wall's. |Δw| is the largest difference of a weight after the first epoch.

`--whole 20` runs whole trials of the MLP instead: 20 epochs on 3,000 rows, with 1,000 rows of
validation, AGN and checkpoints, and says which share of a trial's time is steps.

Inputs are noise: their values change no time. Exits with 1 where weights differ by more than 1e-5.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import interval
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from hpogen.executors.base import Job
from hpogen.executors.inline import InlineExecutor
from hpogen.training.feed import Feed
from hpogen.training.models.parts import HalvingMaximum
from hpogen.training.recipe import Recipe, begin
from hpogen.training.state import State
from hpogen.training.step import Steps
from hpogen.training.task import Supervised
from hpogen.training.together import joined
from hpogen.trial import Outcome, RunningTrial

INPUTS = {"mlp": (20,), "lenet5": (1, 28, 28), "resnet20": (3, 32, 32)}
MODELS: dict[str, Any] = {
    "mlp": {"name": "mlp", "width": 128, "depth": 2},
    "lenet5": {"name": "lenet5"},
    "resnet20": {"name": "resnet20"},
}
STEPS = {"mlp": 24, "lenet5": 6, "resnet20": 2}  # of an epoch
CLASSES, LIMIT = 10, 1e-5
Logits = Callable[[Tensor], Tensor]  # of inputs (K, B, …), (K, B, C)


def trials(model: str, batch: int, count: int, home: Path) -> list[tuple[Recipe, State]]:
    """Those of one study, as its workers begin them."""
    file = home / f"{model}-{batch}.npz"
    if not file.exists():
        random = np.random.default_rng(0)
        rows = STEPS[model] * batch
        x = random.normal(size=(rows + 100, *INPUTS[model])).astype(np.float32)
        np.savez(file, x_train=x, y_train=np.arange(rows + 100) % CLASSES)
    with np.load(file) as held:
        rows = len(held["y_train"])
    dataset = {"name": "numpy", "path": str(file), "subset": 1 - 100 / rows, "validation": 100}
    mapping = {"name": "supervised", "dataset": {**dataset, "audit": 0}, "model": MODELS[model]}
    settings = Supervised.model_validate({**mapping, "epochs": 10**6, "threads": 1})
    found = []
    for k in range(count):
        decay, momentum = 1e-4 * (1 + k), 0.9 - 0.05 * (k % 8)
        config = {"batch_size": batch, "lr": 1e-3 * (1 + k), "momentum": momentum}
        config["weight_decay"] = decay
        trial = RunningTrial(config, 10**6, id=k, seed=k, start_epoch=0, home=home, device="cpu")
        recipe, state = begin(settings, trial, frozenset())
        found.append((recipe, state))
    return found


class Alone:
    """hpogen's steps, one trial after the other."""

    def __init__(self, *given: Any) -> None:
        self._trials = [(state, Steps(recipe, state, None)) for recipe, state in trials(*given)]

    def epoch(self) -> None:
        for state, steps in self._trials:
            for _ in steps.epoch():
                pass
            state.finish_epoch({})

    def weights(self) -> list[Tensor]:
        return [flat(state.model.parameters()) for state, _ in self._trials]


class Joint:
    """What `task.together` does: trials that step in turns."""

    def __init__(self, *given: Any) -> None:
        self._trials, self._stack = trials(*given), ExitStack()
        self._joined = [self._stack.enter_context(joined(*each)) for each in self._trials]

    def epoch(self) -> None:
        steps = [one.epoch() for one in self._joined]
        while steps:
            steps = [one for one in steps if next(one, None) is not None]
        for _, state in self._trials:
            state.finish_epoch({})

    def weights(self) -> list[Tensor]:
        return [flat(state.model.parameters()) for _, state in self._trials]

    def close(self) -> None:
        self._stack.close()


class Together:
    """The same trials as one network; their parameters lie in one row (P,) each."""

    def __init__(self, way: str, *given: Any) -> None:
        self._trials = trials(*given)
        self._feeds = [Feed(*each) for each in self._trials]
        models = [state.model for _, state in self._trials]
        self._weights = torch.stack([flat(m.parameters()) for m in models]).requires_grad_()
        self._velocity = torch.zeros_like(self._weights)
        shapes = [(name, p.shape) for name, p in models[0].named_parameters()]
        ends = np.cumsum([shape.numel() for _, shape in shapes])
        self._parts = {
            name: self._weights.detach()[:, end - shape.numel() : end]
            .view(-1, *shape)
            .requires_grad_()
            for end, (name, shape) in zip(ends.tolist(), shapes, strict=True)
        }  # (K, …) each
        self._logits = WAYS[way](models, self._parts)
        values = [recipe.values for recipe, _ in self._trials]
        self._lr, self._momentum, self._decay = (
            torch.tensor([getattr(v, name) for v in values])[:, None]
            for name in ("lr", "momentum", "weight_decay")
        )

    def epoch(self) -> None:
        recipe = self._trials[0][0]
        size, count = recipe.batch_size, len(recipe.data.subset)
        draws = [feed.draw() for feed in self._feeds]
        for start in range(0, recipe.steps * size, size):
            part = slice(start, min(start + size, count))
            batches = [f.batch(d.of(part)) for f, d in zip(self._feeds, draws, strict=True)]
            x, y = (torch.stack(each) for each in zip(*batches, strict=True))
            self._step(x, y)
        for _, state in self._trials:
            state.finish_epoch({})

    def _step(self, x: Tensor, y: Tensor) -> None:
        logits = self._logits(x)  # (K, B, C)
        losses = functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
        losses = losses.view(y.shape).mean(1)
        if not np.isfinite(losses.tolist()).all():
            raise ValueError("a trial has diverged")
        gradients = torch.autograd.grad(losses.sum(), list(self._parts.values()))
        with torch.no_grad():  # SGD as torch has it: g + λw, v ← μv + g, w ← w − ηv
            whole = torch.cat([g.flatten(1) for g in gradients], 1)
            whole.addcmul_(self._weights, self._decay)
            self._velocity.mul_(self._momentum).add_(whole)
            self._weights.addcmul_(self._velocity, self._lr, value=-1)

    def weights(self) -> list[Tensor]:
        return list(self._weights.detach())

    def close(self) -> None:
        """There is nothing to close."""


def flat(parameters: Any) -> Tensor:
    """(P,)"""
    return torch.cat([p.detach().flatten() for p in parameters])


def vmapped(models: Sequence[nn.Module], parts: dict[str, Tensor]) -> Logits:
    _, buffers = stack_module_state(list(models))  # type: ignore[arg-type]
    base = copy.deepcopy(models[0]).to("meta")

    def one(own: dict[str, Tensor], own_buffers: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(base, (own, own_buffers), (x,))

    call = vmap(one)
    return lambda x: call(parts, buffers, x)


def stacked(models: Sequence[nn.Module], parts: dict[str, Tensor]) -> Logits:
    count = len(models)
    layers = [(n, m) for n, m in models[0].named_children()]

    def call(x: Tensor) -> Tensor:
        if x.ndim > 3:  # (K, B, C, H, W) to (B, K·C, H, W)
            x = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        for name, layer in layers:
            weight, bias = parts.get(f"{name}.weight"), parts.get(f"{name}.bias")
            if isinstance(layer, nn.Linear):
                x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))  # type: ignore
            elif isinstance(layer, nn.Conv2d):
                x = functional.conv2d(
                    x, weight.flatten(0, 1), bias.flatten(), layer.stride, layer.padding,
                    groups=count,
                )  # fmt: skip
            elif isinstance(layer, nn.ReLU):
                x = x.relu_()
            elif isinstance(layer, HalvingMaximum):
                x = layer(x)
            elif isinstance(layer, nn.Flatten):
                x = x.unflatten(1, (count, -1)).transpose(0, 1).flatten(2) if x.ndim > 3 else x
            else:
                raise TypeError(f"no batched twin of {type(layer).__name__}")
        return x

    return call


WAYS: dict[str, Callable[..., Logits]] = {"stacked": stacked, "vmap": vmapped}


def paired(alone: Any, together: Any, rounds: int) -> str:
    ratios: dict[str, list[float]] = {"cpu": [], "wall": []}
    least = [float("inf"), float("inf")]
    for i in range(rounds):
        taken = {}
        for which in (0, 1) if i % 2 else (1, 0):
            before = time.process_time(), time.perf_counter()
            (alone, together)[which].epoch()
            taken[which] = time.process_time() - before[0], time.perf_counter() - before[1]
            least[which] = min(least[which], taken[which][1])
        for j, clock in enumerate(ratios):
            ratios[clock].append(taken[0][j] / taken[1][j])
    row = "".join(f"{s * 1e3:>9.1f}" for s in least)
    for own in ratios.values():
        low, middle, high = interval(np.array(own))
        row += f"{middle:>7.2f} [{low:.2f}, {high:.2f}]"
    return row


def whole(batch: int, count: int, epochs: int, home: Path, together: int) -> tuple[float, float]:
    """The processor's seconds of so many trials, and the share of steps in what they say of it."""
    random = np.random.default_rng(0)
    file = home / "table.npz"
    if not file.exists():
        x = random.normal(size=(4000, *INPUTS["mlp"])).astype(np.float32)
        np.savez(file, x_train=x, y_train=np.arange(len(x)) % CLASSES)
    dataset = {"name": "numpy", "path": str(file), "subset": 0.75, "validation": 1000, "audit": 0}
    given = {"dataset": dataset, "model": MODELS["mlp"], "epochs": epochs, "together": together}
    task = Supervised.model_validate({"name": "supervised", **given})
    executor, jobs = InlineExecutor("cpu", together=together), []
    for k in range(count):
        config = {"lr": 1e-2 * (1 + k), "batch_size": batch}
        place = Path(tempfile.mkdtemp(dir=home))
        trial = RunningTrial(config, epochs, id=k, seed=k, start_epoch=0, home=place / "trial")
        jobs.append(Job(trial, task, frozenset({"val_loss", "agn"}), place / "log"))
    begun, running, seconds = time.process_time(), 0, dict.fromkeys(("train", "total"), 0.0)
    while jobs or running:
        while jobs and running < executor.slots:
            executor.submit(jobs.pop())
            running += 1
        for _, event in executor.wait(0.1):
            if isinstance(event, Outcome):
                running -= 1
                seconds = {what: seconds[what] + event.seconds[what] for what in seconds}
    return time.process_time() - begun, seconds["train"] / seconds["total"]


def whole_trials(given: argparse.Namespace) -> None:
    print(f"{'':<20}{'alone, s':>10}{'together':>10}  ratio              share of steps, of each")
    for batch, count in itertools.product(given.batches, given.trials):
        with tempfile.TemporaryDirectory() as home:
            sides = (1, count)
            found: dict[int, list[tuple[float, float]]] = {side: [] for side in sides}
            for i in range(given.rounds + 1):
                for side in sides if i % 2 else sides[::-1]:
                    found[side].append(whole(batch, count, given.whole, Path(home), side))
        alone, together = (np.array(found[side][1:]) for side in sides)  # the first warms up
        low, middle, high = interval(alone[:, 0] / together[:, 0])
        row = f"{alone[:, 0].min():>10.2f}{together[:, 0].min():>10.2f}"
        shares = f"{np.median(alone[:, 1]):.2f} {np.median(together[:, 1]):.2f}"
        print(f"B={batch} K={count:<12}{row}  {middle:.2f} [{low:.2f}, {high:.2f}]  {shares}")


def difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--ways", nargs="+", default=["hpogen", *WAYS])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--trials", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--whole", type=int, metavar="EPOCHS", default=0)
    given = parser.parse_args()
    where = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before"
    print(f"Python {platform.python_version()}, torch {version('torch')}; {where}")
    if given.whole:
        torch.set_num_threads(1)
        return whole_trials(given)
    print(f"{given.rounds} rounds; ms of an epoch of all trials; ratios alone / together")
    print(f"{'':<34}{'alone':>9}{'together':>9}  processor           wall                |Δw|")
    worst = 0.0
    cases = [
        (model, way, batch, count, threads)
        for model in given.models
        for threads in given.threads
        for batch in given.batches
        for count in given.trials
        for way in given.ways
        if (model, way) != ("resnet20", "stacked")  # its shortcut pads channels of one network
        if way != "hpogen" or model == "mlp"
    ]
    for model, way, batch, count, threads in cases:
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as home:
            alone = Alone(model, batch, count, Path(home))
            given_trials = model, batch, count, Path(home)
            together = Joint(*given_trials) if way == "hpogen" else Together(way, *given_trials)
            alone.epoch(), together.epoch()
            apart = difference(alone.weights(), together.weights())
            row = paired(alone, together, given.rounds)
            together.close()
        worst = max(worst, apart)
        name = f"{model} {way} B={batch} K={count} {threads} thr."
        print(f"{name:<34}{row}  {apart:.1e}", flush=True)
    sys.exit(1 if worst > LIMIT else 0)


if __name__ == "__main__":
    main()
