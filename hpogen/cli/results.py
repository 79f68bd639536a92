"""The commands after a study: `compare`, `report`, `rescore`, `fork`, `export`, …"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpogen.cli.app import (
    All,
    Device,
    Folder,
    Json,
    Quiet,
    Set,
    StudyFile,
    command,
    numbers,
    print_json,
)
from hpogen.cli.streams import say
from hpogen.errors import UserError, unknown
from hpogen.report.terminal import print_lines, print_page, program, width

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR…", help="of studies or matrices, or their YAML files")
]
Primary = Annotated[
    str | None, typer.Option(metavar='"A - B"', help="the contrast; default: the YAML's")
]
Pareto = Annotated[
    str | None, typer.Option(metavar="SCORES", help="a front: val_loss, agn, as YAML")
]
Alphas = Annotated[str, typer.Option(metavar="0,0.1,1", help="default: 25 from 1e-4 to 100, and 0")]


@command
def compare(
    directories: Folders,
    primary: Primary = None,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="the tables with all digits; - prints them")
    ] = None,
    latex: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="the tables for a paper (booktabs)")
    ] = None,
    as_json: Json = False,
    all_mistakes: All = False,
    quiet: Quiet = False,
) -> None:
    """Studies side by side: which objective and searcher is better, and by how much."""
    from hpogen.analysis.comparison import compare
    from hpogen.record.looks import count_looks
    from hpogen.report.compare import compare_page, comparison_data
    from hpogen.report.compare_tables import write_tables
    from hpogen.study.open import run_folder

    if (as_json, csv == "-", latex == "-").count(True) > 1:
        raise UserError("--json, --csv - and --latex -: got several, expected one that is printed")
    found = compare([run_folder(path) for path in directories], primary)
    count_looks(found.audited, "compare")
    printed = write_tables(found, csv, latex)
    if as_json:
        return print_json(comparison_data(found))
    if printed:
        return print(printed, end="")
    print_page(compare_page(found, width(), program()), quiet=quiet)


@command
def report(
    directories: Folders,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="the file")] = Path("report.html"),
    primary: Primary = None,
    all_mistakes: All = False,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="its pictures, too, as .svg and .pdf")
    ] = None,
) -> None:
    """All figures and pictures of studies in one HTML file, which needs no network."""
    from hpogen.record.looks import count_looks
    from hpogen.report.html.page import write_report
    from hpogen.study.open import run_folder
    from hpogen.study.read import studies_in

    folders = [run_folder(path) for path in directories]
    print(write_report(folders, out, primary, program(), figures))
    count_looks([path for folder in folders for path in studies_in(folder) or [folder]], "report")
    if figures is not None:
        print(figures)


@command
def rescore(
    directory: Folder,
    objective: Annotated[
        str | None, typer.Option(metavar="PRESET|TERMS", help="agn+val, or terms as YAML")
    ] = None,
    pareto: Pareto = None,
    selection: Annotated[str | None, typer.Option(metavar="RULE", help="what selects")] = None,
    alpha: Annotated[str | None, typer.Option(help="AGN's weight, auto or swept")] = None,
    scale: Annotated[str | None, typer.Option(help="the scale of AGN")] = None,
    alphas: Alphas = "",
    validation: Annotated[
        str, typer.Option(metavar="250,1000", help="with so many validation images only")
    ] = "",
    prune: Annotated[str | None, typer.Option(metavar="RULE", help="what pruning saves")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="a picture")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What another objective, alpha or selection would have chosen from the same trials."""
    from hpogen.analysis.rescoring import rescore
    from hpogen.record.looks import count_looks
    from hpogen.report.rescore import rescore_data, rescore_page
    from hpogen.report.rescore_plot import check_plot_path, write_svg
    from hpogen.study.read import read
    from hpogen.study.restate import scores_form

    if plot is not None:
        check_plot_path(plot)
    found = rescore(
        read(directory),
        scores_form(pareto, objective),
        selection,
        alpha=alpha,
        scale=scale,
        alphas=numbers("--alphas", alphas, float) or None,
        validation=numbers("--validation", validation, int),
        prune=prune,
    )
    count_looks([directory] if found.judged_by else [], "rescore")
    if plot is not None:
        write_svg(found, plot)
    if as_json:
        return print_json(rescore_data(found))
    print_page(rescore_page(found, str(directory), width(), program()), quiet=quiet)


