"""The commands after a study, as they are typed: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_kill import IMAGES
from toys import study_file

from hpogen.cli import main

Type = Callable[..., int]
MATRIX = {
    "objective": ["val", {"preset": "agn+val", "alpha": 0.05, "scale": "log"}],
    "seed": [0, 1],
}
KEYS = {key: x for key, x in IMAGES.items() if key not in ("searcher", "objective")}


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch) -> Type:
    def typed(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["hpogen", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return typed


@pytest.fixture
def home(type_: Type, tmp_path: Path) -> Path:
    """A matrix of four studies of five trials each."""
    path = study_file(tmp_path, **KEYS, searcher="random", matrix=MATRIX, primary="val - agn+val")
    assert type_("run", path, "--dir", tmp_path / "m", "--set", "stop={trials: 5}") == 0
    return tmp_path / "m"


def test_after_a_matrix(
    type_: Type, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = home / "val__seed-0"
    capsys.readouterr()

    assert type_("compare", home, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found["arms"]) == ["agn+val", "val"]
    assert found["primary"] == ["val", "agn+val"]  # as the YAML declares it
    assert type_("compare", home, "--primary", "val - vall") == 2
    assert "'val'" in capsys.readouterr().err

    other = home / "agn+val__seed-0"
    assert type_("rescore", other, "--alphas", "0,1", "--plot", tmp_path / "a.svg", "--json") == 0
    assert [at["alpha"] for at in json.loads(capsys.readouterr().out)["alphas"]] == [0, 1]
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    assert type_("rescore", one, "--validation", "ten") == 2
    assert "--validation: got 'ten'" in capsys.readouterr().err

    assert type_("best", one, "--selection", "val_accuracy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trial"] in range(5)

    assert type_("retrain", one, "--seeds", "1") == 0
    assert "test accuracy" in capsys.readouterr().out
    assert type_("retrain", one, "--seeds", "0") == 2
    assert "--seeds: got 0" in capsys.readouterr().err

    assert type_("export", home, "--to", tmp_path / "t.csv") == 0
    assert capsys.readouterr().out == f"20 trials written to {tmp_path / 't.csv'}\n"
    assert type_("export", home, "--to", tmp_path / "t.xls") == 2

    new = study_file(tmp_path / "new", **KEYS, searcher="random")
    assert type_("fork", one, new, "--dir", tmp_path / "forked") == 0
    assert "5 configurations enqueued, 5 outcomes reused" in capsys.readouterr().out


def test_event_files(type_: Type, tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"trials": 2})
    assert type_("run", path, "--dir", tmp_path / "run", "--tensorboard") == 0
    files = [*(tmp_path / "run/tensorboard").glob("*/events*")]
    assert sorted(file.parent.name for file in files) == ["00000", "00001"]
