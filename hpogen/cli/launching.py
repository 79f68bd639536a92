"""The commands that train: `run`, `resume`, `retrain`; and before: `check`, `list`, `schema`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import chain
from typing import Annotated

import typer

from hpogen.cli.app import (
    All,
    Cpus,
    Device,
    Folder,
    For,
    Gpus,
    Json,
    Quiet,
    Ray,
    Set,
    StudyFile,
    Target,
    Workers,
    command,
    exit_code,
    numbers,
    print_json,
)
from hpogen.errors import UserError, unknown
from hpogen.report.terminal import print_lines, print_page, width

EventFiles = Annotated[
    bool, typer.Option("--tensorboard", help="write TensorBoard's event files, too")
]
Fallback = Annotated[
    bool, typer.Option("--fallback", help="the finalist that comes after the answer, alone")
]
Subset = Annotated[
    bool, typer.Option("--subset", help="with --trial: once more as it was, for its weights")
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="also the trials of the ensemble: hpogen ensemble")
]
At = Annotated[
    str, typer.Option(metavar="0.05,0.1,0.2", help="instead on these fractions of the data")
]
Predict = Annotated[
    float, typer.Option(metavar="1.0", help="with --at: the fraction to predict the loss for")
]
Top = Annotated[
    int, typer.Option(metavar="N", help="with --at: so many configurations, the answer first")
]
APART = {  # options of `retrain`
    "--ensemble": ("--trial", "--fallback"),
    "--fallback": ("--trial", "--subset"),
    "--at": ("--subset", "--ensemble"),
}
KINDS = ("searchers", "measures", "models", "datasets", "tasks")


@command
def run(
    study: StudyFile,
    directory: Target = None,
    device: Device = "auto",
    duration: For = "",
    overrides: Set = [],  # noqa: B006  # typer's way to say "none"
    workers: Workers = None,
    ray: Ray = "",
    cpus: Cpus = None,
    gpus: Gpus = None,
    event_files: EventFiles = False,
    all_mistakes: All = False,
    quiet: Quiet = False,
) -> None:
    """Run a study or a matrix, or go on with it; then what was chosen."""
    from hpogen.cli.drive import drive
    from hpogen.executors.choice import Where
    from hpogen.spec import load_studies
    from hpogen.study.open import check_is_file
    from hpogen.study.read import RUNS

    check_is_file(study)
    found = load_studies(study, overrides)
    home = directory or RUNS / found.name
    specs = {home / spec.name if found.is_matrix else home: spec for spec in found.specs}
    where = Where(device, workers, ray, cpus, gpus)
    ends = drive(specs, home, where, duration, event_files=event_files, quiet=quiet)
    raise typer.Exit(exit_code(ends))


@command
def resume(
    directory: Folder,
    device: Device = "auto",
    duration: For = "",
    workers: Workers = None,
    ray: Ray = "",
    cpus: Cpus = None,
    gpus: Gpus = None,
    event_files: EventFiles = False,
    quiet: Quiet = False,
) -> None:
    """Go on with the study or the matrix in a folder, without its YAML."""
    from hpogen.cli.drive import drive
    from hpogen.executors.choice import Where
    from hpogen.study.index import read
    from hpogen.study.open import loaded
    from hpogen.study.read import studies_in

    specs = {path: loaded(read(path)) for path in studies_in(directory) or [directory]}
    where = Where(device, workers, ray, cpus, gpus)
    ends = drive(specs, directory, where, duration, event_files=event_files, quiet=quiet)
    raise typer.Exit(exit_code(ends))


@command
def retrain(
    directory: Folder,
    seeds: Annotated[int, typer.Option(metavar="N", help="trainings of each configuration")] = 3,
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="the configuration of that trial alone")
    ] = None,
    fallback: Fallback = False,
    subset: Subset = False,
    ensemble: Ensemble = False,
    at: At = "",
    predict: Predict = 1.0,
    top: Top = 2,
    device: Device = "auto",
    duration: For = "",
    workers: Workers = None,
    ray: Ray = "",
    cpus: Cpus = None,
    gpus: Gpus = None,
    quiet: Quiet = False,
) -> None:
    """Train the answer and the baselines on the full training set; test them."""
    from hpogen.cli.drive import retrain, retrain_at, train_again
    from hpogen.executors.choice import Where
    from hpogen.study.read import read
    from hpogen.study.retrained import fallback as next_finalist

    where = Where(device, workers, ray, cpus, gpus)
    given = {"--trial": trial is not None, "--fallback": fallback, "--subset": subset}
    _refuse({**given, "--ensemble": ensemble, "--at": bool(at)})
    if fallback:
        trial = next_finalist(read(directory), seeds)
    if at:
        sizes = numbers("--at", at, float)
        ends = retrain_at(directory, where, sizes, predict, seeds, top, trial, duration)
    elif (predict, top) != (1.0, 2):
        raise UserError("--predict, --top: are for --at: give it the fractions to train on")
    elif not subset:
        ends = retrain(directory, where, seeds, duration, trial, ensemble=ensemble, quiet=quiet)
    elif trial is None and not ensemble:
        raise UserError("--subset: got no trial, expected --trial N: the one to train again")
    else:
        ends = train_again(directory, where, trial, duration)
    raise typer.Exit(exit_code(ends))


def _refuse(given: Mapping[str, bool]) -> None:
    """Raise UserError where two options say what is trained."""
    for option, others in APART.items():
        for other in others:
            if given[option] and given[other]:
                raise UserError(f"{option}: says itself what is trained: drop {other}")


@command
def check(
    study: StudyFile,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
    all_mistakes: All = False,
    quiet: Quiet = False,
) -> None:
    """Find mistakes and plan trials and epochs; train nothing."""
    from hpogen.report.planned import check_matrix_page, check_page
    from hpogen.spec import load_studies
    from hpogen.study.open import warnings
    from hpogen.study.rehearsal import data_facts, missing_data, plans

    found = load_studies(study, overrides)
    planned = plans(found.specs)
    facts = [*map(data_facts, found.specs)]
    told = [*filter(None, map(missing_data, found.specs)), *chain(*map(warnings, found.specs))]
    for text in dict.fromkeys(told):
        print(f"warning: {text}", file=sys.stderr)
    if as_json:
        whole = {"name": found.name, "studies": planned}
        return print_json(whole if found.is_matrix else planned[0])
    if found.is_matrix:
        return print_page(check_matrix_page(planned, str(study)), quiet=quiet)
    print_page(check_page(found.specs[0], planned[0], str(study), facts[0]), quiet=quiet)


@command
def list_(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS))], as_json: Json = False
) -> None:
    """The names that a study can use, one per line; most kinds with what each is."""
    from hpogen import plugins
    from hpogen.report import listing
    from hpogen.training.models import catalog

    plugins.load_installed()
    if kind not in KINDS:
        raise UserError(unknown("list:", kind, KINDS))
    pages = {
        "measures": (listing.measure_rows, listing.measures_page),
        "models": (catalog.listing, listing.models_page),
    }
    if kind in pages:
        rows_of, page = pages[kind]
        rows = rows_of()
        return print_json(rows) if as_json else print_lines(page(rows, width()))
    if kind == "searchers" and not as_json:
        return print_lines(listing.searchers_page(width()))
    names = getattr(plugins, kind).choices()
    print_json(names) if as_json else print_lines(names)


@command
def schema() -> None:
    """The JSON schema of a study's YAML, for editors."""
    from hpogen.spec.schema import schema

    print_json(schema())
