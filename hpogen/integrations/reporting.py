"""What the callbacks of other libraries' trainers share: what an epoch reports, and its turn.

`lightning.py`, `transformers.py` and `keras.py` say how those trainers are asked; this file knows
none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hpogen.errors import UserError, quoted
from hpogen.integrations.turns import turns
from hpogen.measures.batches import Forward, pairs
from hpogen.measures.meter import Meter, chosen
from hpogen.measures.passes import PredictionCollector, forward_pass
from hpogen.trial import RunningTrial, derive_seed

KEPT = 3  # checkpoints of a trial: its newest
Report = dict[str, float] | tuple[dict[str, float], dict[str, float]]
"""What a task of one's own yields: metrics, or metrics and audit."""
Audit = Iterable[Any] | Callable[[nn.Module], Mapping[str, float]]


class Epochs:
    """The epochs of one trial in somebody else's trainer.

    `who` is what errors begin with; the others are those of the callbacks.
    """

    def __init__(
        self,
        who: str,
        trial: RunningTrial | None,
        metrics: Sequence[str],
        measures: Sequence[str],
        audit: Audit | None,
        data: Iterable[Any] | None,
        forward: Forward | None,
    ) -> None:
        expected = ("budget", "directory", "seed", "start_epoch")
        if not all(hasattr(trial, name) for name in expected):
            raise UserError(
                f"{who}: got {quoted(trial)} as its trial, expected the one that hpogen gives to "
                "a @task function: Report(trial)"
            )
        assert trial is not None
        self.trial = trial
        self.sums: dict[str, float] = {}
        self._who, self._metrics, self._audit = who, tuple(metrics), audit
        self._measures = chosen(who, measures) if measures else []
        self._data, self._forward = data, forward
        self._give: Callable[[Any], bool] | None = None
        self.start = trial.start_epoch  # epochs that were taken before
        if self.start >= trial.budget and hasattr(trial, "begin_at"):  # all, but not that it ended
            self.start = trial.budget - 1
            trial.begin_at(self.start)
        self._done = self.start
        self._meters: dict[str, Meter] = {}
        seed(trial.seed)

    def run(
        self,
        model: nn.Module,
        training: Callable[[], object],
        watch: Callable[[nn.Module], RemovableHandle] | None = None,
    ) -> Iterator[Report]:
        """What the epochs report, while `training` runs. Raises UserError where that ends early.

        `watch` has `step` called where a measure asks for it.
        """
        kinds = {
            "step": [m.name for m in self._measures if m.of == "step"],
            "each": [m.name for m in self._measures if m.of != "step" and not m.final],
            "last": [m.name for m in self._measures if m.final],
        }
        self._meters = {
            kind: Meter(names, model, forward=self._forward)
            for kind, names in kinds.items()
            if names
        }

        hooks = [watch(model)] if watch and "step" in self._meters else []

        def call(give: Callable[[Any], bool]) -> None:
            self._give = give
            training()

        try:
            yield from turns(call)
        finally:
            self._give = None
            for hook in hooks:
                hook.remove()
            for meter in self._meters.values():
                meter.close()
        if self._done < self.trial.budget:
            raise UserError(
                f"{self._who}: the trainer ended after {self._done} of {self.trial.budget} epochs: "
                "leave early stopping and the number of steps to the study (prune, task.epochs)"
            )

    def check(self, call: str, processes: int) -> None:
        """Raise UserError where nobody takes the epochs, or several processes train."""
        if self._give is None:
            raise UserError(
                f"{self._who}: the trainer was started by itself, expected `yield from {call}` in "
                "the @task function"
            )
        if processes != 1:
            raise UserError(
                f"{self._who}: got a trainer of {processes} devices, expected 1: a study gives "
                "each trial a device of its own"
            )

    def begin_step(self) -> None:
        """A training forward begins."""
        if "step" in self._meters:
            self._meters["step"].begin()

    def step(self, batch: Any) -> None:
        """One has run, on that batch."""
        if "step" in self._meters:
            self._meters["step"].update(batch)

    def measured(
        self,
        epoch: int,
        logged: Mapping[str, Any],
        model: nn.Module,
        batches: Callable[[], Any],
    ) -> Report:
        """What the epoch reports: `logged` is what the trainer knows of it, `batches` its data.

        The sums over the epochs are then those up to this one. Raises UserError for a metric that
        was not logged.
        """
        found = {name: self._logged(name, logged, epoch) for name in self._metrics}
        last = epoch == self.trial.budget
        for kind, meter in self._meters.items():
            if kind == "last" and not last:
                continue
            if kind != "step":
                meter.over(batches() if self._data is None else self._data)
            found |= meter.compute()
            meter.reset()
        for measure in self._measures:
            for name in (measure.sums | measure.means) & found.keys():
                self.sums[name] = self.sums.get(name, 0.0) + found[name]
                found[name] = self.sums[name] / (epoch if name in measure.means else 1)
        if self._audit is None or not last:
            return found
        return found, audited(self._audit, model, self._forward)

    def take(self, epoch: int, report: Report) -> bool:
        """Hand the epoch over and wait for the next to be asked for; False: stop training."""
        assert self._give is not None
        if epoch <= self.start:
            return True  # taken before: an older checkpoint was gone on from
        self._done = epoch
        return self._give(report)

    def _logged(self, name: str, logged: Mapping[str, Any], epoch: int) -> float:
        if name not in logged:
            raise UserError(
                f"{self._who}: metrics: the trainer logged no {name!r} in epoch {epoch}, but "
                f"{', '.join(sorted(logged)) or 'nothing'}: log it, or name another in metrics="
            )
        return number(logged[name])


def audited(audit: Audit, model: nn.Module, forward: Forward | None) -> dict[str, float]:
    """The error of the classes over the batches, or what one's own function of the model gives."""
    if callable(audit):
        return {name: number(value) for name, value in audit(model).items()}
    collector = PredictionCollector()
    for _ in forward_pass(model, pairs(audit, named=True), collector, forward=forward):
        pass
    return {"error": 1 - collector.result().accuracy}


def number(value: Any) -> float:
    """A number, be it NumPy's or a tensor of one element."""
    return float(value.item() if hasattr(value, "item") else value)


def seed(*parts: int) -> None:
    """Seed Python's, NumPy's and torch's generators: a trial begins, or an epoch of it."""
    number = derive_seed(*parts)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


@dataclass(frozen=True)
class EpochFiles:
    """The checkpoints of a trial: a file per epoch, `epoch-3.ckpt`.

    `let_go` is called with the epoch of a file that is about to be deleted.
    """

    folder: Path
    suffix: str
    let_go: Callable[[int], None] = lambda epoch: None

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}{self.suffix}"

    def newest(self, start: int) -> int:
        """The epoch to go on from: 0 where none is kept at or before `start`."""
        return max((epoch for epoch in self._kept() if epoch <= start), default=0)

    def drop(self, last: int) -> None:
        """Delete those up to that epoch's."""
        for epoch in self._kept():
            if epoch <= last:
                self.let_go(epoch)
                self.path(epoch).unlink()

    def _kept(self) -> list[int]:
        names = [path.name for path in self.folder.glob(f"epoch-*{self.suffix}")]
        return [int(name.removesuffix(self.suffix).removeprefix("epoch-")) for name in names]
