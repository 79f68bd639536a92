"""What `time_to_target.py` sets beside each other: searches with their loops, one to a process.

    .venv/bin/python scripts/bench/target_arms.py TASK ARM SEED  # a line for each trial

Each line says when a trial ended, in seconds of the clock and of the processor since the process
began (imports, Ray's start and all its processes are counted), with its configuration, the epochs
that it had and its last validation loss. All arms have the same rows, network, space and schedule,
one thread and one trial at a time, and train as many epochs in all.
"""

from __future__ import annotations

import time

BEGIN = time.perf_counter()

import argparse  # noqa: E402
import functools  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator, Mapping  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

DATA = Path(__file__).parents[2] / "studies" / "evidence" / "data.py"
SPACE: Mapping[str, Any] = {  # search_spaces/sgd.yaml
    "batch_size": {"int": [32, 1000], "log": True, "default": 100},
    "lr": {"float": [1e-7, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [5e-7, 0.05], "log": True, "default": 5e-4},
}
TRIALS, ETA, RUNGS = 27, 3, 3  # full trainings' worth of epochs; of arms with rungs
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """Data, network and epochs of a full training; a multiple of ETA^(RUNGS − 1)."""

    data: Mapping[str, Any]
    model: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "mlp", "width": 128, "depth": 2}
    )
    epochs: int = 18
    subset: float = 0.6  # of the training data, in a search
    validation: int = 1000
    most: float = 1.0  # of the training data that there are, in a training on all of them

    def record(self, whole: bool = False) -> dict[str, Any]:
        """The task of a study: a search's, or that of a training on all of the training data."""
        subset = self.most if whole else self.subset
        split = {"subset": subset, "validation": 0 if whole else self.validation}
        return {
            "name": "supervised",
            "dataset": {**self.data, **split, "audit": "test" if whole else 0},
            "model": dict(self.model),
            "epochs": self.epochs,
            "schedule": "cosine",
        }


FASHION = {"name": "fashion-mnist"}
TASKS = {
    "digits": Task({"name": "evidence", "table": "digits"}, subset=0.7, validation=400),
    "satimage": Task({"name": "evidence", "table": "satimage"}),
    "phoneme": Task({"name": "evidence", "table": "phoneme"}),
    "fashion": Task(FASHION, {"name": "lenet5"}, 9, 5_000 / 60_000, 2000, 10_000 / 60_000),
}


def note(config: Config, epochs: int, loss: float) -> None:
    """The line of a trial that has ended."""
    line = {"wall": time.perf_counter() - BEGIN, "processor": processor()}
    line |= {"config": dict(config), "epochs": epochs, "loss": loss}
    print(json.dumps(line), flush=True)


def processor() -> float:
    """Seconds of this process and of all that it has started and not waited for."""
    import psutil

    spent = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            spent += sum(child.cpu_times()[:4])  # and of those that it has waited for
        except psutil.Error:
            continue
    return float(spent)


# Two loops: generators of the validation loss after each epoch.

Loop = Callable[[Config, int], Iterator[float]]


def ours(task: Task) -> Loop:
    """hpogen's own training, without a study around it."""
    from hpogen.tasks.base import Diverged, Epoch
    from hpogen.training.task import Supervised
    from hpogen.trial import RunningTrial

    settings = Supervised.model_validate(task.record())

    def loop(config: Config, seed: int) -> Iterator[float]:
        with tempfile.TemporaryDirectory() as home:
            given = {"id": 0, "seed": seed, "start_epoch": 0, "home": Path(home)}
            trial = RunningTrial(config=dict(config), budget=task.epochs, **given)
            try:
                for step in settings.train(trial, frozenset({"val_loss"})):
                    if isinstance(step, Epoch):
                        yield step.metrics["val_loss"]
            except Diverged:  # the loop ends at once where the others train on
                yield math.inf

    return loop


