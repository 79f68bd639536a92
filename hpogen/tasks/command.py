"""The task that is a command line: a script in any language, one JSON object per epoch.

task: {name: command, command: "python train.py --lr {lr}", metrics: [val_loss], epochs: 20}
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import string
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from subprocess import PIPE, Popen
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hpogen.errors import shortened
from hpogen.tasks import guard
from hpogen.tasks.base import Epoch, Opaque, Threads
from hpogen.tasks.own import Figures, Split
from hpogen.trial import RunningTrial

PLACES = frozenset({"seed", "budget", "data", "directory", "start_epoch", "split"})
YOUNG = {"audit": [], "split": "search"}  # keys that are recorded where they are used
AUDIT = "audit"  # of a line, where it is a mapping
TICK = 0.1  # seconds between two looks at a silent command
LINE = 1 << 20  # bytes of a line that are read; no epoch has more
LAST_BYTES = 4096  # of the log, where its last line is looked for
LAST_LINES = 100  # of standard output, which may be among these bytes
FIRST_LINES, SHOWN = 2, 40  # of standard output without JSON, and characters of each
PIPE_BYTES = 1 << 20  # what a pipe can hold at most


class Command(Opaque, BaseModel):
    """The command is split as a shell splits words, then each word's placeholders are filled.

    No shell is involved, and `python` is the one that hpogen runs on. `{name}` is a
    hyper-parameter (an inactive one is empty), `{seed}`, `{budget}`, `{data}`, `{directory}` and
    `{start_epoch}` are the trial's; `{{` is a brace. `{data}` is the fraction of its training set
    that it is to train on, 1.0 where the study asks for no other. `{split}` is `search`, or
    `retrain` where it is to train on all of its data and to print the figures of its test set as
    its audit. Each line of its standard output that is a JSON object is an epoch; other lines, and
    its standard error, go to the trial's log.
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
    epochs: Annotated[int, Field(ge=1)]
    """The full budget: how many such lines it prints. It is told the trial's as `{budget}`."""
    threads: Threads = 1
    """`OMP_NUM_THREADS` of the program, and the CPUs that a worker reserves."""
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
        for name in _placeholders(command):
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

    @staticmethod
    def elsewhere(task: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Where words belong that are no keys of the mapping `task`, which may be wrong."""
        try:
            places = {*_placeholders(str(task.get("command", "")))} - PLACES
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
        return frozenset(_placeholders(self.command))

    def parameters(self) -> frozenset[str]:
        return self._places() - PLACES | self._places() & {"data"}  # that may be searched instead

    def required(self) -> frozenset[str]:
        return self._places() - PLACES

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        places = {name: "" for name in self.parameters()} | {
            "data": str(1.0 if trial.data is None else trial.data),
            **{name: _text(value) for name, value in trial.config.items()},
            "seed": str(trial.seed),
            "budget": str(trial.budget),
            "directory": str(trial.directory) if "directory" in self._places() else "",
            "start_epoch": str(trial.start_epoch),
            "split": self.split,
        }
        words = [word.format_map(places) for word in shlex.split(self.command)]
        beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": beside, "OMP_NUM_THREADS": str(self.threads)}
        epoch, log = trial.start_epoch, sys.stderr.fileno()
        audit: Mapping[str, float] = {}
        begin, others = os.fstat(log).st_size, deque[str](maxlen=LAST_LINES)
        first: list[str] = []
        with _started(words, environment) as process:
            for line in _lines(process):
                found = _epoch(line, self.metrics_, self.audit) if line else None
                if found is None:
                    others.extend(filter(None, [line]))
                    first += [line] if line.strip() and len(first) < FIRST_LINES else []
                    yield None
                    continue
                epoch += 1
                audit = found[1]
                yield Epoch(epoch, *found)
        if process.returncode:
            said = _last_words(log, begin, others)
            raise RuntimeError(f"the command {_ended(process.returncode)}: {said}")
        if epoch == trial.start_epoch:
            raise ValueError(f"the command printed no JSON: {self._expected(first)}")
        if epoch != trial.budget:
            raise ValueError(f"the command gave {epoch} epochs, the budget is {trial.budget}")
        if missing := [name for name in self.audit if name not in audit]:
            raise ValueError(
                f"the command did not give the audit figure {missing[0]!r} with its last epoch: "
                f'print {{…, "audit": {{"{missing[0]}": 0.5}}}}'
            )

    def _expected(self, first: Sequence[str]) -> str:
        """What its first lines were, and what one should be."""
        lines = " and ".join(repr(shortened(line, SHOWN)) for line in first)
        were = f"its output began with {lines}" if first else "its standard output was empty"
        example = json.dumps(dict.fromkeys(self.metrics_[:FIRST_LINES], 0.5))
        return f"{were}; after each epoch print a line such as {example}"

    def record(self) -> dict[str, Any]:
        record = self.model_dump(mode="json", by_alias=True)
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
    try:
        size = os.fstat(log).st_size
        begin = max(begin, size - LAST_BYTES)
        text = os.pread(log, size - begin, begin).decode(errors="replace")
    except OSError:  # no file
        return ""
    errors = text
    for line in filter(None, others):
        errors = errors.replace(f"{line}\n", "", 1)
    lines = [line.strip() for line in (*text.splitlines(), *errors.splitlines())]
    return next(filter(None, reversed(lines)), "")


def _epoch(line: str, metrics: Sequence[str], audit: Sequence[str]) -> Figures | None:
    """The figures of a JSON object; None for any other line, which goes to the log."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        print(line)  # to the trial's log, see executors.worker
        return None
    held_out = found.pop(AUDIT) if isinstance(found.get(AUDIT), dict) else {}
    return _plain(found, "metric", "metrics", metrics), _plain(
        held_out, "audit figure", AUDIT, audit
    )


def _plain(
    found: Mapping[str, Any], what: str, key: str, declared: Sequence[str]
) -> dict[str, float]:
    """Those numbers, all of which the task declares at `key`. Raises ValueError."""
    if undeclared := sorted(set(found) - set(declared)):
        raise ValueError(
            f"the command gave the {what} {undeclared[0]!r}, which task.{key} does not list "
            f"({', '.join(sorted(declared))})"
        )
    for name, value in found.items():
        if not isinstance(value, int | float):
            raise ValueError(f"the command gave {name} = {json.dumps(value)}, expected a number")
    return {name: float(value) for name, value in found.items()}


def _placeholders(command: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(command) if name is not None]


def _text(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
