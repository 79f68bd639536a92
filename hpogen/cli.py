"""The commands of `hpogen`: they parse what was typed, call, print, and choose the exit code."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from hpogen.errors import UserError, unknown

if TYPE_CHECKING:
    from hpogen.executors.choice import Where
    from hpogen.runner import End, Result
    from hpogen.spec import StudySpec
    from hpogen.study import Study

P = ParamSpec("P")

FINISHED, STOPPED_ITSELF, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
CODES: dict[End, int] = {
    "finished": FINISHED,
    "time": FINISHED,
    "errors": STOPPED_ITSELF,
    "lost": STOPPED_ITSELF,
    "interrupted": INTERRUPTED,
}

KINDS = ("searchers", "measures", "models", "datasets", "tasks")

app = typer.Typer(
    help="Search the hyper-parameters of a deep network for what generalizes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="the study")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="the study's folder")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda:K", help="where to train")]
For = Annotated[str, typer.Option("--for", metavar="6h", help="stop after this time")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="trials at a time; default 1, with --ray all it has")
]
Ray = Annotated[
    str, typer.Option(metavar="local|auto|HOST:PORT", help="a new cluster here, or a running one")
]
Cpus = Annotated[
    int | None, typer.Option("--cpus-per-trial", metavar="N", help="default: task.threads")
]
Gpus = Annotated[
    float | None, typer.Option("--gpus-per-trial", metavar="F", help="0.25: four trials on a GPU")
]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="change the YAML")]


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Register a command. What the user did wrong is one line and exit code 2."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except UserError as error:
            print(" ".join(str(error).split()), file=sys.stderr)
            raise typer.Exit(WRONG_INPUT) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    app.command(name=function.__name__.rstrip("_"))(guarded)
    return guarded


@command
def run(
    study: StudyFile,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="default: runs/NAME")
    ] = None,
    device: Device = "auto",
    duration: For = "",
    overrides: Set = [],  # noqa: B006  # typer's way to say "none"
    workers: Workers = None,
    ray: Ray = "",
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Run a study, or go on with it; then what was chosen."""
    from hpogen.executors.choice import Where
    from hpogen.opening import RUNS
    from hpogen.spec import load_study

    spec = load_study(study, overrides)
    where = Where(device, workers, ray, cpus, gpus)
    _drive(spec, directory or RUNS / spec.name, where, duration)


@command
def resume(
    directory: Folder,
    device: Device = "auto",
    duration: For = "",
    workers: Workers = None,
    ray: Ray = "",
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Go on with the study in a folder, without its YAML."""
    from hpogen.executors.choice import Where
    from hpogen.opening import read_study

    spec, _ = read_study(directory)
    _drive(spec, directory, Where(device, workers, ray, cpus, gpus), duration)


@command
def status(
    directory: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="redraw until it ends")] = False,
    as_json: Json = False,
) -> None:
    """Where a study stands: how far it is, what runs, the best so far."""
    from hpogen.opening import read_study
    from hpogen.report import facts, live, pages

    spec, _ = read_study(directory)
    if as_json:
        return _print_json(facts.status(spec, directory))
    live.follow(lambda width: pages.status_page(spec, directory, width, _program()), watch)


@command
def show(
    directory: Folder,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="its number")],
    as_json: Json = False,
) -> None:
    """One trial: configuration, metrics, curve, time, log and traceback."""
    from hpogen.folder import log_path
    from hpogen.history import read
    from hpogen.report import facts, pages

    found = facts.trial(read(directory), directory, trial)
    if as_json:
        return _print_json(found)
    _print(pages.show_page(found, str(log_path(directory, trial)), _width()))


@command
def best(directory: Folder, as_json: Json = False) -> None:
    """The answer as YAML: trial, config, budget, score, metrics."""
    from hpogen.opening import read_study
    from hpogen.report import facts, pages

    found = facts.best(*read_study(directory), directory)
    if as_json:
        return _print_json(found)
    _print(pages.yaml_lines(found))


@command
def measure(
    directory: Folder,
    add: Annotated[str, typer.Option("--add", metavar="NAMES", help="separated by commas")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Add measures to finished trials, from their kept final weights."""
    from hpogen.executors.inline import resolve_device
    from hpogen.opening import read_study
    from hpogen.plugins import Measured
    from hpogen.remeasuring import add_measures, measures_named

    spec, _ = read_study(directory)
    names = measures_named([name.strip() for name in add.split(",")])
    for record, found in add_measures(spec, directory, names, resolve_device(device)):
        metrics = dict(found.metrics) if isinstance(found, Measured) else None
        if as_json:
            print(json.dumps({"trial": record.trial.id, "metrics": metrics}))
        elif metrics is None:
            print(f"trial {record.trial.id}  {found}")
        else:
            text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"trial {record.trial.id}  {text}")


