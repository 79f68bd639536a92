"""A cluster that asks for Ray's token, and programs that have none or another."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_processes import Sandbox, sandbox
from toys import study_file

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
RIGHT, WRONG = "a" * 64, "b" * 64
COPY = "copy ~/.ray/auth_token of the cluster's head to this machine"
ASKS = "the cluster asks for Ray's token, and"


def keep_token(home: Path, token: str) -> None:
    (home / ".ray").mkdir(parents=True)
    if token:
        (home / ".ray" / "auth_token").write_text(token)


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Sandbox, str]]:
    """A cluster of one node that asks for a token, and its address."""
    with sandbox() as place:
        keep_token(place.home, RIGHT)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place.environment["RAY_AUTH_MODE"] = "token"
        place.ray("--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false")
        del place.environment["RAY_AUTH_MODE"]
        yield place, f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("token", "variables", "last"),
    [
        ("", {}, f"Ray's token is not here: {COPY}"),
        ("", {"RAY_AUTH_MODE": "token"}, f"Ray's token is not here: {COPY}"),
        (WRONG, {}, f"{ASKS} that of this machine is another: {COPY}"),
        (
            RIGHT,
            {"RAY_AUTH_MODE": "disabled"},
            f"{ASKS} RAY_AUTH_MODE=disabled keeps it back: unset",
        ),
        (WRONG, {"RAY_AUTH_TOKEN": RIGHT}, ""),
    ],
)
def test_the_last_line_names_the_token(
    guarded: tuple[Sandbox, str],
    token: str,
    variables: dict[str, str],
    last: str,
    tmp_path: Path,
) -> None:
    place, address = guarded
    keep_token(tmp_path / "home", token)
    study = study_file(tmp_path, stop={"trials": 1})
    words = ["run", str(study), "--dir", str(tmp_path / "run"), "--ray", address]
    done = subprocess.run(
        [sys.executable, "-m", "hpogen", *words],
        env={**place.environment, "HOME": str(tmp_path / "home"), **variables},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == (2 if last else 0)
    said = done.stderr.splitlines()
    assert len(said) == bool(last)
    assert done.stderr.startswith(f"--ray {address}: {last}" if last else "")
