"""The commands after a study, as they are typed: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_kill import IMAGES
from toys import study_file, typed

MATRIX = {
    "objective": ["val", {"preset": "agn+val", "alpha": 0.05, "scale": "log"}],
    "seed": [0, 1],
}
KEYS = {key: x for key, x in IMAGES.items() if key not in ("searcher", "objective")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A matrix of four studies of five trials each."""
    path = study_file(tmp_path, **KEYS, searcher="random", matrix=MATRIX, primary="val - agn+val")
    assert typed("run", path, "--dir", tmp_path / "m", "--set", "stop={trials: 5}") == 0
    return tmp_path / "m"


def test_after_a_matrix(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = home / "val__seed-0"
    capsys.readouterr()

    assert typed("compare", home, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found["arms"]) == ["agn+val", "val"]
    assert found["primary"] == ["val", "agn+val"]  # as the YAML declares it
    assert typed("compare", home, "--primary", "val - vall") == 2
    assert "'val'" in capsys.readouterr().err

    other = home / "agn+val__seed-0"
    assert typed("rescore", other, "--alphas", "0,1", "--plot", tmp_path / "a.svg", "--json") == 0
    assert [at["alpha"] for at in json.loads(capsys.readouterr().out)["alphas"]] == [0, 1]
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    assert typed("rescore", one, "--validation", "ten") == 2
    assert "--validation: got 'ten'" in capsys.readouterr().err

    assert typed("best", one, "--selection", "val_accuracy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trial"] in range(5)

    assert typed("retrain", one, "--seeds", "1") == 0
    assert "test accuracy" in capsys.readouterr().out
    assert typed("retrain", one, "--seeds", "0") == 2
    assert "--seeds: got 0" in capsys.readouterr().err

    assert typed("export", home, "--to", tmp_path / "t.csv") == 0
    assert capsys.readouterr().out == f"20 trials written to {tmp_path / 't.csv'}\n"
    assert typed("export", home, "--to", tmp_path / "t.xls") == 2

    new = study_file(tmp_path / "new", **KEYS, searcher="random")
    assert typed("fork", one, new, "--dir", tmp_path / "forked") == 0
    assert "5 configurations enqueued, 5 outcomes reused" in capsys.readouterr().out


def test_event_files(tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"trials": 2})
    assert typed("run", path, "--dir", tmp_path / "run", "--tensorboard") == 0
    files = [*(tmp_path / "run/tensorboard").glob("*/events*")]
    assert sorted(file.parent.name for file in files) == ["00000", "00001", "answer"]
