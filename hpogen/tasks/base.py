"""What a study trains: the protocol of a task, and what tasks have in common.

A task is the validated `task:` mapping of the YAML. It travels to the workers, so it is frozen,
picklable and light: neither making nor checking one imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from annotated_types import Ge, Le

from hpogen import plugins
from hpogen.errors import Refusal, why
from hpogen.tasks.keys import Meaning
from hpogen.trial import ONE, Parts, RunningTrial, Value

Threads = Annotated[int, Ge(1), Le(1024), Meaning.SPEED]
Gpus = Annotated[int, Ge(1), Le(1024)]


@dataclass(frozen=True)
class Epoch:
    """What a task knows after an epoch. The last one, of whichever attempt, is the outcome.

    `metrics` are finite numbers (a NaN or infinity makes the trial `diverged`); `files`
    belong to the last epoch only, and so does `audit` unless the task asks for it after each.
    `epoch` counts from 1. A `final` one ends the trial before its budget, and is charged as such.
    """

    epoch: int
    metrics: Mapping[str, float]
    audit: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)  # `peak` and `total`, in bytes
    final: bool = False


class Diverged(Exception):
    """Raised where a loss, a weight or a metric has no finite value: the trial ends at once."""


def check_patience(patience: int | None, wanted: frozenset[str], sums: frozenset[str]) -> None:
    """Raise Refusal for metrics that do not compare trials of different numbers of epochs."""
    if patience and (summed := sorted(wanted & sums)):
        raise Refusal(
            f"{summed[0]!r} is a sum over the epochs, of which task.patience gives each trial "
            f"another number: name a metric of one epoch, or their mean, such as agn_mean"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, has no memory left."""
    words = ("out of memory", "can't allocate memory")  # torch's, on GPU and CPU
    return isinstance(error, MemoryError) or any(text in why(error) for text in words)


class Cargo(Protocol):
    """What the trials of a task read: the driver loads it, once, and gives it to each worker.

    `give` is called in the worker's process with what `load` has given. The cargo itself is light;
    two of the same text load the same.
    """

    def load(self) -> Any: ...

    def give(self, loaded: Any) -> None: ...


