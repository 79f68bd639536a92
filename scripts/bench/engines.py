"""Searchers that we have, and engines that we have not, on recorded trainings of our own.

    pip install smac==2.4.1 dehb==0.1.2  # in another environment they are left out, and it says so
    .venv/bin/python scripts/bench/engines.py record [--runs FOLDER]  # once: some 2,000 trainings
    .venv/bin/python scripts/bench/engines.py run [--engines …] [--tables …] [--seeds 30]

A table is a complete grid of trainings of digits or of a table drawn at random, with the validation
loss after each epoch, by hpogen's own `grid`. An engine proposes as ever; the logarithm of its loss
is linear between the recorded ones. `numbers`: four numbers. `mixed`: an optimizer, two
whole numbers and two more. `conditional`: what belongs to an optimizer, or to a second layer, is
there with it alone. `drawn`: `numbers` on the other data.

Stated before the first run. The figure is the share of the table's configurations that are better
than the incumbent, after as many epochs as 50 and 150 full trainings have; the incumbent is the
full training with the least loss. One trial at a time, no failures, the
same seeds for all. An engine that is not ours becomes a searcher where, after 50 or after 150, the
95 % interval (Student, over seeds, of the mean over tables) of its figure minus that of each of
ours is below zero: better than all of ours by more than the noise.

What `searcher` is where it is left out: of ours, the one with the least figure at 50 and 150,
summed, among those that take every space; of those without rungs, and for studies with `budgets` of
those with rungs. Where another one is better than it by more than the noise, over the two tables of
numbers or over the two others, it is the one for such spaces: after 50 for studies of at most 100
full trainings, after 150 for longer ones. `stopped` is `prune: median` and shown beside them.

Changed after the first figures, before any of these: the outcome had been that of the nearest
recorded configuration. There an engine that has come near a good one learns nothing more: of 150
trials TPE trained 31 to 48 that differ (three seeds each of `numbers` and `mixed`), CMA-ES 52 to
95, random search 120 to 137, which is the table and not the engine. All were run again.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from engines_recorded import EPOCHS, TABLES, Table, record
from scipy import stats

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.searchers.base import Searcher
from hpogen.searchers.pruners import Pruner
from hpogen.space import Space
from hpogen.space.parameters import value_of
from hpogen.trial import Config

ETA, RUNGS = 3, 3  # budgets of 1, 3 and 9 epochs
SPENT = (50, 150)  # full trainings


class Engine(Protocol):
    def ask(self) -> tuple[Config, int]: ...

    def tell(self, losses: Sequence[float]) -> int:
        """Take the loss after each epoch of what was asked; how many of these it trained."""
        ...


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

    def tell(self, losses: Sequence[float]) -> int:
        self._searcher.tell(self._trial, losses[-1])
        return len(losses)


class Stopped(Ours):
    """The same with hpogen's `prune: median`, which looks from a third of the epochs on."""

    def __init__(self, space: Space, seed: int, name: str, **options: Any) -> None:
        super().__init__(space, seed, name, **options)
        self._pruner = Pruner("median", EPOCHS // 3, {})

    def tell(self, losses: Sequence[float]) -> int:
        fails = math.isinf(losses[-1])
        for epoch, loss in enumerate(losses[:-1], 1):
            if not fails and self._pruner.report(self._trial, {epoch: loss}):
                self._pruner.end(self._trial, None)
                self._searcher.tell_pruned(self._trial, loss, epoch)  # type: ignore[attr-defined]
                return epoch
        self._pruner.end(self._trial, None if fails else losses[-1])
        return super().tell(losses)


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
        self._facade = cls(scenario, logging_level=False, overwrite=True, **more)

    def ask(self) -> tuple[Config, int]:
        self._asked = self._facade.ask()
        budget = self._asked.budget
        return plain(self._space, dict(self._asked.config)), EPOCHS if budget is None else round(
            budget
        )

    def tell(self, losses: Sequence[float]) -> int:
        from smac.runhistory.dataclasses import TrialValue

        self._facade.tell(self._asked, TrialValue(cost=min(losses[-1], 1e3)))
        return len(losses)


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

    def tell(self, losses: Sequence[float]) -> int:
        result = {"fitness": min(losses[-1], 1e3), "cost": self._asked["fidelity"]}
        self._engine.tell(self._asked, result)
        return len(losses)


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
    "optuna, TPE, stopped": lambda space, seed: Stopped(space, seed, "optuna"),
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
WITH_RUNGS = ("asha", "asha, TPE", "bohb", "hyperband")
SHOWN = ("optuna, TPE, stopped",)  # no searcher of its own
KINDS = (("numbers", "drawn"), ("mixed", "conditional"))


def run(make: Make, table: Table, seed: int) -> list[float] | None:
    """The figures of one search at each of SPENT. None: the engine does not take the space."""
    try:
        engine = make(table.space, seed)
    except Refusal:
        return None
    spent, least, found = 0, math.inf, []
    while len(found) < len(SPENT):
        config, budget = engine.ask()
        losses = table.losses(config, budget)
        trained = engine.tell(losses)
        spent += trained
        if trained == EPOCHS:
            least = min(least, losses[-1])
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
            path.with_suffix(".new").write_text(json.dumps(known))
            path.with_suffix(".new").replace(path)
    return np.array([known[table][:seeds] for table in tables])


def bounds(differences: Any) -> tuple[float, float, float]:
    """The mean, and its 95 % interval."""
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    middle = float(np.mean(differences))
    return middle, middle - half, middle + half


def interval(differences: Any) -> str:
    middle, low, high = (100 * value for value in bounds(differences))
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}] points"


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
    if given.tables == [*TABLES]:
        conclude(found)


def conclude(found: Mapping[str, Any]) -> None:
    """What the rules above say of all tables, (4, seeds, SPENT) by engine."""
    whole = {name: f.mean(0) for name, f in found.items() if not np.isnan(f).any()}  # (S, 2)
    ours = {name: f for name, f in whole.items() if name in OURS}
    theirs = [name for name in whole if name not in ours]
    for name, (k, spent) in itertools.product(theirs, enumerate(SPENT)):
        minus = {each: whole[name][:, k] - f[:, k] for each, f in ours.items()}
        nearest = max(minus, key=lambda each: bounds(minus[each])[2], default="")
        if nearest:  # better than it by more than the noise: better than each
            print(f"{name:<28}after {spent:>3}: minus {nearest}: {interval(minus[nearest])}")
    for title, rungs in (("without rungs", False), ("with rungs", True)):
        own = [name for name in OURS if name in found and (name in WITH_RUNGS) == rungs]
        takes_all = [name for name in own if name in whole and name not in SHOWN]
        if not takes_all:
            continue
        default = min(takes_all, key=lambda name: float(whole[name].mean()))
        print(f"the searcher {title}: {default}")
        for tables, (k, spent) in itertools.product(KINDS, enumerate(SPENT)):
            rows = [[*TABLES].index(table) for table in tables]
            means = {name: found[name][rows].mean(0)[:, k] for name in own if name not in SHOWN}
            best = min(means, key=lambda name: float(np.nan_to_num(means[name], nan=1).mean()))
            difference = interval(means[best] - means[default])
            print(f"  {' and '.join(tables)}, after {spent:>3}: {best}, minus it {difference}")


if __name__ == "__main__":
    main()
