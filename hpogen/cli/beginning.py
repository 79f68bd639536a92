"""The commands that come before a study: `init`, which writes one, and `doctor`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hpogen.cli.app import STOPPED_ITSELF, Json, command, print_json
from hpogen.report.terminal import print_lines, program, width

File = Annotated[Path, typer.Argument(metavar="FILE.yaml", help="the study to write")]


@command
def init(
    file: File = Path("study.yaml"),
    task: Annotated[
        str, typer.Option(metavar="NAME", help="image-classification, command or function")
    ] = "",
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="hpogen list datasets, or a path")
    ] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="hpogen list models")] = "",
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="sgd, adam, adamw or sam")] = "",
    searcher: Annotated[str, typer.Option(metavar="NAME", help="hpogen list searchers")] = "",
    objective: Annotated[str, typer.Option(metavar="PRESET", help="val, agn+val, …")] = "",
) -> None:
    """Write a commented study of your choice, and the script it needs."""
    from hpogen.report.text import labelled, next_lines
    from hpogen.spec.described import descriptions
    from hpogen.study.draft import Choices, Known, draft, write
    from hpogen.training.forms.hyperparameters import Hyperparameters
    from hpogen.training.forms.known import SIZES
    from hpogen.training.models import catalog

    chosen = Choices(task, dataset, model, optimizer, searcher, objective)
    models = {row["name"]: row for row in catalog.listing(catalog.MODELS)}
    known = Known(SIZES, models, descriptions(Hyperparameters))
    files = draft(file, chosen, known)
    write(files)
    commands = [f"{program()} {verb} {shlex.quote(str(file))}" for verb in ("check", "run")]
    print_lines([*labelled("wrote", ", ".join(map(str, files))), *next_lines(commands)])


@command
def doctor(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="a study's folder, or where it is to be")
    ] = Path("runs"),
    start_ray: Annotated[bool, typer.Option("--ray", help="start a Ray here, and end it")] = False,
    as_json: Json = False,
) -> None:
    """What of this machine fits hpogen: versions, GPUs, data, Ray, disk and locks."""
    from hpogen.report.doctor.page import as_data, examined, page, problems

    found = examined(directory, start_ray)
    if as_json:
        print_json(as_data(found))
    else:
        print_lines(page(found, width()))
    if problems(found):
        raise typer.Exit(STOPPED_ITSELF)