@command
def learn(
    directories: Folders,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="the file")] = Path("gap.json"),
    target: Annotated[
        str, typer.Option(metavar="error|gap|retrained", help="what is learned")
    ] = "error",
    measures: Annotated[
        str, typer.Option(metavar="agn,kappa", help="from which; default: all that they share")
    ] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn an objective from finished studies with audit, judged on tasks left out."""
    from hpogen.analysis.learned import learn
    from hpogen.record.looks import count_looks
    from hpogen.report.learned import learned_page
    from hpogen.spec.learned import write_learned
    from hpogen.study.open import run_folder
    from hpogen.study.read import read_all

    studies = read_all([run_folder(path) for path in directories])
    found = learn(studies, target, numbers("--measures", measures, str.strip))
    write_learned(found, out)
    count_looks([study.directory for study in studies], "learn")
    if as_json:
        return print_json(found.model_dump(mode="json"))
    folder = str(studies[0].directory)
    print_page(learned_page(found, str(out), folder, width(), program()), quiet=quiet)


@command
def predict(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="the study's folder, or a file of weights")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES…", help="images, folders of them, tables, lines, or .npz"),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.csv")] = Path("predictions.csv"),
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="another trial's than the answer")
    ] = None,
    retrained: Annotated[
        bool, typer.Option("--retrained", help="as trained on the full training set")
    ] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="of several trials: see hpogen ensemble")
    ] = False,
    device: Device = "auto",
) -> None:
    """What the network of the answer says of images, or rows: a CSV file of its predictions."""
    from hpogen.answer.load import load
    from hpogen.answer.predict import predict
    from hpogen.report.text import count

    net = load(directory, trial=trial, retrained=retrained, ensemble=ensemble, device=device)
    rows, images = predict(net, files, out), bool(net.header.mean)
    what = "classes" if net.header.inputs.kind == "classes" else "predictions"
    print(f"the {what} of {count(rows, 'image' if images else 'row')} written to {out}")


@command
def ensemble(
    directory: Folder,
    size: Annotated[int, typer.Option(metavar="N", help="picks at most; default 5")] = 5,
    metric: Annotated[
        str, typer.Option(metavar="loss|error", help="of validation, what a pick is to lower")
    ] = "loss",
    kept: Annotated[
        bool, typer.Option("--kept", help="only trials whose weights are kept")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Trials that predict better together: picked by validation, judged by audit."""
    from hpogen.analysis.ensemble import select
    from hpogen.record.looks import count_looks
    from hpogen.report.ensemble import ensemble_data, ensemble_page, file_of
    from hpogen.report.figure import looks_text
    from hpogen.study.ensemble import write
    from hpogen.study.read import read

    if metric not in ("loss", "error"):
        raise UserError(unknown("--metric:", metric, ("loss", "error")))
    study = read(directory)
    found = select(study, size, "loss" if metric == "loss" else "error", only_kept=kept)
    if found.audited:
        if text := looks_text(study.history.looks + 1):
            say(text)
        count_looks([directory], "ensemble")
    write(directory, file_of(found, study))
    if as_json:
        return print_json(ensemble_data(found))
    print_page(ensemble_page(found, study, width(), program()), quiet=quiet)


@command
def fork(
    directory: Folder,
    study: StudyFile,
    target: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="default: runs/NAME, or NAME-2, …")
    ] = None,
    overrides: Set = [],  # noqa: B006  # typer's way to say "none"
    observed: Annotated[
        bool, typer.Option("--observed", help="score by the seconds of the old runs")
    ] = False,
    all_mistakes: All = False,
) -> None:
    """Begin another study with the trials of an old one, without training them again."""
    from hpogen.report.pages import fork_page
    from hpogen.running.fork import fork

    found = fork(directory, study, target, overrides, observed)
    print_lines(fork_page(found, str(study), program(), width(), overrides))


@command
def export(
    directory: Folder,
    to: Annotated[
        str, typer.Option("--to", metavar="FILE|URL", help=".csv, .parquet, sqlite:///study.db")
    ],
) -> None:
    """All trials as a table, or as an Optuna study."""
    from hpogen.export.exporting import export
    from hpogen.export.rows import shown
    from hpogen.report.text import count

    trials = export(directory, to)
    print(f"{count(trials, 'trial')} written to {shown(to) if '://' in to else to}")


@command
def dashboard(
    directory: Folder, port: Annotated[int, typer.Option(help="on this machine alone")] = 8080
) -> None:
    """Show a study in optuna-dashboard, until Ctrl-C."""
    from hpogen.export.optuna_studies import dashboard

    dashboard(directory, port)
