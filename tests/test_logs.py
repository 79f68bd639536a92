"""The study's log file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hpogen.running.logs import logged

log = logging.getLogger("hpogen.study")


def test_what_comes_before_the_study_is_open_is_kept_for_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logged(tmp_path / "q") as begin:
        log.warning("version package=%s recorded=%s now=%s", "cma", "1", "2")
        assert not (tmp_path / "q").exists()
        (tmp_path / "q").mkdir()
        begin()
        log.info("ask trial=0")
        log.debug("nothing")
    log.warning("afterwards")
    lines = (tmp_path / "q" / "hpogen.log").read_text().splitlines()
    assert [line.split(" level=")[1] for line in lines] == [
        "WARNING version package=cma recorded=1 now=2",
        "INFO ask trial=0",
    ]
    assert capsys.readouterr().err == f"{tmp_path / 'q'}: version package=cma recorded=1 now=2\n"


def test_a_study_that_is_not_opened_leaves_no_log(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), logged(tmp_path):
        log.warning("replay")
        raise ValueError("no")
    assert [*tmp_path.iterdir()] == []
