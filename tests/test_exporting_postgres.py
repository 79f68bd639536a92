"""A study exported to PostgreSQL: a real server, which the test starts where one is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from toys import study_file

from hpogen.errors import UserError
from hpogen.export.exporting import export
from hpogen.record.history import read
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

PLACES = [
    Path(shutil.which("initdb") or "initdb").parent,
    *Path("/usr/lib/postgresql").glob("*/bin"),
]
BINARIES = next((place for place in PLACES if (place / "initdb").exists()), None)
USER = "postgres"  # its programs do not run as root
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Optuna leaves its connections open
    pytest.mark.skipif(BINARIES is None, reason="PostgreSQL is not installed: no initdb"),
    pytest.mark.skipif(not importlib.util.find_spec("psycopg"), reason="psycopg is not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a database of its own, on the loopback address."""
    assert BINARIES is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's folders are its user's alone
    root = os.geteuid() == 0
    if root and USER not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"root cannot run PostgreSQL, and there is no user {USER!r}")
    if root:
        shutil.chown(home, USER)

    def call(*words: object) -> None:
        subprocess.run(
            [*map(str, words)],
            check=True,
            user=USER if root else None,
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    data, log = home / "data", home / "log"
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        call(BINARIES / "initdb", "-D", data, "-A", "trust", "-U", USER, "--no-sync")
        call(BINARIES / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
    finally:
        if (data / "postmaster.pid").exists():
            call(BINARIES / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home)


def test_every_trial_comes_back(tmp_path: Path, server: str) -> None:
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 3, "mood": "raises"})
    with Study(load_study(path), tmp_path / "q") as study:
        run(study)
    assert export(tmp_path / "q", server) == 12
    found = optuna.load_study(study_name="study", storage=server)
    for trial, record in zip(found.trials, read(tmp_path / "q").records, strict=True):
        assert (trial.number, trial.params) == (record.trial.id, dict(record.trial.config))
        assert trial.state == (TrialState.FAIL if record.failure else TrialState.COMPLETE)
        assert trial.value == (None if record.failure else record.score)
        assert len(trial.intermediate_values) == (0 if record.failure else 3)
    with pytest.raises(UserError, match="has a study 'study' already"):
        export(tmp_path / "q", server)


def test_a_server_that_refuses_is_one_line(tmp_path: Path, server: str) -> None:
    with Study(load_study(study_file(tmp_path)), tmp_path / "q") as study:
        run(study)
    missing = server.replace("postgres@", "me:secret@")
    with pytest.raises(UserError, match=r"me:\*\*\*@.* cannot be used: ") as raised:
        export(tmp_path / "q", missing)
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
