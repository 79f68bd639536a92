"""What people see while a study runs: a table in a terminal, else a line per finished trial.

`watch` gives the observers that the runner calls. A terminal that has gone never stops a study.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hpogen.errors import shortened
from hpogen.record.history import Record
from hpogen.report.matrix import Row, overview
from hpogen.report.picture import over, picture, results, used_up
from hpogen.report.terminal import width
from hpogen.report.text import again, configuration, duration
from hpogen.running.observer import Observer
from hpogen.study.standing import is_complete, standing
from hpogen.study.status import under_way
from hpogen.trial import Progress, Trial

if TYPE_CHECKING:
    from hpogen.study.read import AnyStudy
    from hpogen.study.study import Study

REFRESH_SECONDS = 0.25
REFRESH_SHARE = 0.05  # of the time: large studies are drawn less often
PACE_SECONDS = 2.0
WATCH_SECONDS = 1.0
STOPPING = "stopping; once more stops at once"


@contextlib.contextmanager
def watch(studies: Sequence[Study], name: str | None = None) -> Iterator[Sequence[Observer]]:
    """The studies' observers on this standard output, in their order, while the block lasts.

    The studies of a matrix of that name share a table; without a name each has its own.
    """
    with _screen() as screen:
        if screen is None:
            several = name is not None
            yield [Lines(s, sys.stdout, f"{s.spec.name}  " * several) for s in studies]
        elif name is None:
            yield [Table(study, screen) for study in studies]
        else:
            yield [Overview(name, studies, screen)] * len(studies)


@contextlib.contextmanager
def _screen() -> Iterator[Screen | None]:
    """Of this standard output; None where that is no terminal to draw on."""
    console = Console(file=sys.stdout, highlight=False)  # bound now: workers redirect sys.stdout
    if not _draws(console):
        yield None
        return
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
    live.start()
    try:
        yield Screen(live)
    finally:
        with contextlib.suppress(OSError):
            live.stop()


def _draws(console: Console) -> bool:
    """Whether what was drawn can be drawn over: in a notebook rich needs widgets for that."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return sys.stdout.isatty() and not console.is_dumb_terminal


