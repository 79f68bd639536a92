"""Trials as MLflow runs: the same values read back. Needs the extra `hpogen[mlflow]`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from toys import study_file

from hpogen.errors import UserError
from hpogen.export.exporting import export
from hpogen.record import folder
from hpogen.record.history import read
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

there = importlib.util.find_spec("mlflow") is not None
needs_mlflow = pytest.mark.skipif(not there, reason="mlflow is not installed: hpogen[mlflow]")


def searched(directory: Path) -> Path:
    path = study_file(directory, task={"name": "bowl", "epochs": 3, "mood": "raises"})
    with Study(load_study(path), directory / "q") as study:
        run(study)
    with Study(load_study(path, ["stop.trials=13"]), directory / "q") as study:
        assert study.next() is not None
    return directory / "q"


@pytest.mark.slow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_runs_read_back_with_the_same_values(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    directory = searched(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert export(directory, f"mlflow:{uri}") == 13
    client: Any = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    runs = {run_.info.run_name: run_ for run_ in found}
    assert len(runs) == 13
    for record in read(directory).records:
        one = runs[f"trial {record.trial.id}"]
        config = {name: str(value) for name, value in record.trial.config.items()}
        assert one.data.params == config
        assert one.data.tags["hpogen.seed"] == str(record.trial.seed)
        for name in ("val_loss", "agn"):
            logged = client.get_metric_history(one.info.run_id, name)
            rows = folder.read_curve(directory, record.trial.id)
            assert [(m.step, m.value) for m in logged] == [
                (row["epoch"], row["metrics"][name]) for row in rows
            ]
        status = {"told": "FAILED" if record.failure else "FINISHED", "running": "RUNNING"}
        assert one.info.status == status[record.state]
        if one.info.status == "FINISHED":
            assert one.data.metrics["score"] == record.score
    with pytest.raises(UserError, match="has an experiment 'study' already"):
        export(directory, f"mlflow:{uri}")


@pytest.mark.skipif(there, reason="mlflow is installed")
def test_the_package_is_named_where_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pip install 'hpogen\[mlflow\]'"):
        export(searched(tmp_path), "mlflow:http://127.0.0.1:9")
