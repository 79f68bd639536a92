"""A study as MLflow keeps it: an experiment of its name, a run per trial.

`exporting.py` writes one whole with it to a tracking server, or to a database that MLflow knows;
`tracking.py` while the study runs.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hpogen.errors import UserError
from hpogen.export.rows import curve, row, shown
from hpogen.export.trackers import Rows
from hpogen.record.history import Record
from hpogen.spec.tracking import Track
from hpogen.study.read import Folder
from hpogen.study.standing import rule
from hpogen.trial import canonical

BATCH = 1000  # metrics that a server takes at once, and runs that it gives
STUDY, TRIAL, ANSWER = "hpogen.id", "hpogen.trial", "hpogen.answer"  # tags
Metrics = dict[tuple[str, int], float]  # by name and epoch


class Runs:
    """The runs of a study: the ones that are there by their tags are gone on with."""

    def __init__(self, client: Any, study: Folder) -> None:
        """Raises MlflowException."""
        self._client, self._study = client, study
        found = client.get_experiment_by_name(study.name)
        self._experiment = found.experiment_id if found else client.create_experiment(study.name)
        runs = [*self._found()]
        self._runs = {int(run.data.tags[TRIAL]): run.info.run_id for run in runs}
        self.ended = {
            int(run.data.tags[TRIAL]) for run in runs if run.info.status not in ("RUNNING",)
        }
        self._there: dict[int, set[tuple[str, int]]] = {}  # of the trials that were written to
        self._begin: dict[int, int] = {}  # of their runs, in ms

    def show(self, record: Record, rows: Rows) -> None:
        metrics = {(name, r["epoch"]): x for r in rows for name, x in r["metrics"].items()}
        self._log(record, metrics, rows)

    def end(self, record: Record) -> None:
        """At the last epoch also scores, audit and seconds; as tags what is no number."""
        from mlflow.entities import RunTag

        cells, trial = row(self._study, record), record.trial.id
        numbers = {
            n: x for n, x in cells.items() if n.startswith(("scores.", "audit.", "seconds."))
        }
        last = {"score": cells["score"], **numbers}
        epoch = record.trial.budget
        self._log(record, {(name, epoch): x for name, x in last.items() if x is not None})
        tags = {
            n: x for n, x in cells.items() if x is not None and "." not in n.replace("failure.", "")
        }
        self._client.log_batch(
            self._runs[trial], tags=[RunTag(f"hpogen.{name}", str(x)) for name, x in tags.items()]
        )
        if record.state == "told":
            failed = "KILLED" if record.pruned else "FAILED"
            status = failed if record.failure else "FINISHED"
            self._client.set_terminated(self._runs[trial], status)
            del self._there[trial], self._begin[trial]

    def answer(self, record: Record) -> None:
        """As tags of the experiment, the latest study's of that name; and of the run."""
        texts = {
            STUDY: self._study.history.id,
            ANSWER: str(record.trial.id),
            f"{ANSWER}.score": repr(record.score),
            f"{ANSWER}.config": canonical(record.trial.config),
            f"{ANSWER}.by": rule(self._study.spec),
        }
        for name, text in texts.items():
            self._client.set_experiment_tag(self._experiment, name, text)

    def close(self) -> None:
        """Nothing: each call was a request of its own."""

    def _found(self) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{STUDY}` = '{self._study.history.id}'",
                max_results=BATCH,
                page_token=token,
            )
            yield from page
            if not (token := page.token):
                return

    def _log(self, record: Record, metrics: Metrics, rows: Rows = ()) -> None:
        """Write those that are not there.

        Their times are what the run's begin and the seconds of training come to, the same in every
        try: a database takes none twice, also where its answer to the first try was lost.
        """
        from mlflow.entities import Metric

        there, trial = self._begun(record), record.trial.id
        times = _times(self._begin[trial], record, rows)
        new = [
            Metric(name, x, times[epoch], epoch)
            for (name, epoch), x in metrics.items()
            if (name, epoch) not in there
        ]
        for start in range(0, len(new), BATCH):
            self._client.log_batch(self._runs[trial], metrics=new[start : start + BATCH])
        there.update(metrics)

    def _begun(self, record: Record) -> set[tuple[str, int]]:
        """What is there of a trial, whose run is made where there is none."""
        from mlflow.entities import Param

        trial, client = record.trial.id, self._client
        if (there := self._there.get(trial)) is not None:
            return there
        if trial in self._runs:
            run = client.get_run(self._runs[trial])
        else:
            begin = int(1000 * (time.time() - _seconds(record)))
            run = client.create_run(self._experiment, begin, self._tags(record))
            self._runs[trial] = run.info.run_id
        self._begin[trial] = run.info.start_time
        missing = record.trial.config.keys() - run.data.params.keys()
        params = [Param(n, str(x)) for n, x in record.trial.config.items() if n in missing]
        for start in range(0, len(params), 100):  # that a server takes at once
            client.log_batch(run.info.run_id, params=params[start : start + 100])
        return self._there.setdefault(trial, {*self._history(run)})

    def _history(self, run: Any) -> Iterator[tuple[str, int]]:
        for name in run.data.metrics:
            for metric in self._client.get_metric_history(run.info.run_id, name):
                yield name, metric.step

    def _tags(self, record: Record) -> dict[str, str]:
        trial = record.trial
        return {
            STUDY: self._study.history.id,
            TRIAL: str(trial.id),
            "hpogen.study": self._study.name,
            "hpogen.seed": str(trial.seed),
            "mlflow.runName": f"trial {trial.id}",
        }


def _seconds(record: Record) -> float:
    """How long a trial has trained that has ended."""
    return record.outcome.seconds.get("total", 0.0) if record.outcome else 0.0


def _times(begin: int, record: Record, rows: Rows) -> dict[int, int]:
    """By epoch, in ms; of the last one, without rows, that of the end."""
    passed = itertools.accumulate(float(row.get("seconds", {}).get("total", 0.0)) for row in rows)
    found = {row["epoch"]: x for row, x in zip(rows, passed, strict=True)}
    found = found or {record.trial.budget: _seconds(record)}
    return {epoch: begin + int(1000 * x) + epoch for epoch, x in found.items()}


def opened(track: Track, study: Folder) -> Runs:
    """The study at the server or database that `track` names."""
    return Runs(_client(track.mlflow or ""), study)


def write(studies: Sequence[Folder], uri: str) -> None:
    """Add an experiment for each study, of its name, which must not be there.

    `uri` is a tracking server's (`http://host:5000`) or a database's (`sqlite:///mlflow.db`).
    Raises UserError where the package is missing, for a name that is taken, and for a place that
    cannot be written; what was written before stays there.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("--to mlflow: needs a package: pip install 'hpogen[mlflow]'")
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    try:
        for study in studies:
            if client.get_experiment_by_name(study.name) is not None:
                raise UserError(
                    f"--to: {shown(uri)} has an experiment {study.name!r} already: delete it "
                    "there, or name another place"
                )
        for study in studies:
            runs = Runs(client, study)
            for record in study.history.records:
                runs.show(record, curve(study, record))
                runs.end(record)
    except MlflowException as error:
        text = " ".join(str(error).replace(uri.rstrip("/"), shown(uri)).split())
        raise UserError(f"--to: {shown(uri)} cannot be used: {text}") from error


def _client(uri: str) -> Any:
    """Reaches for nothing yet."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own 7 take minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)
