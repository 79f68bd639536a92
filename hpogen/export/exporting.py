"""A study's trials for other programs, as a table or as an Optuna study: `hpogen export`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from hpogen.errors import UserError, explained, quoted
from hpogen.export.rows import table
from hpogen.record.folder import replace_file
from hpogen.record.stores import is_url
from hpogen.study.read import read_all

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".parquet")
MLFLOW = "mlflow:"


def export(directory: Path, to: str) -> int:
    """Write the trials of a study, or of all studies of a matrix, to `to`; how many there are.

    `to` is a file, `trials.csv` or `trials.parquet`, with one row per trial, which replaces a file
    that is there; or the URL of a database in which Optuna keeps studies (`sqlite:///study.db`,
    `postgresql://…`), which gets a study more; or `mlflow:` and the URL of an MLflow server or
    database. Raises UserError.
    """
    suffix = Path(to).suffix.lower()
    if not is_url(to) and suffix not in TABLES:
        raise UserError(
            f"--to: got {quoted(to)}, expected a file that ends in .csv or .parquet, the URL of a "
            "database such as sqlite:///study.db, or mlflow:http://HOST:PORT"
        )
    studies = read_all([directory])
    if to.startswith(MLFLOW):
        from hpogen.export.mlflow_runs import write as write_runs

        write_runs(studies, to.removeprefix(MLFLOW))
    elif is_url(to):
        from hpogen.export.optuna_studies import write

        write(studies, to)
    else:
        _write(table(studies), Path(to), suffix)
    return sum(len(study.history.records) for study in studies)


def _write(frame: pd.DataFrame, path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    if suffix == ".csv":
        frame.to_csv(buffer, index=False)
    else:
        frame.to_parquet(buffer, index=False)
    with explained(f"--to: {path}", UserError):
        replace_file(path, buffer.getvalue())
