"""The commands of `hpogen`: they parse what was typed, call, print, and choose the exit code."""

from __future__ import annotations

import functools
import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from hpogen.errors import UserError, unknown
from hpogen.report.terminal import print_lines, program, width

if TYPE_CHECKING:
    from hpogen.runner import End

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
    """Run a study or a matrix, or go on with it; then what was chosen."""
    from hpogen.driving import drive, drive_all
    from hpogen.executors.choice import Where
    from hpogen.opening import RUNS
    from hpogen.spec import load_studies

    found = load_studies(study, overrides)
    home = directory or RUNS / found.name
    where = Where(device, workers, ray, cpus, gpus)
    if found.is_matrix:
        specs = {home / spec.name: spec for spec in found.specs}
        raise typer.Exit(_code(drive_all(specs, home, where, duration)))
    raise typer.Exit(_code([drive(found.specs[0], home, where, duration)]))


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
    """Go on with the study or the matrix in a folder, without its YAML."""
    from hpogen.driving import drive, drive_all
    from hpogen.executors.choice import Where
    from hpogen.opening import read_study, studies_in

    where = Where(device, workers, ray, cpus, gpus)
    if inner := studies_in(directory):
        specs = {path: read_study(path)[0] for path in inner}
        raise typer.Exit(_code(drive_all(specs, directory, where, duration)))
    raise typer.Exit(_code([drive(read_study(directory)[0], directory, where, duration)]))


@command
def status(
    directory: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="redraw until it ends")] = False,
    as_json: Json = False,
) -> None:
    """Where a study or a matrix stands: how far it is, what runs, the best so far."""
    from hpogen.opening import read_studies, read_study, studies_in
    from hpogen.report import facts, live, matrix, pages

    if studies_in(directory):
        name = directory.absolute().name
        if as_json:
            return _print_json(matrix.status(name, read_studies(directory)))
        return live.follow(
            lambda columns: matrix.status_page(name, read_studies(directory), columns, program()),
            watch,
        )
    spec, _ = read_study(directory)
    if as_json:
        return _print_json(facts.status(spec, directory))
    live.follow(lambda columns: pages.status_page(spec, directory, columns, program()), watch)


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
    print_lines(pages.show_page(found, str(log_path(directory, trial)), width()))


@command
def best(directory: Folder, as_json: Json = False) -> None:
    """The answer as YAML: trial, config, budget, score, metrics."""
    from hpogen.opening import read_study
    from hpogen.report import facts, pages

    found = facts.best(*read_study(directory), directory)
    if as_json:
        return _print_json(found)
    print_lines(pages.yaml_lines(found))


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
    from hpogen.report.pages import check_matrix_page, check_page
    from hpogen.report.plan import missing_data, plan
    from hpogen.spec import load_studies

    found = load_studies(study, overrides)
    planned = [plan(spec) for spec in found.specs]
    for missing in dict.fromkeys(filter(None, map(missing_data, found.specs))):
        print(f"warning: {missing}", file=sys.stderr)
    if found.is_matrix and as_json:
        return _print_json({"name": found.name, "studies": planned})
    if found.is_matrix:
        return print_lines(check_matrix_page(planned, str(study)))
    if as_json:
        return _print_json(planned[0])
    print_lines(check_page(found.specs[0], planned[0], str(study)))


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
        return _print_json(rows) if as_json else print_lines(measures.page(rows, width()))
    names = getattr(plugins, kind).names()
    if as_json:
        return _print_json(names)
    print_lines(names)


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


def _code(ends: Iterable[End]) -> int:
    return max(CODES[end] for end in ends)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))
