"""The task that is a command line: a script in any language, one JSON object per epoch.

task: {name: command, command: "python train.py --lr {lr}", metrics: [val_loss], epochs: 20}
"""

from __future__ import annotations

import json
import os
import selectors
import shlex
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hpogen.task import Epoch
from hpogen.trial import RunningTrial

PLACES = frozenset({"seed", "budget", "directory", "start_epoch"})
TICK = 0.1  # seconds between two looks at a silent command
GRACE = 5.0  # seconds between SIGTERM and SIGKILL


class Command(BaseModel):
    """The command is split as a shell splits words, then each word's placeholders are filled.

    No shell is involved, and `python` is the one that hpogen runs on. `{name}` is a
    hyper-parameter (an inactive one is empty), `{seed}`, `{budget}`, `{directory}` and
    `{start_epoch}` are the trial's; `{{` is a brace. Each line of its standard output that is a
    JSON object is an epoch; other lines, and its standard error, go to the trial's log.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: Literal["command"] = "command"
    command: str
    metrics_: tuple[str, ...] = Field(alias="metrics", strict=False, min_length=1)
    epochs: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)] = 1
    resumable: bool = False

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

    def metrics(self) -> frozenset[str]:
        return frozenset(self.metrics_)

    def sums(self) -> frozenset[str]:
        return frozenset()

    def gives(self, wanted: frozenset[str]) -> frozenset[str]:
        return self.metrics()

    def _places(self) -> frozenset[str]:
        return frozenset(_placeholders(self.command))

    def parameters(self) -> frozenset[str]:
        return self._places() - PLACES

    def required(self) -> frozenset[str]:
        return self.parameters()

    def prepare(self) -> None:
        """Nothing: the command gets what it needs itself."""

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        places = {name: "" for name in self.parameters()} | {
            **{name: _text(value) for name, value in trial.config.items()},
            "seed": str(trial.seed),
            "budget": str(trial.budget),
            "directory": str(trial.directory) if "directory" in self._places() else "",
            "start_epoch": str(trial.start_epoch),
        }
        words = [word.format_map(places) for word in shlex.split(self.command)]
        beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": beside, "OMP_NUM_THREADS": str(self.threads)}
        epoch, last = trial.start_epoch, ""
        with _process(words, environment) as process:
            for line in _lines(process):
                metrics = _metrics(line, self.metrics()) if line else None
                if metrics is None:
                    last = line or last
                    yield None
                    continue
                epoch += 1
                yield Epoch(epoch, metrics)
        if process.returncode:
            raise RuntimeError(f"the command {_ended(process.returncode)}: {last.strip()}")
        if epoch != trial.budget:
            raise ValueError(f"the command gave {epoch} epochs, the budget is {trial.budget}")

    def discard(self, trial: RunningTrial) -> None:
        """Nothing: the trial's folder is the user's."""

    def record(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


class _process:
    """A command in a process group of its own, which is ended when the block is left."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process.stdout is not None:
            process.stdout.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines of the command's output as they come; an empty one every TICK of silence."""
    if process.stdout is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = b""
        while True:
            if not selector.select(TICK):
                yield ""
                continue
            data = os.read(process.stdout.fileno(), 65536)
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
            if not data:
                if rest:
                    yield rest.decode(errors="replace")
                break
    while process.poll() is None:  # its output is closed, but it goes on
        yield ""
        time.sleep(TICK)


def _metrics(line: str, declared: frozenset[str]) -> dict[str, float] | None:
    """The metrics of a JSON object; None for any other line, which goes to the log."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        print(line, file=sys.stdout)  # the trial's log, see executors.worker
        return None
    undeclared = sorted(set(found) - declared)
    if undeclared:
        raise ValueError(
            f"the command gave the metric {undeclared[0]!r}, which task.metrics does not list "
            f"({', '.join(sorted(declared))})"
        )
    return {name: float(value) for name, value in found.items()}


def _placeholders(command: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(command) if name is not None]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
