"""What a study trains: the protocol of a task, and the task made of a user's `@task` function.

A task is the validated `task:` mapping of the YAML. It travels to the workers, so it is frozen,
picklable and light: neither making nor checking one imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from annotated_types import Ge, Le

from hpogen import plugins
from hpogen.errors import why
from hpogen.trial import RunningTrial

Threads = Annotated[int, Ge(1), Le(1024)]


@dataclass(frozen=True)
class Epoch:
    """What a task knows after an epoch. The last one, of whichever attempt, is the outcome.

    `metrics` are finite numbers (a NaN or infinity makes the trial `diverged`); `files`
    belong to the last epoch only, and so does `audit` unless the task asks for it after each.
    `epoch` counts from 1.
    """

    epoch: int
    metrics: Mapping[str, float]
    audit: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)  # `peak` and `total`, in bytes


class Diverged(Exception):
    """Raised where a loss, a weight or a metric has no finite value: the trial ends at once."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, has no memory left."""
    words = ("out of memory", "can't allocate memory")  # torch's, on GPU and CPU
    return isinstance(error, MemoryError) or any(text in why(error) for text in words)


class Task(Protocol):
    """The `task:` mapping, checked. `name`, `epochs` and `threads` are keys of every task."""

    @property
    def name(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def resumable(self) -> bool: ...

    def metrics(self) -> frozenset[str]:
        """Every metric that an objective may name; sums included."""
        ...

    def sums(self) -> frozenset[str]:
        """Those metrics that are sums over epochs (`agn`)."""
        ...

    def gives(self, wanted: frozenset[str]) -> frozenset[str]:
        """The metrics that a finished trial has when these are wanted."""
        ...

    def parameters(self) -> frozenset[str] | None:
        """The hyper-parameters it consumes; None: not checked."""
        ...

    def required(self) -> frozenset[str]:
        """The hyper-parameters without which it cannot train."""
        ...

    def prepare(self) -> None:
        """Get everything that training needs (the data set on disk), in the driver, once.

        Raises UserError when that cannot be had. Cheap when called again.
        """
        ...

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        """Train, yielding an `Epoch` after each, and None now and then to say "still alive".

        Closing the iterator is a clean stop: a resumable task keeps a checkpoint. `wanted` are
        the metrics that each epoch must have. Raises Diverged, or anything for an error.
        """
        ...

    def discard(self, trial: RunningTrial) -> None:
        """Delete what `train` kept in `trial.directory` for going on; called once told."""
        ...

    def record(self) -> dict[str, Any]:
        """The mapping with its defaults filled in, as it stands in the ledger's header."""
        ...


@dataclass(frozen=True)
class FunctionTask:
    """A user's `@task` function with the options of the YAML; it is looked up by name."""

    name: str
    epochs: int
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def resumable(self) -> bool:
        return self._entry.resumable

    @property
    def _entry(self) -> plugins.TaskFunction:
        entry: plugins.TaskFunction = plugins.tasks.get(self.name)
        return entry

    def metrics(self) -> frozenset[str]:
        return self._entry.metrics

    def sums(self) -> frozenset[str]:
        return self._entry.sums

    def gives(self, wanted: frozenset[str]) -> frozenset[str]:
        return self.metrics()  # the function is not told what is wanted

    def parameters(self) -> None:
        return None

    def required(self) -> frozenset[str]:
        return frozenset()

    def prepare(self) -> None:
        """Nothing: the function gets what it needs itself."""

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

    def discard(self, trial: RunningTrial) -> None:
        """Nothing: the trial's folder is the user's."""

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
