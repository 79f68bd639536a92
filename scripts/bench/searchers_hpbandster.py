"""HpBandSter's own BOHB, with its master, worker and name server on loopback, beside ours.

.venv/bin/python scripts/bench/searchers_hpbandster.py [--brackets 12] [--seed 0]

Records in which order its master asks and tells on a toy, does the same with our searcher, and
compares every budget, rung and configuration. Exits with 1 when they differ.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np

from hpogen.searchers.bohb import BohbSearcher
from hpogen.space import Space

warnings.simplefilter("ignore")  # of HpBandSter's own old calls

from hpbandster.core.nameserver import NameServer  # noqa: E402
from hpbandster.core.worker import Worker  # noqa: E402
from hpbandster.optimizers import BOHB  # noqa: E402

SPACE = Space.parse({name: {"float": [0, 1]} for name in "abcd"})
BUDGETS = (40, 80, 160)
Event = tuple[str, tuple[int, int, int], Any]


class Toy(Worker):
    def compute(self, config_id: Any, config: Any, budget: float, **_: Any) -> dict[str, Any]:
        return {"loss": sum((x - 0.3) ** 2 for x in config.values()) + 1 / budget, "info": {}}


class Recorder(BOHB):
    """The package's optimizer, which writes down what it asks and is told, in order."""

    events: list[Event]

    def _submit_job(self, config_id: Any, config: Any, budget: float) -> None:
        self.events.append(("ask", config_id, (dict(config), round(budget))))
        super()._submit_job(config_id, config, float(budget))  # numpy 2's own do not travel

    def job_callback(self, job: Any) -> None:
        with self.thread_cond:
            self.events.append(("tell", job.id, job.result["loss"]))
            super().job_callback(job)


def hpbandster_events(brackets: int, seed: int) -> list[Event]:
    server = NameServer(run_id="bench", host="127.0.0.1", port=None)
    host, port = server.start()
    worker = Toy(nameserver=host, nameserver_port=port, host=host, run_id="bench")
    worker.run(background=True)
    configspace = SPACE.configspace()
    configspace.seed(seed)
    master = Recorder(
        configspace=configspace,
        run_id="bench",
        nameserver=host,
        nameserver_port=port,
        host=host,
        eta=2,
        min_budget=BUDGETS[0],
        max_budget=BUDGETS[-1],
    )
    master.events = []
    np.random.seed(seed)
    master.run(n_iterations=brackets)
    master.shutdown(shutdown_workers=True)
    server.shutdown()
    return master.events


def differences(events: list[Event], brackets: int, seed: int) -> tuple[int, float]:
    """Asks that differ in budget, bracket or rung, and the largest difference of a value."""
    searcher = BohbSearcher(SPACE, BUDGETS, seed, brackets=brackets)
    trials: dict[tuple[int, int, int], int] = {}
    asked, wrong, largest = 0, 0, 0.0
    for kind, identity, what in events:
        if kind == "tell":
            searcher.tell(trials[identity], what)
            continue
        config, budget = what
        cohort = identity[0] * len(BUDGETS) + BUDGETS.index(budget)
        proposal = searcher.ask()
        if proposal is None or (proposal.budget, proposal.cohort) != (budget, cohort):
            wrong += 1
        else:
            largest = max(largest, *(abs(proposal.config[n] - x) for n, x in config.items()))
        trials[identity] = asked
        asked += 1
    return wrong + (searcher.ask() is not None), largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brackets", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    packages = ", ".join(f"{name} {version(name)}" for name in ("hpbandster", "ConfigSpace"))
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores")
    events = hpbandster_events(arguments.brackets, arguments.seed)
    budgets = [what[1] for kind, _, what in events if kind == "ask"]
    configurations = len({identity for _, identity, _ in events})
    wrong, largest = differences(events, arguments.brackets, arguments.seed)
    print(
        f"HpBandSter's run: {arguments.brackets} brackets, {configurations} configurations, "
        f"{len(budgets)} evaluations, {sum(budgets)} epochs"
    )
    print(f"ours: {wrong} asks of another bracket or budget; largest difference {largest:.1e}")
    if wrong or largest > 1e-9:
        sys.exit(1)


if __name__ == "__main__":
    main()
