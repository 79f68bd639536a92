"""The task made of a user's `@task` function, which is found among the study's own plug-ins.

`spec/parts.py` makes it, in the scope of those; it travels to the workers, where they are, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpogen import plugins
from hpogen.tasks.base import Epoch, Opaque
from hpogen.trial import RunningTrial


@dataclass(frozen=True)
class FunctionTask(Opaque):
    """The function's name, and the options of the YAML."""

    name: str
    epochs: int
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    _scope: plugins.Scope = field(default_factory=plugins.in_scope, repr=False)

    @property
    def resumable(self) -> bool:
        return self._entry.resumable

    @property
    def subset(self) -> float | None:  # type: ignore[override]
        return 1.0 if self._entry.data else None

    @property
    @plugins.scoped
    def _entry(self) -> plugins.TaskFunction:
        entry: plugins.TaskFunction = plugins.tasks.get(self.name)
        return entry

    def metrics(self) -> frozenset[str]:
        return self._entry.metrics

    def sums(self) -> frozenset[str]:
        return self._entry.sums

    def parameters(self) -> None:
        return None

    def required(self) -> frozenset[str]:
        return frozenset()

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        entry = self._entry
        epoch = trial.start_epoch
        for metrics in entry.function(trial, **self.options):
            epoch += 1
            yield Epoch(epoch, _declared(entry, metrics))
        if epoch != trial.budget:
            raise ValueError(
                f"task {self.name!r} yielded {epoch} epochs, the trial's budget is {trial.budget}"
            )

    def record(self) -> dict[str, Any]:
        return {"name": self.name, "epochs": self.epochs, "threads": self.threads, **self.options}


def _declared(entry: plugins.TaskFunction, metrics: object) -> dict[str, float]:
    """What the function yielded, as plain floats. Raises for anything not declared."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"task {entry.name!r} yielded {metrics!r}, expected a mapping of metrics")
    undeclared = sorted(set(metrics) - entry.metrics)
    if undeclared:
        raise ValueError(
            f"task {entry.name!r} yielded the metric {undeclared[0]!r}, which it does not declare: "
            f"add it to metrics=({', '.join(sorted(entry.metrics))})"
        )
    return {name: float(value) for name, value in metrics.items()}
