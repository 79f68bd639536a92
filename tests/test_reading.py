"""Commands that read a folder read its ledger once, and run no code of its plug-ins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_retraining import KEYS
from toys import study_file

from hpogen.record import ledger
from hpogen.record.ledger import Contents
from hpogen.running.fork import fork
from hpogen.study.open import loaded
from hpogen.study.read import read
from hpogen.study.study import Study

ROOT = Path(__file__).parents[1]
AGN = {"preset": "agn+val", "alpha": 0.05, "scale": "log"}
MARK = """
import pathlib
with pathlib.Path(__file__).with_name("marks").open("a") as file:
    file.write("x")
"""
PARTS = """
from hpogen.plugins import measure, model
@measure("mine", metrics=("mine_now",), of="network")
def mine(network, batches):
    return {"mine_now": float(sum(p.abs().sum() for p in network.parameters()))}
@model("tiny")
def tiny(in_shape, classes, *, wide: int = 8):
    from torch import nn
    c, h, w = in_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, wide), nn.Linear(wide, classes))
"""
IMAGES: dict[str, Any] = {
    **KEYS,
    "task": {**KEYS["task"], "model": {"name": "tiny"}, "measures": ["agn", "mine"]},
    "plugins": ["parts.py"],
    "objective": {"terms": [{"metric": "val_loss"}, {"metric": "mine_now", "weight": 0.01}]},
}
TYPED = """
import contextlib, io, json, sys
from hpogen.cli import main
told = {}
for words in json.loads(sys.argv[1]):
    sys.argv, out = ["hpogen", *words], io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    told[" ".join(words)] = out.getvalue()
print(json.dumps([told, "torch" in sys.modules]))
"""


def typed(*commands: list[str], cwd: Path) -> tuple[dict[str, str], bool]:
    """What the commands print in a process of their own, and whether torch was imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", TYPED, json.dumps(commands)]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, check=True)
    told, torch = json.loads(done.stdout)
    return told, torch


def reading(study: str, whole: str) -> list[list[str]]:
    return [
        ["status", whole, "--json"],
        ["best", study, "--json"],
        ["best", study, "--selection", "val_loss", "--json"],
        ["show", study, "1", "--json"],
        ["compare", whole, "--json"],
        ["rescore", study, "--json"],
        ["rescore", study, "--objective", "[{metric: agn, scale: per_epoch}]", "--json"],
        ["export", whole, "--to", "table.csv"],
        ["report", whole],
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`, whose searcher learns; `many`, a matrix; `images` with parts of its own, retrained."""
    home = tmp_path_factory.mktemp("reading")
    rungs = {"task": {"name": "bowl", "epochs": 4}, "budgets": {"min": 1, "max": 4, "eta": 2}}
    study_file(home / "a", objective=AGN, searcher="asha", **rungs)
    study_file(home / "b", matrix={"objective": ["val", AGN], "seed": [0, 1]})
    study_file(home / "c", **IMAGES)
    (home / "c" / "parts.py").write_text(PARTS)
    for path in home.glob("*/*.py"):
        path.write_text(MARK + path.read_text())
    typed(
        ["run", "a/study.yaml", "--dir", "one"],
        ["run", "b/study.yaml", "--dir", "many"],
        ["run", "c/study.yaml", "--dir", "images", "--device", "cpu"],
        ["retrain", "images", "--seeds", "1", "--device", "cpu"],
        cwd=home,
    )
    assert (home / "images" / "retrain" / "baseline-default" / "ledger.jsonl").exists()
    return home


def marks(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("marks"))


FOLDERS = [
    ("one", "one"),
    pytest.param("many/val__seed-0", "many", marks=pytest.mark.slow),
    pytest.param("images", "images", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("study", "whole"), FOLDERS)
def test_reading_runs_no_code(home: Path, tmp_path: Path, study: str, whole: str) -> None:
    shutil.copytree(home / whole, tmp_path / whole)
    unread = {path: path.read_bytes() for path in tmp_path.rglob("ledger.jsonl")}
    before = marks(home)
    there, torch = typed(*reading(study, whole), cwd=tmp_path)
    assert not torch and marks(home) + marks(tmp_path) == before
    assert all(there.values())
    table, page = tmp_path / "table.csv", tmp_path / "report.html"
    files = table.read_text(), len(page.read_text())
    for path, content in unread.items():  # without the looks at audit figures
        path.write_bytes(content)
    for path in [*tmp_path.rglob("plugins"), *(home / whole).rglob("plugins")]:
        shutil.rmtree(path)
    gone = home.rename(home.with_name("elsewhere"))  # and with it the originals
    try:
        assert typed(*reading(study, whole), cwd=tmp_path) == (there, False)
        assert (table.read_text(), len(page.read_text())) == files
    finally:
        gone.rename(home)


def test_without_declarations_an_older_ledger_says_the_same(home: Path, tmp_path: Path) -> None:
    for name in ("one", "images"):
        shutil.copytree(home / name, tmp_path / name)
        commands = reading(name, name)[:7]
        ledgers = (tmp_path / name).rglob("ledger.jsonl")
        unread = {path: ledger.read(path.parent) for path in ledgers}
        told, _ = typed(*commands, cwd=tmp_path)
        for path, events in unread.items():  # without the looks at audit figures
            assert events[0].pop("declared")
            path.write_bytes(b"".join(ledger.encode(e, seq) for seq, e in enumerate(events)))
        assert read(tmp_path / name).spec.objective.sums >= ({"agn"} if name == "one" else set())
        assert typed(*commands, cwd=tmp_path)[0] == told


def test_what_trains_imports_the_plug_ins(home: Path) -> None:
    before = marks(home)
    spec = loaded(read(home / "one"))
    assert marks(home) == before + 1
    with Study(spec, home / "one") as study:
        assert study.history.records


@pytest.mark.parametrize(("study", "whole"), FOLDERS)
def test_each_ledger_is_read_once(
    home: Path, study: str, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from hpogen.cli import launching, looking, results
    from hpogen.cli.app import app

    assert launching and looking and results
    seen: Counter[Path] = Counter()
    parse = ledger.parse

    def counted(data: bytes, path: Path) -> Contents:
        seen[path] += 1
        return parse(data, path)

    monkeypatch.setattr(ledger, "parse", counted)
    monkeypatch.chdir(home)
    studies = {p / "ledger.jsonl" for p in [Path(whole), *Path(whole).iterdir()] if p.is_dir()}
    for words in [*reading(study, whole), ["status", whole], ["show", study, "0"]]:
        seen.clear()
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0 or "agn" in words[-2], done.output
        assert set(seen.values()) == {1}, words
        assert {*seen} & studies


def test_a_fork_reads_the_old_ledger_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    parse = ledger.parse
    monkeypatch.setattr(
        ledger, "parse", lambda data, path: (seen.append(path), parse(data, path))[1]
    )
    new = study_file(tmp_path / "new", objective="val", task={"name": "bowl", "epochs": 4})
    (tmp_path / "new" / "bowl.py").write_text((home / "a" / "bowl.py").read_text())
    fork(home / "one", new, tmp_path / "n")
    assert seen.count(home / "one" / "ledger.jsonl") == 1
