"""A study as MLflow keeps it: an experiment per study, a run per trial.

`exporting.py` writes with it to a tracking server, or to a database that MLflow knows.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hpogen.errors import UserError
from hpogen.export.rows import curve, row, shown
from hpogen.record.history import Record
from hpogen.study.read import Folder

BATCH = 1000  # metrics that a server takes at once


def write(studies: Sequence[Folder], uri: str) -> None:
    """Add an experiment for each study, of its name, which must not be there.

    `uri` is a tracking server's (`http://host:5000`) or a database's (`sqlite:///mlflow.db`).
    Raises UserError where the package is missing, for a name that is taken, and for a place that
    cannot be written; what was written before stays there.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("--to mlflow: needs a package: pip install 'hpogen[mlflow]'")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own 7 take minutes
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri)
        for study in studies:
            if client.get_experiment_by_name(study.name) is not None:
                raise UserError(
                    f"--to: {shown(uri)} has an experiment {study.name!r} already: delete it "
                    "there, or name another place"
                )
        for study in studies:
            experiment = client.create_experiment(study.name)
            for record in study.history.records:
                _add(client, experiment, study, record)
    except MlflowException as error:
        text = " ".join(str(error).replace(uri.rstrip("/"), shown(uri)).split())
        raise UserError(f"--to: {shown(uri)} cannot be used: {text}") from error


def _add(client: Any, experiment: str, study: Folder, record: Record) -> None:
    """A run whose times are those of the export, as far apart as training took."""
    from mlflow.entities import Metric, Param, RunTag

    cells = row(study, record)
    now, seconds = int(time.time() * 1000), cells.get("seconds.total") or 0.0
    run = client.create_run(
        experiment, start_time=now - int(seconds * 1000), run_name=f"trial {record.trial.id}"
    ).info.run_id
    tags = {
        n: x for n, x in cells.items() if x is not None and "." not in n.replace("failure.", "")
    }
    client.log_batch(
        run,
        params=[Param(name, str(value)) for name, value in record.trial.config.items()],
        tags=[RunTag(f"hpogen.{name}", str(value)) for name, value in tags.items()],
    )
    metrics = [Metric(name, x, now, step) for name, x, step in _metrics(study, record, cells)]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run, metrics=metrics[start : start + BATCH])
    if record.state == "told":
        failed = "KILLED" if record.pruned else "FAILED"
        client.set_terminated(run, failed if record.failure else "FINISHED", now)


def _metrics(
    study: Folder, record: Record, cells: dict[str, Any]
) -> Iterator[tuple[str, float, int]]:
    """Name, value, epoch: each epoch's metrics, at the end score, audit and seconds."""
    for found in curve(study, record):
        yield from ((name, x, found["epoch"]) for name, x in found["metrics"].items())
    for name, x in cells.items():
        if x is not None and (name == "score" or name.startswith(("audit.", "seconds."))):
            yield name, x, record.trial.budget
