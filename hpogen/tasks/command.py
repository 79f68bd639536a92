"""The task that is a command line: a script in any language, one JSON object per epoch.

task: {name: command, command: "python train.py --lr {lr}", metrics: [val_loss], epochs: 20}

Where else its metrics may be, the key `read` says: see `command_output.py`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from subprocess import PIPE, Popen
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hpogen.tasks import guard
from hpogen.tasks.base import Epoch, Gpus, Opaque, Threads
from hpogen.tasks.command_output import (
    DIRECTORY,
    LAST_LINES,
    Read,
    Reader,
    placeholders,
    reader_for,
)
from hpogen.tasks.own import Figures, Split
from hpogen.trial import RunningTrial

PLACES = frozenset({"seed", "budget", "data", "directory", "start_epoch", "split", "gpus", "nproc"})
SEARCHED = frozenset({"data", "gpus", "nproc", "split"})  # if the space has them: they are younger
YOUNG: Mapping[str, Any] = {  # keys that are recorded where they are used
    "audit": [],
    "split": "search",
    "read": None,
    "gpus_per_trial": 1,
}
TICK = 0.1  # seconds between two looks at a silent command
LINE = 1 << 20  # bytes of a line that are read; no epoch has more
LAST_BYTES = 4096  # of the log, where its last line is looked for
OTHERS = 100  # lines of standard output, which may be among these bytes
PIPE_BYTES = 1 << 20  # what a pipe can hold at most


class Command(Opaque, BaseModel):
    """The command is split as a shell splits words, then each word's placeholders are filled.

    No shell is involved, and `python` is the one that hpogen runs on. `{name}` is a
    hyper-parameter (an inactive one is empty), `{seed}`, `{budget}`, `{data}`, `{directory}` and
    `{start_epoch}` are the trial's; `{{` is a brace. `{data}` is the fraction of its training set
    that it is to train on, 1.0 where the study asks for no other; `{gpus}` is the number of GPUs
    that it has, `{nproc}` the number of processes to start, one for each. `{split}` is `search`, or
    `retrain` where it is to train on all of its data and to print the figures of its test set as
    its audit. Each line of its standard output that is a JSON object is an epoch, unless `read`
    says where its metrics are; other lines, and its standard error, go to the trial's log.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: Literal["command"] = "command"
    """The task itself."""
    command: str
    """The program and its arguments, with `{name}` for a hyper-parameter; no shell is involved."""
    metrics_: tuple[str, ...] = Field(alias="metrics", strict=False, min_length=1)
    """Every metric that the program prints, an epoch a line, as a JSON object."""
    audit: tuple[str, ...] = Field((), strict=False)
    """Figures on samples that nothing else sees, `{…, "audit": {…}}`; an answer is judged by the
    first."""
    read: Read | None = None
    """Where its metrics are instead: a pattern of its output, or a file that it writes."""
    epochs: Annotated[int, Field(ge=1)]
    """The full budget: how many such lines it prints. It is told the trial's as `{budget}`."""
    threads: Threads = 1
    """`OMP_NUM_THREADS` of the program, and the CPUs that a worker reserves."""
    gpus_per_trial: Gpus = 1
    """The GPUs of one machine that a trial needs; on the CPU `{nproc}` is the same."""
    resumable: bool = False
    """Whether it goes on behind `{start_epoch}`; else an interrupted trial begins anew."""
    split: Split = "search"
    """What `{split}` is; `hpogen retrain` sets it."""

    @field_validator("command")
    @classmethod
    def _parsed(cls, command: str) -> str:
        words = shlex.split(command)
        if not words:
            raise ValueError("got an empty command")
        for name in placeholders(command):
            if not name.isidentifier():
                raise ValueError(
                    f"got the placeholder '{{{name}}}', expected a name; a brace is {{{{"
                )
        return command

    @model_validator(mode="after")
    def _told(self) -> Command:
        if self.split != "search" and not self.retrains:
            raise ValueError(f"split: {self.split}, but the command has no {{split}} to tell it")
        return self

    @model_validator(mode="after")
    def _readable(self) -> Command:
        if self.read is None:
            return self
        try:
            self.read.check(self.metrics_, self.audit)
        except ValueError as error:
            raise ValueError(f"read: {error}") from None
        if self.read.path is not None and DIRECTORY not in self._places():
            raise ValueError(
                f"read: the command is not told {{directory}}, where {self.read.path!r} is: give "
                f"it to the program, as in --out {{directory}}"
            )
        return self

    @staticmethod
    def elsewhere(task: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Where words belong that are no keys of the mapping `task`, which may be wrong."""
        try:
            places = {*placeholders(str(task.get("command", "")))} - PLACES
        except ValueError:
            return []
        return [("search_space", name) for name in sorted(places)]

    @property
    def subset(self) -> float | None:  # type: ignore[override]
        return 1.0 if "data" in self._places() else None

    @property
    def judged_by(self) -> str | None:  # type: ignore[override]
        return next(iter(self.audit), None)

    @property
    def retrains(self) -> bool:  # type: ignore[override]
        return "split" in self._places()

    def metrics(self) -> frozenset[str]:
        return frozenset(self.metrics_)

    def sums(self) -> frozenset[str]:
        return frozenset()

    def _places(self) -> frozenset[str]:
        return frozenset(placeholders(self.command))

    def parameters(self) -> frozenset[str]:
        return self._places() - PLACES | self._places() & SEARCHED

    def required(self) -> frozenset[str]:
        return self._places() - PLACES

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        places = {name: "" for name in self.parameters()} | {
            "data": str(1.0 if trial.data is None else trial.data),
            "gpus": str(trial.gpus),
            "nproc": str(max(trial.gpus, self.gpus_per_trial)),
            "split": self.split,
            **{name: _text(value) for name, value in trial.config.items()},
            "seed": str(trial.seed),
            "budget": str(trial.budget),
            "directory": str(trial.directory) if "directory" in self._places() else "",
            "start_epoch": str(trial.start_epoch),
        }
        words = [word.format_map(places) for word in shlex.split(self.command)]
        beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": beside, "OMP_NUM_THREADS": str(self.threads)}
        log = sys.stderr.fileno()
        begin, others = os.fstat(log).st_size, deque[str](maxlen=OTHERS)
        reader = reader_for(self.read, (self.metrics_, self.audit), trial, self.resumable)
        epoch, audit = trial.start_epoch, {}
        with _started(words, environment) as process:
            for found in _found(process, reader, others):
                if found is not None:
                    epoch, audit = epoch + 1, found[1]
                yield None if found is None else Epoch(epoch, *found)
        if process.returncode:
            said = _last_words(log, begin, others)
            raise RuntimeError(f"the command {_ended(process.returncode)}: {said}")
        if epoch == trial.start_epoch < trial.budget:
            last = _last_lines(log, begin)[-LAST_LINES:]
            raise ValueError(f"the command {reader.missing(last)}")
        if epoch != trial.budget:
            raise ValueError(f"the command gave {epoch} epochs, the budget is {trial.budget}")
        missing = [name for name in self.audit if name not in audit]
        if missing and epoch > trial.start_epoch:
            raise ValueError(
                f"the command did not give the audit figure {missing[0]!r} with its last epoch: "
                f'print {{…, "audit": {{"{missing[0]}": 0.5}}}}'
            )

    def record(self) -> dict[str, Any]:
        """Without the keys that are younger than some ledgers, where they say nothing."""
        record = self.model_dump(mode="json", by_alias=True)
        if self.read is not None:
            record["read"] = self.read.record()
        return {k: v for k, v in record.items() if k not in YOUNG or v != YOUNG[k]}


@contextlib.contextmanager
def _started(words: list[str], environment: Mapping[str, str]) -> Iterator[Popen[bytes]]:
    """A command under its guard, which leaves nothing of it when the block or this process ends."""
    guarded = [sys.executable, "-I", "-S", guard.__file__, *words]
    process = Popen(
        guarded, env=environment, stdin=PIPE, stdout=PIPE, stderr=sys.stderr, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: Popen[bytes]) -> None:
    """Ask the guard to end the command; it closes its pipe, which kills it, if that takes long."""
    orders, output = process.stdin, process.stdout
    if orders is None or output is None:
        return
    output.close()
    with contextlib.suppress(BrokenPipeError), orders:
        orders.write(b".")
        orders.flush()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(guard.GRACE + 1)


def _found(process: Popen[bytes], reader: Reader, others: deque[str]) -> Iterator[Figures | None]:
    """The figures of each epoch, None now and then; the `others` are the last lines of the log."""
    for line in _lines(process):
        found = [*(reader.heard(line) if line else ()), *reader.looked(ended=False)]
        yield from found
        if not found:
            others.extend(filter(None, [line]))
            yield None
    if process.returncode == 0:
        yield from reader.looked(ended=True)


def _lines(process: Popen[bytes]) -> Iterator[str]:
    """The lines of the command's output as they come; an empty one every TICK of silence.

    They end with the command, whoever holds its output then. Of a long line LINE bytes are given.
    """
    rest = b""
    for data in _chunks(process):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[:LINE]
        yield from (line[:LINE].decode(errors="replace") for line in lines)
        if not data:
            yield ""
    if rest:
        yield rest.decode(errors="replace")


def _chunks(process: Popen[bytes]) -> Iterator[bytes]:
    """The command's output by the piece until the command has ended; b"" for a TICK of silence."""
    if process.stdout is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ended = False
        while not ended:
            ended = process.poll() is not None
            if not selector.select(0 if ended else TICK):
                yield b""
            elif data := os.read(process.stdout.fileno(), PIPE_BYTES):
                yield data
            else:
                break
    while process.poll() is None:  # its output is closed, but it goes on
        yield b""
        time.sleep(TICK)


def _last_words(log: int, begin: int, others: Iterable[str]) -> str:
    """The last line of a log behind byte `begin`; empty where nothing was said.

    Lines of standard output, the `others`, come by way of this process, perhaps behind what the
    command has said last on standard error: they serve where there is nothing else.
    """
    lines = _last_lines(log, begin)
    errors = [*lines]
    for line in others:
        if (said := line.strip()) in errors:
            errors.remove(said)
    return next(reversed(errors or lines), "")


def _last_lines(log: int, begin: int) -> list[str]:
    """The last lines of a log behind byte `begin` that are not blank."""
    try:
        size = os.fstat(log).st_size
        begin = max(begin, size - LAST_BYTES)
        text = os.pread(log, size - begin, begin).decode(errors="replace")
    except OSError:  # no file
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _text(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
