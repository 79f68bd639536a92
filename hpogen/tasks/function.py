"""The task made of a user's `@task` function, which is found among the study's own plug-ins.

`spec/parts.py` makes it, in the scope of those; it travels to the workers, where they are, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpogen import plugins
from hpogen.plugins.registry import imported
from hpogen.tasks.base import Epoch, Opaque
from hpogen.tasks.own import OwnTrial, Split, figures, yielded
from hpogen.trial import RunningTrial


@dataclass(frozen=True)
class FunctionTask(Opaque):
    """The function's name, and the options of the YAML."""

    name: str
    epochs: int
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    gpus_per_trial: int = 1
    _scope: plugins.Scope = field(default_factory=plugins.in_scope, repr=False)
    split: Split = "search"

    @property
    def resumable(self) -> bool:
        return self._entry.resumable

    @property
    def subset(self) -> float | None:  # type: ignore[override]
        return 1.0 if self._entry.data else None

    @property
    def judged_by(self) -> str | None:  # type: ignore[override]
        return next(iter(self._entry.audit), None)

    @property
    def retrains(self) -> bool:  # type: ignore[override]
        return self._entry.split

    @property
    @plugins.scoped
    def _entry(self) -> plugins.TaskFunction:
        entry: plugins.TaskFunction = plugins.tasks.get(self.name)
        return entry

    def metrics(self) -> frozenset[str]:
        return self._entry.metrics

    def sums(self) -> frozenset[str]:
        return self._entry.sums

    def observed(self) -> frozenset[str]:
        return self._entry.observed

    def parameters(self) -> None:
        return None

    def required(self) -> frozenset[str]:
        return frozenset()

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        entry = self._entry
        own = OwnTrial(**vars(trial), split=self.split)
        epoch: int | None = None
        audit: Mapping[str, float] = {}
        for given in yielded(entry, entry.function(own, **self.options), own.budget):
            epoch = (own.start_epoch if epoch is None else epoch) + 1
            metrics, audit = found = figures(entry, given)
            with own.kept(epoch, found):
                yield Epoch(epoch, metrics, audit)
        if epoch is None and own.start_epoch == own.budget:
            if own.reached is not None:  # all was trained, and perhaps nobody was told
                yield Epoch(own.budget, *own.reached)
            return
        if epoch != own.budget:
            number = f"{epoch or 0} epochs, the trial's budget is {own.budget}"
            raise ValueError(f"task {self.name!r} yielded {number}")
        if missing := [name for name in entry.audit if name not in audit]:
            raise ValueError(
                f"task {self.name!r} did not give the audit figure {missing[0]!r} with its last "
                "epoch: yield metrics, audit"
            )

    def discard(self, trial: RunningTrial) -> None:
        if next(trial.home.glob("checkpoint-*"), None) is not None:
            imported("hpogen.training.checkpoint:discard")(trial)

    def record(self) -> dict[str, Any]:
        gpus = {"gpus_per_trial": self.gpus_per_trial} if self.gpus_per_trial > 1 else {}
        split = {"split": self.split} if self._entry.split else {}
        keys = {"name": self.name, "epochs": self.epochs, "threads": self.threads}
        return {**keys, **gpus, **split, **self.options}
