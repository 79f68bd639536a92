"""What `hpogen run`, `resume` and `retrain` do: open, watch, run, and say what was found."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from hpogen.analysis.outlook import outlook
from hpogen.cli.streams import say
from hpogen.errors import UserError, explained
from hpogen.executors.choice import Where, executor_for, idle_gpus
from hpogen.export.tracking import tracked
from hpogen.plugins import OWN_TASKS
from hpogen.record.folder import own
from hpogen.report import retrain as retraining
from hpogen.report.ensemble import retrained_text
from hpogen.report.live import watch
from hpogen.report.matrix import endings
from hpogen.report.outlook import outlook_page
from hpogen.report.retrain import again_lines
from hpogen.report.terminal import print_page, program, width
from hpogen.report.text import count, seconds_of
from hpogen.report.verdict import ending, next_commands, verdict
from hpogen.running import runner
from hpogen.running.drive import End, Result
from hpogen.running.logs import logged
from hpogen.spec import StudySpec
from hpogen.study.ensemble import plan_again_members, plan_members
from hpogen.study.open import open_studies, open_study
from hpogen.study.read import AGAIN, RETRAIN, Folder, read, read_all, studies_in
from hpogen.study.retrainable import check_test_images
from hpogen.study.retrained import SEEDS, plan, plan_again
from hpogen.study.retrained import results as retrained
from hpogen.study.sizes import TOP, check_fractions, plan_sizes
from hpogen.study.standing import commonest
from hpogen.study.study import Study

Run = tuple[Study, Result]


def drive(
    specs: Mapping[Path, StudySpec],
    home: Path,
    where: Where,
    duration: str,
    *,
    event_files: bool = False,
    quiet: bool = False,
) -> list[End]:
    """Run the study whose folder is `home`, or those of a matrix, whose folders are in `home`.

    For at most `duration` if that is not empty; how each ended. `event_files` are TensorBoard's,
    written beside. What is printed explains its words unless `quiet`.
    """
    name = home.absolute().name
    with pool(name, specs, home, where, duration, tracks=True, event_files=event_files) as runs:
        if any(result.end != "broken" for _, result in runs):
            page = _verdict(*runs[0]) if home in specs else _overview(home, runs)
            _print(page, quiet=quiet)
    return _ends(runs)


def retrain(
    directory: Path,
    where: Where,
    seeds: int = SEEDS,
    duration: str = "",
    trial: int | None = None,
    *,
    ensemble: bool = False,
    quiet: bool = False,
) -> list[End]:
    """Retrain, or go on with it, and print what was found; how each configuration's study ended.

    `directory` is a study's or a matrix's; `seeds` is how often each configuration is trained in
    all, so that more may be added. With `trial` the configuration of that one of a study; with
    `ensemble` the answer and the members of the ensemble. Raises UserError.
    """
    studies = read_all([directory]) if trial is None else [read(directory)]
    plans = [
        plan_members(study, seeds) if ensemble else plan(study, seeds, trial) for study in studies
    ]
    specs = {path: spec for planned in plans for path, spec in planned.items()}
    _own_retrain(studies)
    home = directory if studies_in(directory) else directory / RETRAIN
    name = f"{directory.absolute().name}: {RETRAIN}"
    with _tested(studies, plans, trial), pool(name, specs, home, where, duration) as runs:
        if not any(result.end == "broken" for _, result in runs):
            pages = [_retrained_page(study, ensemble) for study in studies]
            stopped = _endings(run for run in runs if run[1].end != "finished")
            several = len(studies) > 1
            last = retraining.last_lines(directory, stopped, program(), width(), several)
            _print([*chain.from_iterable(pages), *last], quiet=quiet)
    return [result.end for _, result in runs]


def _retrained_page(study: Folder, ensemble: bool) -> list[str]:
    task = study.spec.record()["task"]
    subset = task["dataset"]["subset"] if task["name"] in OWN_TASKS else 1.0
    found = retrained(study.directory)
    notes = [*retraining.worse_than_before(study, found, program())]
    notes += retrained_text(read(study.directory), found) if ensemble else []
    return retraining.page(study.directory, found, width(), subset, notes)


@contextlib.contextmanager
def _tested(
    studies: Sequence[Folder], plans: Sequence[Mapping[Path, StudySpec]], trial: int | None
) -> Iterator[None]:
    """Where the pool refuses a study: whether that is for want of test images, and what to do."""
    try:
        yield
    except UserError:
        for study, planned in zip(studies, plans, strict=True):
            check_test_images(study, next(iter(planned.values())), trial)
        raise


def train_again(directory: Path, where: Where, trial: int | None, duration: str = "") -> list[End]:
    """Train a trial of a study once more as it was, and keep its weights; how that ended.

    None: the members of the ensemble whose weights are gone. Prints whether the numbers are the
    same. Raises UserError.
    """
    study = read(directory)
    specs = plan_again_members(study) if trial is None else plan_again(study, trial)
    _own_retrain([study])
    name = f"{directory.absolute().name}: {'ensemble' if trial is None else f'trial {trial}'}"
    with pool(name, specs, directory / RETRAIN, where, duration) as runs:
        if not any(result.end == "broken" for _, result in runs):
            names = [path.name.removeprefix(AGAIN) for path in specs]
            trials = map(int, names) if trial is None else [trial]
            records = [[*again.history.records] for again, _ in runs]
            told = [*zip(trials, records, _endings(runs), strict=True)]
            _print(again_lines(study, told, program(), ensemble=trial is None), quiet=True)
    return _ends(runs)


def retrain_at(
    directory: Path,
    where: Where,
    at: Sequence[float],
    predict: float = 1.0,
    seeds: int = SEEDS,
    top: int = TOP,
    trial: int | None = None,
    duration: str = "",
) -> list[End]:
    """Train the answer and those that come after it on fractions of the data; how each ended.

    Prints what they come to, and what that predicts at the fraction `predict`. Raises UserError.
    """
    check_fractions(at, predict)
    study = read(directory)
    specs = plan_sizes(study, at, seeds, top, trial)
    _own_retrain([study])
    name = f"{directory.absolute().name}: {RETRAIN} --at"
    with pool(name, specs, directory / RETRAIN, where, duration) as runs:
        if not any(result.end == "broken" for _, result in runs):
            stopped = _endings(run for run in runs if run[1].end != "finished")
            found = outlook(read(directory), predict)
            _print(outlook_page(directory, found, stopped, width(), program()), quiet=True)
    return _ends(runs)


def _own_retrain(studies: Iterable[Folder]) -> None:
    for study in studies:
        with explained(study.directory, UserError):
            own(study.directory / RETRAIN, study.history.id)


@contextlib.contextmanager
def pool(
    name: str,
    specs: Mapping[Path, StudySpec],
    home: Path,
    where: Where,
    duration: str,
    *,
    tracks: bool = False,
    event_files: bool = False,
    shown: bool = True,
) -> Iterator[list[Run]]:
    """Run studies in one pool under a live table of that name; they are open within the block.

    The log is that of the folder `home`. The study whose own folder that is has a table to itself.
    With `tracks` they are shown where their `track` says; on this terminal unless `shown` is False.
    """
    seconds = seconds_of(duration) if duration else None
    if shown and sys.stderr.isatty():  # who waits there hears nothing else for some seconds
        say(f"{name}: loading libraries and data")
    with logged(home) as begin_log, contextlib.ExitStack() as stack:
        executor = executor_for([spec.task for spec in specs.values()], where)
        stack.callback(executor.stop)
        opened = [open_study(specs[home], home)] if home in specs else open_studies(specs)
        studies = [stack.enter_context(study) for study in opened]
        begin_log()
        if idle := idle_gpus(executor):
            print(idle, file=sys.stderr)
        with contextlib.ExitStack() as watching:
            shared = None if home in specs else name
            observers = watching.enter_context(watch(studies, shared)) if shown else []
            if tracks:
                watching.enter_context(tracked(studies, event_files=event_files))
            results = runner.run_all(studies, executor, seconds=seconds, observers=observers)
            executor.stop()
        runs = list(zip(studies, results, strict=True))
        _tell_broken(runs)
        yield runs


def _ends(runs: Iterable[Run]) -> list[End]:
    """How each ended; one that has finished with failures alone has stopped for its errors."""
    return [
        "errors" if result.end == "finished" and _all_failed(study) else result.end
        for study, result in runs
    ]


def _all_failed(study: Study) -> bool:
    reason = commonest(study.history)
    return reason is not None and reason.every


def _endings(runs: Iterable[Run]) -> list[str]:
    """How these ended, in words."""
    return [ending(s.spec, r.end, r.trials, r.text) for s, r in runs]


def _tell_broken(runs: Sequence[Run]) -> None:
    """Say in one line what a study, or several, could not go on for."""
    texts = _endings(run for run in runs if run[1].end == "broken")
    if texts:
        others = f" (and {count(len(texts) - 1, 'study')} more)" if len(texts) > 1 else ""
        print(texts[0] + others, file=sys.stderr)


def _verdict(study: Study, result: Result) -> Iterator[str]:
    commands = next_commands(study.history, str(study.directory), result.end, program())
    yield from verdict(study, _endings([(study, result)])[0], commands, width())


def _overview(home: Path, runs: Sequence[Run]) -> Iterator[str]:
    finished = all(result.end == "finished" for _, result in runs)
    good = [(study, result) for study, result in runs if result.end != "broken"]
    texts = _endings(run for run in good if run[1].text)
    yield from endings(home, [study for study, _ in good], texts, finished, width(), program())


def _print(lines: Iterable[str], *, quiet: bool) -> None:
    with contextlib.suppress(OSError):  # a terminal that has gone
        print_page(lines, quiet=quiet)
