"""Searchers that we have, and engines that we have not, on recorded trainings of our own.

    pip install smac==2.4.1 dehb==0.1.2  # in another environment they are left out, and it says so
    .venv/bin/python scripts/bench/engines.py record [--runs FOLDER]  # once: some 2,000 trainings
    .venv/bin/python scripts/bench/engines.py run [--engines …] [--tables …] [--seeds 30]

A table is a complete grid of trainings of digits or of a table drawn at random, with the validation
loss after each epoch, by hpogen's own `grid`. An engine proposes as ever; of each number it is
given the outcome of the nearest recorded one. `numbers`: four numbers. `mixed`: an optimizer, two
whole numbers and two more. `conditional`: what belongs to an optimizer, or to a second layer, is
there with it alone. `drawn`: `numbers` on the other data.

Stated before the first run. The figure is the share of the table's configurations that are better
than the incumbent, after as many epochs as 50 and 150 full trainings have; the incumbent is the
full training with the least loss. One trial at a time, no failures, the
same seeds for all. An engine that is not ours becomes a searcher where, after 50 or after 150, the
95 % interval (Student, over seeds, of the mean over tables) of its figure minus that of each of
ours is below zero: better than all of ours by more than the noise. Of ours, the one with the least
figure at 50 and 150, summed, among those that take every space becomes what `searcher` is where it
is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import stats

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.searchers.base import Searcher
from hpogen.space import Space
from hpogen.space.parameters import Choice, Constant, value_of
from hpogen.trial import Config, canonical

EPOCHS, ETA, RUNGS = 9, 3, 3  # of a full training; budgets of 1, 3 and 9
SPENT = (50, 150)  # full trainings
DRAWN = """
import numpy as np
from hpogen.plugins import dataset
from hpogen.training.data import Data, Samples

@dataset("drawn")
def drawn(root):
    random = np.random.default_rng(1)
    centres, x = random.normal(size=(12, 16)), random.normal(size=(2500, 16))
    y = ((x[:, None] - 1.2 * centres) ** 2).sum(2).argmin(1) // 2
    y = np.where(random.random(2500) < 0.1, random.integers(0, 6, 2500), y)
    halves = np.split(np.arange(2500), [2000])
    train, test = (Samples(x[i].astype(np.float32), y[i]) for i in halves)
    return Data(train, test, "classes", 6, "drawn")
