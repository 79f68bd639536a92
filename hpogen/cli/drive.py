"""What `hpogen run` and `resume` do: open, watch, run, and say what was chosen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpogen.executors.choice import Where, executor_for, idle_gpus
from hpogen.report.live import watch, watch_all
from hpogen.report.matrix import endings
from hpogen.report.terminal import print_lines, program, width
from hpogen.report.text import count, seconds_of
from hpogen.report.verdict import ending, next_commands, verdict
from hpogen.running import runner
from hpogen.running.logs import logged
from hpogen.running.observer import Observer
from hpogen.running.runner import End, Result
from hpogen.spec import StudySpec
from hpogen.study.open import open_studies, open_study
from hpogen.study.study import Study


def drive(
    spec: StudySpec, directory: Path, where: Where, duration: str, *, event_files: bool = False
) -> End:
    """Run a study in its folder, for at most `duration` if that is not empty; how it ended.

    `event_files` are TensorBoard's, written beside.
    """
    seconds = seconds_of(duration) if duration else None
    with logged(directory) as begin_log, contextlib.ExitStack() as stack:
        executor = executor_for([spec.task], where)
        stack.callback(executor.stop)
        opened = stack.enter_context(open_study(spec, directory))
        begin_log()
        if idle := idle_gpus(executor):
            print(idle, file=sys.stderr)
        with watch(opened) as watcher, _recorded([opened], [watcher], event_files) as observers:
            result = runner.run(opened, executor, seconds=seconds, observer=observers[0])
            executor.stop()
        if not _told_broken([opened], [result]):
            _print_verdict(opened, result)
    return result.end


def drive_all(
    specs: Mapping[Path, StudySpec],
    home: Path,
    where: Where,
    duration: str,
    *,
    event_files: bool = False,
) -> list[End]:
    """The same for the studies of a matrix, whose folders are in `home`, in one pool."""
    name = home.absolute().name
    with pool(name, specs, home, where, duration, event_files=event_files) as (studies, results):
        _print_overview(home, studies, results)
    return [result.end for result in results]


@contextlib.contextmanager
def pool(
    name: str,
    specs: Mapping[Path, StudySpec],
    home: Path,
    where: Where,
    duration: str,
    *,
    event_files: bool = False,
) -> Iterator[tuple[list[Study], list[Result]]]:
    """Run studies in one pool under a live table of that name; they are open within the block.

    The log is that of the folder `home`.
    """
    seconds = seconds_of(duration) if duration else None
    with logged(home) as begin_log, contextlib.ExitStack() as stack:
        executor = executor_for([spec.task for spec in specs.values()], where)
        stack.callback(executor.stop)
        studies = [stack.enter_context(study) for study in open_studies(specs)]
        begin_log()
        if idle := idle_gpus(executor):
            print(idle, file=sys.stderr)
        with (
            watch_all(name, studies) as watchers,
            _recorded(studies, watchers, event_files) as observers,
        ):
            results = runner.run_all(studies, executor, seconds=seconds, observers=observers)
            executor.stop()
        _told_broken(studies, results)
        yield studies, results


@contextlib.contextmanager
def _recorded(
    studies: Sequence[Study], watchers: Sequence[Observer], event_files: bool
) -> Iterator[Sequence[Observer]]:
    """The observers, with the writers of event files beside them where they are wanted."""
    if not event_files:
        yield watchers
        return
    from hpogen.export.event_files import EventFiles, Together

    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(contextlib.closing(EventFiles(s.directory))) for s in studies]
        yield [Together(a, b) for a, b in zip(watchers, files, strict=True)]


def _told_broken(studies: Sequence[Study], results: Sequence[Result]) -> bool:
    """Say in one line what a study, or several, could not go on for; whether there was any."""
    pairs = zip(studies, results, strict=True)
    texts = [ending(s.spec, r.end, r.trials, r.text) for s, r in pairs if r.end == "broken"]
    if texts:
        others = f" (and {count(len(texts) - 1, 'study')} more)" if len(texts) > 1 else ""
        print(texts[0] + others, file=sys.stderr)
    return bool(texts)


def _print_verdict(study: Study, result: Result) -> None:
    ended = ending(study.spec, result.end, result.trials, result.text)
    commands = next_commands(study.history, str(study.directory), result.end, program())
    with contextlib.suppress(OSError):  # a terminal that has gone
        print_lines(verdict(study, ended, commands, width()))


def _print_overview(home: Path, studies: Sequence[Study], results: Sequence[Result]) -> None:
    pairs = [p for p in zip(studies, results, strict=True) if p[1].end != "broken"]
    if not pairs:
        return
    texts = [ending(s.spec, r.end, r.trials, r.text) for s, r in pairs if r.text]
    finished = all(result.end == "finished" for result in results)
    with contextlib.suppress(OSError):
        print_lines(
            endings(home, [study for study, _ in pairs], texts, finished, width(), program())
        )
