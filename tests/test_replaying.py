"""Opening a folder again: earlier defaults stay, a long replay says so, Ctrl-C changes nothing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toys import study_file

from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.running import runner
from hpogen.spec import load_study
from hpogen.study import replay
from hpogen.study.open import loaded, open_studies, open_study
from hpogen.study.read import read

EARLIER = {"inertia": 0.9, "cognitive": 0.5, "social": 0.3}

SLOW = """
import os, signal
from hpogen.plugins import searcher
from hpogen.searchers.random import RandomSearcher

@searcher("interrupted")
class Interrupted(RandomSearcher):
    asked = 0

    def ask(self):
        self.asked += 1
        if self.asked == 4 and "INTERRUPT" in os.environ:
            os.kill(os.getpid(), signal.SIGINT)
        return super().ask()
"""


def test_a_study_of_earlier_defaults_goes_on_with_them(tmp_path: Path) -> None:
    written = {"name": "pso", "population": 4}
    old = study_file(tmp_path / "old", searcher={**written, **EARLIER})
    with open_study(old, tmp_path / "q") as study:
        study.next()
    path = study_file(tmp_path / "now", searcher=written)
    with open_study(path, tmp_path / "q") as study:
        assert {**study.spec.searcher.options} == {**study.spec.searcher.options, **EARLIER}
        runner.run(study)
    with open_study(old, tmp_path / "whole") as study:
        runner.run(study)
    asked, wanted = (
        [e["config"] for e in ledger.read(tmp_path / name) if e["kind"] == "asked"]
        for name in ("q", "whole")
    )
    assert asked == wanted
    spec = loaded(read(tmp_path / "q"))  # `hpogen resume`: no YAML
    assert spec.searcher.options["inertia"] == 0.9
    for opened in open_studies({tmp_path / "q": load_study(path)}):
        opened.close()


def test_a_new_study_has_the_new_defaults_and_a_written_one_counts(tmp_path: Path) -> None:
    path = study_file(tmp_path, searcher={"name": "pso", "population": 4})
    with open_study(path, tmp_path / "new") as study:
        assert study.spec.searcher.options["inertia"] == 0.729
    old = study_file(tmp_path, searcher={"name": "pso", "population": 4, **EARLIER})
    open_study(old, tmp_path / "old").close()
    other = study_file(tmp_path, searcher={"name": "pso", "population": 4, "inertia": 0.729})
    with pytest.raises(UserError, match=r"inertia: 0\.729, but the study in .* with 0\.9"):
        open_study(other, tmp_path / "old")


def test_a_long_replay_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = study_file(tmp_path)
    with open_study(path, tmp_path / "q") as study:
        runner.run(study)
    with caplog.at_level(logging.INFO, "hpogen"):
        open_study(path, tmp_path / "q").close()
        assert "replay" not in caplog.text  # it took no two seconds
        monkeypatch.setattr(replay, "SHOWN_AFTER", 0.0)
        open_study(path, tmp_path / "q").close()
    assert "replay trials=0 of=12 seconds=0" in caplog.text


def resume(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from hpogen.study import replay; replay.SHOWN_AFTER = 0.0\n"
        "from hpogen.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "resume", str(directory)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_ctrl_c_during_a_replay_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = study_file(tmp_path, searcher="interrupted", plugins=["bowl.py", "slow.py"])
    (tmp_path / "slow.py").write_text(SLOW)
    directory = tmp_path / "q"
    with open_study(path, directory) as study:
        for _ in range(6):
            study.next()

    def content() -> dict[str, bytes]:
        files = (file for file in directory.rglob("*") if file.is_file() and file.name != "lock")
        return {str(file): file.read_bytes() for file in files if "__pycache__" not in str(file)}

    before = content()
    stopped = resume(directory, INTERRUPT="1")
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert f"{directory}: replay trials=0 of=6" in stopped.stderr
    assert content() == before
    assert resume(directory).returncode == 0