"""
LR = {"float": [1e-4, 1.0], "log": True, "default": 0.01}
MOMENTUM = {"float": [0.0, 0.99], "default": 0.6}
BATCH = {"int": [16, 256], "log": True, "default": 64}
NUMBERS = {
    "lr": LR,
    "momentum": MOMENTUM,
    "batch_size": BATCH,
    "weight_decay": {"float": [1e-6, 0.1], "log": True, "default": 1e-4},
}
MIXED = {
    "optimizer": {"choice": ["sgd", "adam", "adamw"]},
    "lr": LR,
    "width": {"int": [8, 128], "log": True, "default": 32},
    "depth": {"int": [1, 3], "default": 1},
    "batch_size": BATCH,
}
CONDITIONAL = {
    "optimizer": {"choice": ["sgd", "adam"]},
    "lr": LR,
    "momentum": {**MOMENTUM, "when": {"optimizer": "sgd"}},
    "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
    "clip": {"float": [0.1, 10.0], "log": True, "default": 1.0, "when": {"optimizer": "adam"}},
    "depth": {"int": [1, 3], "default": 1},
    "width": {"int": [8, 128], "log": True, "default": 32, "when": {"depth": [2, 3]}},
}


@dataclass(frozen=True)
class Recorded:
    """Which trainings a table has."""

    dataset: str
    space: Mapping[str, Any]
    points: Mapping[str, int]


TABLES = {
    "numbers": Recorded(
        "digits", NUMBERS, {"lr": 13, "momentum": 4, "batch_size": 3, "weight_decay": 3}
    ),
    "mixed": Recorded("drawn", MIXED, {"lr": 9, "width": 3, "depth": 3, "batch_size": 3}),
    "conditional": Recorded(
        "digits", CONDITIONAL, {"lr": 9, "momentum": 4, "clip": 3, "depth": 3, "width": 3}
    ),
    "drawn": Recorded(
        "drawn", NUMBERS, {"lr": 13, "momentum": 4, "batch_size": 3, "weight_decay": 3}
    ),
}


def record(home: Path) -> None:
    """Train the tables; what was interrupted goes on."""
    import hpogen

    home.mkdir(parents=True, exist_ok=True)
    (home / "drawn.py").write_text(DRAWN)
    for name, table in TABLES.items():
        images = table.dataset == "digits"
        split = {"subset": 0.4, "validation": 600, "audit": 0}
        keys = {
            "name": name,
            "task": {
                "name": "supervised",
                "dataset": {"name": table.dataset, **split},
                "model": {"name": "mlp"},
                "epochs": EPOCHS,
            },
            "search_space": dict(table.space),
            "searcher": {"name": "grid", "points": dict(table.points)},
            "objective": "val",
            "checkpoints": {"keep": "none"},
            "plugins": [] if images else [str(home / "drawn.py")],
            "stop": {"trials": 10_000},
        }
        opened = hpogen.open_study(hpogen.StudySpec.from_record(keys), home / name)
        end, trainings = hpogen.run(opened).end, len(opened.history.records)
        opened.close()
        print(f"{name}: {end}, {trainings} trainings", flush=True)
        if end != "finished":
            raise SystemExit(1)


class Table:
    """Recorded losses: by configuration, after each epoch; infinity where a training failed."""

    def __init__(self, name: str, home: Path) -> None:
        from hpogen.record.folder import read_curve
        from hpogen.study.read import read

        self.space = Space.parse(dict(TABLES[name].space))
        study = read(home / name)
        self._curves: dict[str, list[float]] = {}
        self._values: dict[str, set[Any]] = {}
        for record in study.history.records:
            config = dict(record.trial.config)
            rows = read_curve(study.directory, record.trial.id, study.history.id)
            losses = [row["metrics"].get("val_loss", math.inf) for row in rows]
            losses = [loss if math.isfinite(loss) else math.inf for loss in losses]
            self._curves[canonical(config)] = losses + [math.inf] * (EPOCHS - len(losses))
            for key, value in config.items():
                self._values.setdefault(key, set()).add(value)
        self._finals = np.array([curve[-1] for curve in self._curves.values()])

    def loss(self, config: Config, epochs: int) -> float:
        nearest = {key: self._nearest(key, value) for key, value in config.items()}
        return self._curves[canonical(nearest)][epochs - 1]

    def _nearest(self, key: str, value: Any) -> Any:
        parameter = self.space.parameters[key]
        if isinstance(parameter, (Choice, Constant)):
            return value
        (at,) = parameter.encode(value)
        return min(self._values[key], key=lambda v: abs(parameter.encode(v)[0] - at))

    def share_above(self, loss: float) -> float:
        """Share of the configurations that are better than this after all epochs."""
        return float(np.mean(self._finals < loss))


class Engine(Protocol):
    def ask(self) -> tuple[Config, int]: ...

    def tell(self, loss: float) -> None: ...


class Ours:
    """One of hpogen's searchers, by name and options."""

    def __init__(self, space: Space, seed: int, name: str, **options: Any) -> None:
        cls = plugins.searchers.get(name)
        budgets = [EPOCHS // ETA**k for k in reversed(range(RUNGS))]
        self._searcher: Searcher = cls(
            space, budgets if cls.multi_fidelity else (EPOCHS,), seed, **options
        )
        self._trial = -1

    def ask(self) -> tuple[Config, int]:
        proposal = self._searcher.ask()
        assert proposal is not None  # one trial at a time: nothing to wait for
        self._trial += 1
        return proposal.config, proposal.budget

    def tell(self, loss: float) -> None:
        self._searcher.tell(self._trial, loss)


def plain(space: Space, searched: Mapping[str, Any]) -> Config:
    """hpogen's configuration for what ConfigSpace gives: choices are by index there."""
    return space.complete(
        {name: value_of(space.parameters[name], searched[name]) for name in searched}
    )


class Smac:
    """SMAC3's facades (Lindauer et al. 2022) by ask and tell."""

    def __init__(self, space: Space, seed: int, facade: str) -> None:
        import smac

        self._space, self._folder = space, tempfile.TemporaryDirectory()
        keys: dict[str, Any] = {"n_trials": 100_000, "seed": seed, "deterministic": True}
        if facade == "MultiFidelityFacade":
            keys |= {"min_budget": EPOCHS // ETA ** (RUNGS - 1), "max_budget": EPOCHS}
        searched = space.configspace()
        searched.seed(seed)
        scenario = smac.Scenario(searched, output_directory=Path(self._folder.name), **keys)
        cls = getattr(smac, facade)
        more: dict[str, Any] = {}
        if facade == "HyperparameterOptimizationFacade":  # as for the trials that it will have
            more["initial_design"] = cls.get_initial_design(scenario, n_configs=10)
        never = _never_on_a_budget if "min_budget" in keys else _never
        self._facade = cls(scenario, never, logging_level=False, overwrite=True, **more)

    def ask(self) -> tuple[Config, int]:
        self._asked = self._facade.ask()
        budget = self._asked.budget
        return plain(self._space, dict(self._asked.config)), EPOCHS if budget is None else round(
            budget
        )

    def tell(self, loss: float) -> None:
        from smac.runhistory.dataclasses import TrialValue

        self._facade.tell(self._asked, TrialValue(cost=min(loss, 1e3)))


def _never(config: Any, seed: int = 0) -> float:
    raise NotImplementedError("it is asked and told")


def _never_on_a_budget(config: Any, seed: int = 0, budget: float = 0) -> float:
    raise NotImplementedError("it is asked and told")


class Dehb:
    """DEHB (Awad, Mallik and Hutter 2021) by ask and tell."""

    def __init__(self, space: Space, seed: int) -> None:
        from dehb import DEHB

        self._space, self._folder = space, tempfile.TemporaryDirectory()
        searched = space.configspace()
        self._engine = DEHB(
            cs=searched,
            min_fidelity=EPOCHS // ETA ** (RUNGS - 1),
            max_fidelity=EPOCHS,
            eta=ETA,
            n_workers=1,
            seed=seed,
            output_path=self._folder.name,
            log_level="ERROR",
        )

    def ask(self) -> tuple[Config, int]:
        self._asked = self._engine.ask()
        config, budget = self._asked["config"], round(self._asked["fidelity"])
        return plain(self._space, dict(config)), budget

    def tell(self, loss: float) -> None:
        result = {"fitness": min(loss, 1e3), "cost": self._asked["fidelity"]}
        self._engine.tell(self._asked, result)


Make = Callable[[Space, int], Engine]
OURS: Mapping[str, Make] = {
    "random": lambda space, seed: Ours(space, seed, "random"),
    "cmaes": lambda space, seed: Ours(space, seed, "cmaes"),
    "pso": lambda space, seed: Ours(space, seed, "pso"),
    "asha": lambda space, seed: Ours(space, seed, "asha"),
    "asha, TPE": lambda space, seed: Ours(space, seed, "asha", sampler="TPESampler"),
    "bohb": lambda space, seed: Ours(space, seed, "bohb", brackets=1000),
    "hyperband": lambda space, seed: Ours(space, seed, "hyperband", brackets=1000),
    "optuna, TPE": lambda space, seed: Ours(space, seed, "optuna"),
    "optuna, GP": lambda space, seed: Ours(space, seed, "optuna", sampler="GPSampler"),
    "optuna, CMA-ES with margin": lambda space, seed: Ours(
        space, seed, "optuna", sampler="CmaEsSampler", with_margin=True
    ),
}
THEIRS: Mapping[str, tuple[str, Make]] = {
    "SMAC, forest": ("smac", lambda s, seed: Smac(s, seed, "HyperparameterOptimizationFacade")),
    "SMAC, rungs": ("smac", lambda s, seed: Smac(s, seed, "MultiFidelityFacade")),
    "DEHB": ("dehb", Dehb),
}


def run(make: Make, table: Table, seed: int) -> list[float] | None:
    """The figures of one search at each of SPENT. None: the engine does not take the space."""
    try:
        engine = make(table.space, seed)
    except Refusal:
        return None
    spent, least, found = 0, math.inf, []
    while len(found) < len(SPENT):
        config, budget = engine.ask()
        loss = table.loss(config, budget)
        engine.tell(loss)
        spent += budget
        if budget == EPOCHS:
            least = min(least, loss)
        if spent >= SPENT[len(found)] * EPOCHS:
            found.append(table.share_above(least))
    return found


def figures(name: str, make: Make, tables: Sequence[str], seeds: int, home: Path) -> Any:
    """(tables, seeds, SPENT); NaN for a table that the engine does not take. Kept in a file."""
    path = home / "figures" / f"{name.replace(', ', '-').replace(' ', '-')}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for table in tables:
        rows = known.setdefault(table, [])
        read = Table(table, home) if len(rows) < seeds else None
        while read is not None and len(rows) < seeds:
            rows.append(run(make, read, 1000 + len(rows)) or [math.nan] * len(SPENT))
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(known))
    return np.array([known[table][:seeds] for table in tables])


def interval(differences: Any) -> str:
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    middle = float(np.mean(differences))
    return f"{100 * middle:+.2f} [{100 * (middle - half):+.2f}, {100 * (middle + half):+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["record", "run"])
    parser.add_argument("--runs", type=Path, default=Path("runs/engines"))
    parser.add_argument("--engines", nargs="+", choices=[*OURS, *THEIRS], default=[*OURS, *THEIRS])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES])
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args()
    if given.what == "record":
        record(given.runs)
        return
    warnings.simplefilter("ignore")  # of the engines' own old calls
    found = {}
    for name in given.engines:
        package, make = THEIRS[name] if name in THEIRS else ("hpogen", OURS[name])
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed: left out")
            continue
        found[name] = figures(name, make, given.tables, given.seeds, given.runs)  # (T, S, 2)
        shown = " ".join(f"{100 * row.mean():6.2f}" for row in found[name].reshape(-1, 2).T)
        print(f"{name:<28}{package} {version(package)}: {shown} % better", flush=True)
    whole = {name: f.mean(0) for name, f in found.items() if not np.isnan(f).any()}  # (S, 2)
    ours = {name: f for name, f in whole.items() if name in OURS}
    for name, theirs in whole.items() if ours else ():
        for k, spent in enumerate(SPENT):
            least = min(ours, key=lambda each: float(ours[each][:, k].mean()))
            difference = interval(theirs[:, k] - ours[least][:, k])
            print(f"{name:<28}after {spent:>3}: minus {least}: {difference} points")


if __name__ == "__main__":
    main()