def examples(task: Task) -> Loop:
    """The loop of the PyTorch examples: a DataLoader, SGD, a schedule; images by torchvision."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

    from hpogen.training.data.prepared import prepare
    from hpogen.training.data.splits import splits
    from hpogen.training.forms.inputs import Inputs
    from hpogen.training.models.build import build
    from hpogen.training.task import Supervised

    dataset = Supervised.model_validate(task.record()).dataset
    data = prepare(dataset, torch.device("cpu"))
    train: Dataset[Any]
    validation: Dataset[Any]
    if task.data == FASHION:
        from torchvision import datasets, transforms

        normal = data.normalization
        mean, sd = normal.mean / 255, 1 / (255 * normal.scale)
        plain = [transforms.ToTensor(), transforms.Normalize(mean.flatten(), sd.flatten())]
        whole = datasets.FashionMNIST(str(dataset.folder()), transform=transforms.Compose(plain))
        parts = splits(dataset, whole.targets.numpy())
        train = Subset(whole, parts.subset.tolist())
        validation = Subset(whole, parts.validation.tolist())
    else:
        shown = functools.partial(data.normalization, memory_format=torch.contiguous_format)
        train = TensorDataset(shown(data.subset.inputs[:]), data.subset.targets)
        validation = TensorDataset(shown(data.validation.inputs[:]), data.validation.targets)

    def loop(config: Config, seed: int) -> Iterator[float]:
        torch.manual_seed(seed)
        name, options = task.model["name"], {**task.model}
        options.pop("name")
        model = build(name, options, Inputs(data.in_shape, data.outputs))
        sgd = torch.optim.SGD(
            model.parameters(),
            config["lr"],
            config["momentum"],
            weight_decay=config["weight_decay"],
        )
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, task.epochs)
        batches = DataLoader(train, min(config["batch_size"], len(train)), shuffle=True)  # type: ignore[arg-type]
        judged = DataLoader(validation, 1000)
        for _ in range(task.epochs):
            model.train()
            for x, y in batches:
                sgd.zero_grad()
                functional.cross_entropy(model(x), y).backward()
                sgd.step()
            rate.step()
            model.eval()
            with torch.no_grad():
                losses = [
                    functional.cross_entropy(model(x), y, reduction="sum").item() for x, y in judged
                ]
            yield sum(losses) / len(validation)  # type: ignore[arg-type]

    return loop


# The searches.


def study(task: Task, seed: int, searcher: Config) -> None:
    """A study of hpogen, as `hpogen run` runs it."""
    import hpogen
    from hpogen.record.history import Record

    record: dict[str, Any] = {
        "name": "target",
        "seed": seed,
        "task": task.record(),
        "search_space": dict(SPACE),
        "searcher": dict(searcher),
        "objective": "val",
        "plugins": [str(DATA)],
        "stop": {"epochs": TRIALS * task.epochs},
    }
    if searcher["name"] in ("bohb", "asha"):
        smallest = task.epochs // ETA ** (RUNGS - 1)
        record |= {"budgets": {"min": smallest, "max": task.epochs, "eta": ETA}}
        record |= {"rungs": "continue"}

    class Looks:
        def started(self, trial: object) -> None: ...

        def progressed(self, progress: object) -> None: ...

        def tick(self, stopping: bool) -> None: ...

        def finished(self, record: Record) -> None:
            found = record.outcome.metrics if record.outcome else {}
            trial = record.trial
            note(trial.config, trial.budget, found.get("val_loss", math.inf))

    with tempfile.TemporaryDirectory() as folder:
        opened = hpogen.open_study(hpogen.StudySpec.from_record(record), Path(folder) / "study")
        hpogen.run(opened, observer=Looks())
        opened.close()


def optuna(task: Task, seed: int, loop: Loop, pruner: str) -> None:
    import optuna as engine

    engine.logging.set_verbosity(engine.logging.ERROR)
    smallest = task.epochs // ETA ** (RUNGS - 1)
    pruners = {
        "none": engine.pruners.NopPruner(),
        "median": engine.pruners.MedianPruner(),
        "hyperband": engine.pruners.HyperbandPruner(smallest, task.epochs, ETA),
    }
    left = TRIALS * task.epochs

    def objective(trial: Any) -> float:
        nonlocal left
        config = {}
        for name, row in SPACE.items():
            kind = "int" if "int" in row else "float"
            suggest = getattr(trial, f"suggest_{kind}")
            config[name] = suggest(name, *row[kind], log=row.get("log", False))
        epoch, loss = 0, math.inf
        for epoch, loss in enumerate(loop(config, trial.number), 1):
            loss = loss if math.isfinite(loss) else 1e9
            trial.report(loss, epoch)
            left -= 1
            if trial.should_prune() and epoch < task.epochs:
                note(config, epoch, loss)
                raise engine.TrialPruned
        note(config, epoch, loss)
        return loss

    def over(found: Any, trial: object) -> None:
        if left <= 0:
            found.stop()

    sampler = engine.samplers.TPESampler(seed=seed)
    engine.create_study(sampler=sampler, pruner=pruners[pruner]).optimize(
        objective, callbacks=[over]
    )


def tune(task: Task, seed: int, scheduler: str) -> None:
    """Ray Tune, one trial at a time on a Ray of its own."""
    import random

    import numpy as np
    import ray
    from ray import tune as engine
    from ray.tune.schedulers import ASHAScheduler, HyperBandForBOHB
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.bohb import TuneBOHB

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    smallest = task.epochs // ETA ** (RUNGS - 1)

    def trainable(config: Config) -> None:
        begin(task)
        for loss in examples(task)(config, 0):
            engine.report({"loss": loss if math.isfinite(loss) else 1e9})

    class Lines(engine.Callback):
        left = TRIALS * task.epochs

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **_: object
        ) -> None:
            Lines.left -= 1
            epoch = result["training_iteration"]
            if epoch == task.epochs:
                note(trial.config, epoch, result["loss"])

    class Over(engine.Stopper):
        def __call__(self, trial_id: str, result: Any) -> bool:
            return bool(result["training_iteration"] >= task.epochs or Lines.left <= 0)

        def stop_all(self) -> bool:
            return Lines.left <= 0

    random.seed(seed)
    np.random.seed(seed)
    space = {}
    for name, row in SPACE.items():
        low, high = row.get("int") or row["float"]
        if "int" in row:
            space[name] = engine.lograndint(low, high + 1)
        else:
            space[name] = (
                engine.loguniform(low, high) if "log" in row else engine.uniform(low, high)
            )
    keys: dict[str, Any] = {
        "scheduler": ASHAScheduler(max_t=task.epochs, grace_period=smallest, reduction_factor=ETA)
    }
    if scheduler == "bohb":
        keys = {
            "scheduler": HyperBandForBOHB(max_t=task.epochs, reduction_factor=ETA),
            "search_alg": ConcurrencyLimiter(TuneBOHB(seed=seed), 1),
        }
    with tempfile.TemporaryDirectory() as folder:
        engine.Tuner(
            engine.with_resources(trainable, {"cpu": 1}),
            param_space=space,
            tune_config=engine.TuneConfig(
                num_samples=100_000, metric="loss", mode="min", reuse_actors=True, **keys
            ),
            run_config=engine.RunConfig(
                storage_path=folder, verbose=0, callbacks=[Lines()], stop=Over()
            ),
        ).fit()
    ray.shutdown()


def begin(task: Task) -> None:
    """What every process needs: one thread, and the data set's plug-in."""
    import torch

    from hpogen import plugins

    torch.set_num_threads(1)
    if "evidence" not in plugins.datasets:
        plugins.load_file(DATA)


Arm = Callable[[Task, int], None]
ARMS: Mapping[str, Arm] = {
    "hpogen TPE": lambda task, seed: study(task, seed, {"name": "optuna"}),
    "hpogen CMA-ES": lambda task, seed: study(task, seed, {"name": "cmaes", "population": 8}),
    "hpogen BOHB": lambda task, seed: study(task, seed, {"name": "bohb", "brackets": 1000}),
    "hpogen ASHA": lambda task, seed: study(task, seed, {"name": "asha"}),
    "Optuna TPE": lambda task, seed: optuna(task, seed, examples(task), "none"),
    "Optuna TPE, Hyperband": lambda task, seed: optuna(task, seed, examples(task), "hyperband"),
    "Optuna TPE, median": lambda task, seed: optuna(task, seed, examples(task), "median"),
    "Optuna TPE, our loop": lambda task, seed: optuna(task, seed, ours(task), "none"),
    "Tune ASHA": lambda task, seed: tune(task, seed, "asha"),
    "Tune BOHB": lambda task, seed: tune(task, seed, "bohb"),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    begin(TASKS[given.task])
    ARMS[given.arm](TASKS[given.task], given.seed)