class Screen:
    """Drawn at most four times a second, less often where that takes long."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._next = 0.0  # when to draw again

    def draw(self, make: Callable[[int, str], Text], stopping: bool) -> None:
        """What `make` gives for a width and a note, if it is time; always when `stopping`."""
        begin = time.monotonic()
        if begin < self._next and not stopping:
            return
        with contextlib.suppress(OSError):
            text = make(self._live.console.width, STOPPING if stopping else "")
            self._live.update(cropped(text), refresh=True)
        self._next = begin + max(REFRESH_SECONDS, (time.monotonic() - begin) / REFRESH_SHARE)


class Overview:
    """A line for each study of a matrix."""

    def __init__(self, name: str, studies: Sequence[Study], screen: Screen) -> None:
        self._name = name
        self._studies = studies
        self._screen = screen
        self._begin, self._before = time.monotonic(), self._share()

    def started(self, trial: Trial) -> None: ...

    def progressed(self, progress: Progress) -> None: ...

    def finished(self, record: Record) -> None: ...

    def tick(self, stopping: bool) -> None:
        self._screen.draw(self._picture, stopping)

    def _picture(self, width: int, note: str) -> Text:
        rows = [Row(study, "finished" if self._finished(study) else "") for study in self._studies]
        return overview(self._name, rows, width, note, self._left(time.monotonic()))

    def _finished(self, study: Study) -> bool:
        return not study.running and is_complete(study)

    def _share(self) -> float:
        """How much of all `stop` is used up."""
        shares = [used_up(study.history)[0] for study in self._studies]
        return sum(shares) / len(shares)

    def _left(self, now: float) -> str:
        """`10 min left`, at the rate since the run began."""
        elapsed, done = now - self._begin, self._share()
        if elapsed < PACE_SECONDS or done <= self._before:
            return ""
        return f"{duration((1 - done) * elapsed / (done - self._before))} left"


class Table:
    """The picture of a study."""

    def __init__(self, study: Study, screen: Screen) -> None:
        self._study = study
        self._screen = screen
        self._latest: dict[int, Progress] = {}
        self._pace = Pace(study, under_way(study) if study.spec.task.resumable else [])

    def started(self, trial: Trial) -> None:
        self.tick(stopping=False)

    def progressed(self, progress: Progress) -> None:
        self._latest[progress.trial] = progress

    def finished(self, record: Record) -> None:
        self._latest.pop(record.trial.id, None)

    def tick(self, stopping: bool) -> None:
        if self._study.running or stopping:
            self._screen.draw(self._picture, stopping)
        # between two trials there is nothing to see: `started` comes at once

    def _picture(self, width: int, note: str) -> Text:
        study = self._study
        trials = [study.history.records[trial].trial for trial in sorted(study.running)]
        running = [(trial, self._latest.get(trial.id)) for trial in trials]
        left = self._pace.left(running)
        return picture(study, standing(study), running, width=width, left=left, note=note)


class Pace:
    """How long it will take, from the epochs done since it is looked at.

    `begun` are the trials that have done some of theirs before.
    """

    def __init__(self, study: AnyStudy, begun: list[tuple[Trial, Progress | None]]) -> None:
        self._study = study
        self._begin = time.monotonic()
        self._before = self._done(begun)
        self._next = PACE_SECONDS
        self._text = ""
        self._ran = study.history.ran, self._begin  # seconds, and when they were first seen

    def left(self, running: list[tuple[Trial, Progress | None]]) -> str:
        """`2 h 10 min left`, reckoned every other second; nothing before."""
        elapsed = time.monotonic() - self._begin
        if elapsed >= self._next:
            self._next = elapsed + PACE_SECONDS
            done, total = self._done(running), self._total()
            seconds = self._of_hours()
            if total is not None and done > self._before:
                rate = (done - self._before) / elapsed  # epochs a second, failed ones included
                seconds = min(seconds, max(total - done, 0) / rate)
            if seconds < math.inf and (total is None or done > self._before):
                self._text = f"{duration(seconds)} left"
        return self._text

    def _of_hours(self) -> float:
        """The seconds left of `stop.hours`, which are written down now and then; infinity without.

        It is looked at while the study runs.
        """
        history, now = self._study.history, time.monotonic()
        if self._ran[0] != history.ran:
            self._ran = history.ran, now
        ran, since = self._ran
        hours = history.stop.get("hours")
        return math.inf if hours is None else max(3600 * hours - ran - (now - since), 0.0)

    def _done(self, running: list[tuple[Trial, Progress | None]]) -> float:
        history = self._study.history
        begun = (t.rung._replace(epochs=progress.epoch) for t, progress in running if progress)
        return over(history)["epochs"] + float(sum(map(history.cost, begun)))

    def _total(self) -> float | None:
        """The epochs of the whole study; where trials are counted, as many each as so far.

        None where only hours end it.
        """
        history = self._study.history
        epochs, trials = history.stop["epochs"], history.stop["trials"]
        each = history.charged / max(len(history.records), 1)
        limits: tuple[float | None, ...] = (epochs, trials * each if trials else None)
        return min((limit for limit in limits if limit is not None), default=None)


def follow(draw: Callable[[int], tuple[Text, bool]], watch: bool) -> None:
    """Print what `draw(width)` gives; to `watch` is to do so every second while it says true."""
    console = Console(file=sys.stdout, highlight=False)
    if not watch or not sys.stdout.isatty() or console.is_dumb_terminal:
        console.print(draw(width())[0], soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
        goes_on = True
        while goes_on:
            text, goes_on = draw(console.width)
            live.update(cropped(text), refresh=True)
            time.sleep(WATCH_SECONDS * goes_on)


def cropped(text: Text) -> Text:
    """The text, never wrapped by the terminal."""
    text.no_wrap, text.overflow = True, "crop"
    return text


class Lines:
    """One line per finished trial, for files and pipes."""

    def __init__(self, study: Study, file: TextIO, prefix: str = "") -> None:
        self._spec = study.spec
        self._prefix = prefix
        self._file = file
        self._best = min(map(self._rank, study.history.told()), default=math.inf)

    def started(self, trial: Trial) -> None: ...

    def progressed(self, progress: Progress) -> None: ...

    def tick(self, stopping: bool) -> None: ...

    def finished(self, record: Record) -> None:
        rank = self._rank(record)
        mark = "  best so far" if rank < self._best else ""
        self._best = min(rank, self._best)
        with contextlib.suppress(OSError, ValueError):
            text = line(record, finalist=self._spec.finalists is not None)
            print(self._prefix + text + mark, file=self._file, flush=True)

    def _rank(self, record: Record) -> float:
        """What the selection compares, lower is better; infinity where it cannot be compared."""
        selection = self._spec.selection
        if record.failure or not record.feasible or record.trial.rung != self._spec.ladder[-1]:
            return math.inf
        if record.repeat and self._spec.finalists:
            return math.inf
        if selection == "score":
            return math.inf if self._spec.objective.uses("rank") else record.score
        metrics = record.outcome.metrics if record.outcome else {}
        if selection not in metrics:
            return math.inf  # the other selections look at all trials together
        return -metrics[selection] if selection == "val_accuracy" else metrics[selection]


def line(record: Record, *, finalist: bool = False) -> str:
    """A finished trial in one line; a repeat is that of a `finalist` where a study has them."""
    failure = record.failure
    parts = [f"trial {record.trial.id}"]
    parts.append(f"{failure.kind}: {shortened(failure.text)}" if failure else results(record))
    parts.append(configuration(record.trial.config))
    if not record.feasible:
        parts.append("infeasible")
    if record.repeat:
        parts.append(again(record.trial, finalist))
    seconds = record.outcome.seconds.get("total") if record.outcome else None
    if record.twin is not None:
        parts.append(f"duplicate of trial {record.twin}")
    elif record.reused:
        parts.append(f"trained as {record.reused}")
    elif seconds is not None:
        parts.append(duration(seconds))
    return "  ".join(parts)