class Task(Protocol):
    """The `task:` mapping, checked. `name`, `epochs` and `threads` are keys of every task."""

    @property
    def name(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def together(self) -> int:
        """So many trials run in one process on a CPU, each a turn after the other."""
        ...

    @property
    def resumable(self) -> bool: ...

    @property
    def subset(self) -> float | None:
        """The fraction of its training set that a trial trains on where `trial.data` is None.

        None for a task that does not heed `trial.data`.
        """
        ...

    @property
    def parts(self) -> Parts:
        """The trainings that a trial is; `trial.part` says which one `train` is asked for."""
        ...

    @property
    def judged_by(self) -> str | None:
        """The metric of the audit that its error is made of; None: the first usual one there is."""
        ...

    @property
    def retrains(self) -> bool: ...  # on all of its data, judged by a test set, if it is asked to

    @property
    def keeps_losses(self) -> bool: ...  # of each validation sample, beside a trial's curve

    @property
    def keeps_weights(self) -> bool: ...  # if it is asked to, for `measure`

    @property
    def keeps_at_urls(self) -> bool: ...  # its checkpoints; else in a folder only

    @property
    def one_gpu(self) -> bool: ...  # at most, a trial trains on

    @property
    def gpus_per_trial(self) -> int:
        """The GPUs, all of one machine, that a trial needs where it does not train on the CPU.

        1 for a task that is content with one, or a share of one.
        """
        ...

    @property
    def cargo(self) -> Cargo | None: ...

    def metrics(self) -> frozenset[str]:
        """Every metric that an objective may name; sums included."""
        ...

    def sums(self) -> frozenset[str]:
        """Those metrics that are sums over epochs (`agn`)."""
        ...

    def step_sums(self) -> frozenset[str]:
        """Those sums whose terms are training steps: there are more of them on more data."""
        ...

    def by_samples(self) -> frozenset[str]:
        """The metrics that come out higher or lower for more samples of the same kind."""
        ...

    def observed(self) -> frozenset[str]:
        """The metrics of which another run of the same trial gives other numbers: seconds, say."""
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

    def check(self, wanted: frozenset[str]) -> None:
        """Raise Refusal where the trials cannot have these metrics, which the task does name."""
        ...

    def check_value(self, name: str, value: Value) -> None:
        """Raise ValueError for a value that the hyper-parameter cannot have."""
        ...

    def check_range(
        self, name: str, values: Collection[Value], samples: int | None = None
    ) -> str | None:
        """A warning about the ends of a range, or the choices, of a hyper-parameter; else None.

        `samples` is what `prepare` gave. Raises ValueError when none of the values makes sense.
        """
        ...

    def weights_bytes(self, values: Mapping[str, Sequence[Value]]) -> int | None:
        """About how large the weights of the largest network are; None: not known beforehand.

        `values` are, of each hyper-parameter, the ends of its range, or its choices.
        """
        ...

    def probabilities_bytes(self) -> int | None:
        """What a trial's kept probabilities of samples take; None: not known beforehand."""
        ...

    def check_data(self, data: float) -> int | None:
        """How many samples a trial on that fraction trains on; None: not known beforehand.

        Raises ValueError where there are too few of them, or not as many.
        """
        ...

    def files(self) -> Mapping[str, Path]:
        """Files beside its data that decide the trials' numbers, by the key that names each."""
        ...

    def missing(self) -> str | None:
        """What is not on disk and would be got first, by a glance; None: nothing, or not known."""
        ...

    def facts(self) -> list[str]:
        """What its data are, a line each, where they are on disk and quickly read; else nothing.

        Raises UserError for what is wrong in them.
        """
        ...

    def prepare(self, data: float | None = None) -> int | None:
        """Get everything that training needs (the data set on disk), in the driver, once.

        How many samples a trial trains on, on that fraction, where that is known. Raises UserError
        when something cannot be had. Cheap when called again.
        """
        ...

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        """Train, yielding an `Epoch` after each, and None now and then to say "still alive".

        Closing the iterator is a clean stop: a resumable task keeps a checkpoint. `wanted` are
        the metrics that each epoch must have. Raises Diverged, or anything for an error.
        """
        ...

    def measure(
        self, trial: RunningTrial, wanted: frozenset[str], names: Collection[str]
    ) -> plugins.Measured | None:
        """The measures of those names, of the weights that `train` kept; None where it did not.

        Asked only where the task `keeps_weights`. Raises Refusal for a measure that weights alone
        do not tell, or that is not defined, Diverged for a number that is not finite.
        """
        ...

    def discard(self, trial: RunningTrial) -> None:
        """Delete what `train` kept in `trial.directory` for going on; called once told."""
        ...

    def record(self) -> dict[str, Any]:
        """The mapping with its defaults filled in, as it stands in the ledger's header."""
        ...


SEVERAL_GPUS = "trains on one GPU at most; several GPUs train several trials: --workers"
"""What is said of a task that is `one_gpu`."""


def trials_together(tasks: Iterable[Task]) -> int:
    """How many trials run in one process where there are trials of all these tasks."""
    return min((task.together for task in tasks), default=1)


class Opaque:
    """What a task says whose training hpogen cannot look into: it gives what it declares.

    Such a task checks no value, keeps nothing that hpogen reads, and gets what it needs itself.
    """

    subset: ClassVar[float | None] = None
    parts: ClassVar[Parts] = ONE
    judged_by: ClassVar[str | None] = None
    retrains: ClassVar[bool] = False
    keeps_losses: ClassVar[bool] = False
    keeps_weights: ClassVar[bool] = False
    keeps_at_urls: ClassVar[bool] = False
    one_gpu: ClassVar[bool] = False
    together: ClassVar[int] = 1
    cargo: ClassVar[None] = None

    def step_sums(self) -> frozenset[str]:
        return frozenset()

    def by_samples(self) -> frozenset[str]:
        return frozenset()

    def observed(self) -> frozenset[str]:
        return frozenset()

    def gives(self: Task, wanted: frozenset[str]) -> frozenset[str]:
        return self.metrics()

    def check(self, wanted: frozenset[str]) -> None: ...

    def check_value(self, name: str, value: Value) -> None: ...

    def check_range(
        self, name: str, values: Collection[Value], samples: int | None = None
    ) -> None: ...

    def weights_bytes(self, values: Mapping[str, Sequence[Value]]) -> None: ...

    def probabilities_bytes(self) -> int:
        return 0

    def check_data(self, data: float) -> None: ...

    def files(self) -> Mapping[str, Path]:
        return {}

    def missing(self) -> None: ...

    def facts(self) -> list[str]:
        return []

    def prepare(self, data: float | None = None) -> None: ...

    def measure(
        self, trial: RunningTrial, wanted: frozenset[str], names: Collection[str]
    ) -> None: ...

    def discard(self, trial: RunningTrial) -> None: ...