@command
def check(study: StudyFile, overrides: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Find mistakes and plan trials and epochs; train nothing."""
    from hpogen.report.pages import check_page
    from hpogen.report.plan import missing_data, plan
    from hpogen.spec import load_study

    spec = load_study(study, overrides)
    planned = plan(spec)
    if (missing := missing_data(spec)) is not None:
        print(f"warning: {missing}", file=sys.stderr)
    if as_json:
        return _print_json(planned)
    _print(check_page(spec, planned, str(study)))


@command
def list_(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS))], as_json: Json = False
) -> None:
    """The names that a study can use, one per line; measures with what they are."""
    from hpogen import plugins
    from hpogen.report import measures

    plugins.load_installed()
    if kind not in KINDS:
        raise UserError(unknown("list:", kind, KINDS))
    if kind == "measures":
        rows = measures.rows()
        return _print_json(rows) if as_json else _print(measures.page(rows, _width()))
    names = getattr(plugins, kind).names()
    if as_json:
        return _print_json(names)
    _print(names)


@command
def schema() -> None:
    """The JSON schema of a study's YAML, for editors."""
    from hpogen.spec.schema import schema

    _print_json(schema())


def _version(value: bool) -> None:
    if value:
        import hpogen

        print(f"hpogen {hpogen.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it, and exit")
    ] = False,
) -> None: ...


def main() -> None:
    """The program `hpogen`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a bar that cannot be shown is no error
    app(prog_name="hpogen")


def _drive(spec: StudySpec, directory: Path, where: Where, duration: str) -> None:
    from hpogen import runner
    from hpogen.executors.choice import executor_for, idle_gpus
    from hpogen.logs import logged
    from hpogen.opening import open_study
    from hpogen.report.live import watch
    from hpogen.report.text import seconds_of

    seconds = seconds_of(duration) if duration else None
    with logged(directory) as begin_log, contextlib.ExitStack() as stack:
        executor = executor_for(spec.task, where)
        stack.callback(executor.stop)
        opened = stack.enter_context(open_study(spec, directory))
        begin_log()
        if idle := idle_gpus(executor):
            print(idle, file=sys.stderr)
        with watch(opened) as observer:
            result = runner.run(opened, executor, seconds=seconds, observer=observer)
        _print_verdict(opened, result)
    raise typer.Exit(CODES[result.end])


def _print_verdict(study: Study, result: Result) -> None:
    from hpogen.report.verdict import ending, next_commands, verdict

    ended = ending(study.spec, result.end, result.trials, result.text)
    commands = next_commands(study.history, str(study.directory), result.end, _program())
    with contextlib.suppress(OSError):  # a terminal that has gone
        _print(verdict(study.spec, study.history, study.directory, ended, commands, _width()))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _width() -> int:
    return shutil.get_terminal_size().columns


def _program() -> str:
    """How this program was called, for the commands that are printed."""
    name = sys.argv[0]
    if Path(name).name == "__main__.py":
        return f"{_typed(sys.executable)} -m hpogen"
    return _typed(name)


def _typed(path: str) -> str:
    """A program by its bare name where the shell would find this one, else by its path."""
    found = shutil.which(Path(path).name)
    if found is not None and os.path.abspath(found) == os.path.abspath(path):
        return Path(path).name
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
