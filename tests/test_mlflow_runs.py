"""Trials as MLflow runs: the same values read back. Needs the extra `hpogen[mlflow]`.

While a study runs they are written to a real server on this machine, which is killed meanwhile.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from toys import StopsAfter, essence, study_file

from hpogen.errors import UserError
from hpogen.export import following
from hpogen.export.exporting import export
from hpogen.export.following import Following, follow
from hpogen.record import folder, ledger
from hpogen.record.history import read
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.spec.tracking import Track
from hpogen.study.study import Study

there = importlib.util.find_spec("mlflow") is not None
SERVES = ("mlflow", "flask", "flask_cors", "aiohttp")  # what MLflow's server imports of the whole
serves = all(importlib.util.find_spec(name) for name in SERVES)
needs_server = pytest.mark.skipif(not serves, reason=f"no server without {', '.join(SERVES)}")
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


class Server:
    """MLflow's own, of a database in a folder, which can be killed and come again."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = f"sqlite:///{self._home}/mlflow.db"
        options = ["--backend-store-uri", store, "--port", str(self.port), "--workers", "1"]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self._home / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                env={**os.environ, **quiet},
                cwd=self._home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health") as answer:
                assert answer.read() == b"OK"
                return
            time.sleep(0.2)
        raise AssertionError((self._home / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """With its workers."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    yield server
    server.kill()


def check_whole(directory: Path, url: str) -> None:
    """Every trial is there once, with each epoch of its curve once, its score and its end."""
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("study")
    runs = {
        run_.data.tags["hpogen.trial"]: run_
        for run_ in client.search_runs([experiment.experiment_id])
    }
    records = read(directory).records
    assert len(runs) == len(records) == len(client.search_runs([experiment.experiment_id]))
    for record in records:
        one = runs[str(record.trial.id)]
        assert one.data.params == {name: str(x) for name, x in record.trial.config.items()}
        assert one.info.status == ("FAILED" if record.failure else "FINISHED")
        rows = folder.read_curve(directory, record.trial.id)
        for name in rows[0]["metrics"] if rows else ():
            logged = client.get_metric_history(one.info.run_id, name)
            assert sorted((m.step, m.value) for m in logged) == [
                (row["epoch"], row["metrics"][name]) for row in rows
            ]
        scores = client.get_metric_history(one.info.run_id, "score")
        assert [m.value for m in scores] == ([] if record.failure else [record.score])
    best = min(records, key=lambda record: record.score)
    assert experiment.tags["hpogen.answer"] == str(best.trial.id)
    assert float(experiment.tags["hpogen.answer.score"]) == best.score


@pytest.mark.slow
@needs_server
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_study_is_shown_while_it_runs_whatever_becomes_of_the_server(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead at the beginning, killed in the middle, and the study broken off and gone on with."""
    monkeypatch.setattr(following, "AGAIN_SECONDS", (0.2, 1.0))
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    task = {"name": "bowl", "epochs": 3, "mood": "raises", "pause": 0.05}
    spec = load_study(study_file(tmp_path, task=task, track={"mlflow": server.url}))
    over, told = threading.Event(), list[dict[str, Any]]()

    def shown() -> threading.Thread:
        over.clear()
        one = Following(tmp_path / "q", Track(mlflow=server.url), "mlflow")
        thread = threading.Thread(target=follow, args=([one], over, told.append))
        thread.start()
        return thread

    def wait_for(error: bool) -> None:
        told.clear()
        while not any(bool(news["error"]) == error for news in told[:]):
            time.sleep(0.05)

    with Study(spec, tmp_path / "q") as study:
        thread = shown()
        run(study, observer=StopsAfter(9))
        wait_for(error=True)  # there is no server
        assert "Connection" in told[-1]["error"]
        server.start()
        wait_for(error=False)
        run(study, observer=StopsAfter(6))
        server.kill()
        run(study, observer=StopsAfter(5))
        wait_for(error=True)
        over.set()
        thread.join()
    server.start()
    with Study(spec, tmp_path / "q") as study:
        thread = shown()
        assert run(study).end == "finished"
        over.set()
        thread.join()
        assert told[-1] == {"left": 0, "error": ""}
    check_whole(tmp_path / "q", server.url)
    with Study(load_study(study_file(tmp_path, task=task)), tmp_path / "plain") as study:
        run(study)
    events = [essence(ledger.read(tmp_path / name)) for name in ("q", "plain")]
    assert events[0][1:] == events[1][1:]


@pytest.mark.slow
@needs_server
@pytest.mark.filterwarnings("ignore")
def test_driver_and_tracker_killed_at_random_moments(tmp_path: Path, server: Server) -> None:
    """The resumed study is there whole, and nothing twice."""
    server.start()
    task = {"name": "bowl", "epochs": 3, "pause": 0.1}
    path = study_file(tmp_path, task=task, stop={"trials": 30}, track={"mlflow": server.url})
    command = [sys.executable, "-m", "hpogen", "run", path, "--dir", tmp_path / "q"]
    killed = 0
    for seconds in (13.0, 16.0, 14.5, 15.0):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            with suppress(subprocess.TimeoutExpired):
                one.wait(seconds)
            killed += one.poll() is None
            one.kill()
    assert killed
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "track." not in done.stderr
    check_whole(tmp_path / "q", server.url)
