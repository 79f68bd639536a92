"""The commands that look at a folder: `status`, `show`, `best`, `watch`; `measure` adds to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hpogen.cli.app import Device, Folder, Json, Quiet, command, print_json
from hpogen.cli.streams import say
from hpogen.errors import UserError
from hpogen.report.terminal import print_lines, program, width

Selection = Annotated[str | None, typer.Option(metavar="RULE", help="another than the study's")]
Knee = Annotated[bool, typer.Option("--knee", help="of a Pareto front: short for --selection knee")]


@command
def status(
    directory: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="redraw until it ends")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Where a study or a matrix stands: how far it is, what runs, the best so far."""
    from rich.text import Text

    from hpogen.report import live, matrix, pages
    from hpogen.report.terms import with_terms
    from hpogen.study.index import read
    from hpogen.study.read import read_all, studies_in
    from hpogen.study.status import status

    name, several = directory.absolute().name, bool(studies_in(directory))
    if as_json:
        studies = read_all([directory], read)
        return print_json(matrix.status(name, studies) if several else status(studies[0]))

    def draw(columns: int) -> tuple[Text, bool]:
        studies = read_all([directory], read)
        if several:
            page, runs = matrix.status_page(name, studies, columns, program())
        else:
            page, runs = pages.status_page(studies[0], columns, program())
        return page if quiet else with_terms(page, columns), runs

    live.follow(draw, watch)


@command
def show(
    directory: Folder,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="its number")],
    as_json: Json = False,
) -> None:
    """One trial: configuration, metrics, curve, time, log and traceback."""
    from hpogen.record.folder import log_path
    from hpogen.record.looks import count_looks
    from hpogen.report import pages
    from hpogen.study import status
    from hpogen.study.index import read

    study = read(directory)
    found = status.trial(study, trial)
    if found["audit"]:
        count_looks([directory], "show")
    if as_json:
        return print_json(found)
    first = status.shown_first(study)
    print_lines(pages.show_page(found, str(log_path(directory, trial)), width(), first))


@command
def best(
    directory: Folder,
    selection: Selection = None,
    knee: Knee = False,
    as_json: Json = False,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="write its network, too")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="the same, for programs without torch")
    ] = None,
) -> None:
    """The answer as YAML: config, score, metrics, what it is worth. Its network, if asked for."""
    from hpogen.analysis.figure import Figure, figure
    from hpogen.analysis.outlook import outlook
    from hpogen.record.looks import count_looks
    from hpogen.report import pages
    from hpogen.report.figure import figure_data, looks_text
    from hpogen.report.outlook import outlook_data
    from hpogen.report.verdict import untrusted
    from hpogen.study import status
    from hpogen.study.index import read
    from hpogen.study.restate import restated

    study = read(directory)
    selection = _rule(selection, knee)
    spec = restated(study, selection=selection)
    found = status.best(study, spec)
    worth = figure(study, study.history.records[found["trial"]], spec)
    found["figure"] = figure_data(worth)
    if selection is None and (seen := outlook(study)) is not None:
        found["outlook"] = outlook_data(seen)
    if texts := untrusted(replace(study, spec=spec)):
        found["cautions"] = texts
    if isinstance(worth, Figure) and worth.by == "audit":
        if text := looks_text(study.history.looks + 1):
            say(text)
        count_looks([directory], "best")
    if weights is not None or onnx is not None:
        _write_network(directory, status.network_of(study, spec), weights, onnx)
    if as_json:
        return print_json(found)
    print_lines(pages.yaml_lines(found))


def _rule(selection: str | None, knee: bool) -> str | None:
    if knee and selection not in (None, "knee"):
        raise UserError(f"--knee: got --selection {selection}, too: expected one of them")
    return "knee" if knee else selection


def _write_network(directory: Path, trial: int, weights: Path | None, onnx: Path | None) -> None:
    from hpogen.answer.files import write_onnx, write_weights
    from hpogen.answer.load import load

    net = load(directory, trial=trial)
    if weights is not None:
        write_weights(net, weights)
        _say_written("weights", weights)
    if onnx is not None:
        write_onnx(net, onnx)
        _say_written("ONNX network", onnx)


def _say_written(what: str, path: Path) -> None:
    """On standard error: standard output is the answer as YAML or JSON."""
    from hpogen.report.text import size_of

    say(f"{what} written to {path} ({size_of(path.stat().st_size)})")


@command
def measure(
    directory: Folder,
    add: Annotated[str, typer.Option("--add", metavar="NAMES", help="separated by commas")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Add measures to finished trials, from their kept final weights."""
    from hpogen.executors.inline import resolve_device
    from hpogen.plugins import Measured, scope
    from hpogen.running.measure import add_measures, measures_named
    from hpogen.study.open import loaded
    from hpogen.study.read import read

    spec = loaded(read(directory))
    with scope(spec.scope):
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
def watch(
    directory: Folder,
    port: Annotated[
        int | None, typer.Option(help="on this machine alone; default: 8700, or a free one")
    ] = None,
) -> None:
    """Follow a study or a matrix in the browser, on a page that is live, until Ctrl-C."""
    from hpogen.report.watch.server import watch

    watch(directory, port, lambda url: print(f"{url} shows {directory}, until Ctrl-C", flush=True))
