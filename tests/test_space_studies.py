"""Studies over steps, ordinals, null, priors and forbidden combinations: from YAML to the pages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from toys import study_file, typed

from hpogen.analysis.importance import importance
from hpogen.export.exporting import export
from hpogen.record import ledger
from hpogen.record.history import read
from hpogen.report.html.page import write_report
from hpogen.running.fork import fork
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import canonical

SPACE: dict[str, Any] = {
    "x": {"float": [0, 1], "step": 0.05, "default": 0.5},
    "y": {"int": [10, 1000], "step": 10, "default": 30},
    "size": {"choice": ["s", None, "l"], "ordered": True},
    "decay": {"choice": [None, 0.1, "auto"], "when": {"size": [None, "l"]}},
    "forbid": ["size == 'l' and x > 0.6", "decay == null and y > 500"],
}
PRIOR: dict[str, Any] = {
    **SPACE,
    "x": {"float": [0, 1], "prior": {"center": 0.4, "width": 0.2}},
}


def studied(directory: Path, trials: int = 24, **keys: Any) -> Path:
    path = study_file(directory, **{"search_space": SPACE, **keys})
    with Study(load_study(path, [f"stop.trials={trials}"]), directory / "q") as study:
        assert run(study).end == "finished"
    return directory / "q"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studied(tmp_path_factory.mktemp("done"))


def test_the_ledger_keeps_null_and_a_study_without_the_keys_has_none_of_them(
    done: Path, tmp_path: Path
) -> None:
    past = read(done)
    assert past.header["spec"]["search_space"]["forbid"] == SPACE["forbid"]
    configs = [record.trial.config for record in past.records]
    assert any(config["size"] is None for config in configs)
    assert any("decay" not in config for config in configs)
    plain = read(studied(tmp_path, search_space={"x": {"float": [0, 1]}, "y": {"int": [1, 9]}}))
    assert plain.header["spec"]["search_space"] == {
        "x": {"float": [0.0, 1.0], "log": False, "default": 0.5},
        "y": {"int": [1, 9], "log": False, "default": 5},
    }


def test_a_table_tells_a_chosen_null_from_what_is_not_there(done: Path, tmp_path: Path) -> None:
    export(done, str(tmp_path / "t.parquet"))
    frame = pd.read_parquet(tmp_path / "t.parquet")
    for i, record in enumerate(read(done).records):
        config = record.trial.config
        for name in ("size", "decay"):
            cell = frame[f"config.{name}"][i]
            assert pd.isna(cell) if name not in config else json.loads(cell) == config[name]


def test_optuna_takes_the_study(done: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'o.db'}"
    export(done, url)
    copy = optuna.load_study(study_name=optuna.get_all_study_names(url)[0], storage=url)
    assert [t.params for t in copy.trials] == [dict(r.trial.config) for r in read(done).records]
    assert copy.trials[0].distributions["x"] == optuna.distributions.FloatDistribution(
        0, 1, step=0.05
    )
    assert copy.trials[0].distributions["y"] == optuna.distributions.IntDistribution(
        10, 1000, step=10
    )


def test_the_pages_show_null_and_the_order(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = next(r.trial.id for r in read(done).records if r.trial.config.get("decay", 0) is None)
    for words in (["status", done], ["compare", done], ["best", done]):
        typed(*words)
    assert "None" not in capsys.readouterr().out
    typed("show", done, trial)
    assert "  decay: null\n" in capsys.readouterr().out
    page = write_report([done], done.parent / "r.html").read_text()
    assert "null" in page and "None" not in page.replace("NoneType", "")


def test_importance_reads_every_kind(done: Path) -> None:
    space = load_study(done.parent / "study.yaml").space
    records = read(done).told()
    found = importance(space, [([r.trial.config for r in records], [r.score for r in records])])
    assert found is not None and found.trials == 24
    assert {one.parameter for one in found.parameters} == {"x", "y", "size", "decay"}


def test_a_fork_leaves_out_what_is_forbidden_now(done: Path, tmp_path: Path) -> None:
    space = {**SPACE, "forbid": [*SPACE["forbid"], "x > 0.7", "size == 'l'"]}
    new = study_file(tmp_path / "new", search_space=space)
    found = fork(done, new, tmp_path / "n", ["stop.trials=40"])
    configs = {canonical(r.trial.config): r.trial.config for r in read(done).records}
    allowed = [c for c in configs.values() if c["x"] <= 0.7 and c["size"] != "l"]  # type: ignore[operator]
    assert (found.enqueued, found.outside) == (len(allowed), len(configs) - len(allowed))
    assert 0 < found.reused == len(allowed) < len(configs)


@pytest.mark.parametrize(
    ("searcher", "space"),
    [
        ("random", PRIOR),
        ({"name": "cmaes", "population": 5}, PRIOR),
        ("optuna", PRIOR),
        ({"name": "pso", "population": 4}, {k: v for k, v in SPACE.items() if k != "decay"}),
    ],
)
def test_a_study_that_is_stopped_goes_on_with_the_same_trials(
    tmp_path: Path, searcher: Any, space: dict[str, Any]
) -> None:
    space = {**space, "forbid": ["size == 'l' and x > 0.6"]}
    keys = {"searcher": searcher, "search_space": space}
    whole = studied(tmp_path / "whole", 20, **keys)
    for trials in (7, 20):
        parts = studied(tmp_path / "parts", trials, **keys)
    one, other = (read(folder) for folder in (whole, parts))
    assert [r.trial for r in one.records] == [r.trial for r in other.records]
    assert [r.score for r in one.records] == [r.score for r in other.records]


@pytest.mark.slow
def test_a_killed_study_is_the_undisturbed_one(tmp_path: Path) -> None:
    keys = {
        "searcher": {"name": "cmaes", "population": 5},
        "search_space": PRIOR,
        "task": {"name": "bowl", "epochs": 2, "pause": 0.005},
    }
    whole = studied(tmp_path / "whole", 40, **keys)
    path = study_file(tmp_path / "killed", stop={"trials": 40}, **keys)
    folder = tmp_path / "killed" / "q"
    program = [sys.executable, "-m", "hpogen", "run", path, "--dir", folder]
    for at in (5, 17, 29):
        with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as it:
            lines = 0
            while lines < at and it.poll() is None:
                time.sleep(0.005)
                if (folder / ledger.LEDGER).exists():
                    lines = (folder / ledger.LEDGER).read_bytes().count(b'"kind":"told"')
            os.kill(it.pid, signal.SIGKILL)
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    one, other = (read(home) for home in (whole, folder))
    assert [r.trial for r in one.records] == [r.trial for r in other.records]
    assert [r.score for r in one.records] == [r.score for r in other.records]
    assert len(one.records) == 40


def problem(tmp_path: Path, capsys: pytest.CaptureFixture[str], **keys: Any) -> str:
    study_file(tmp_path, **keys)
    assert typed("check", tmp_path / "study.yaml") == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"search_space": {**SPACE, "forbid": ["x > 0.9", "xx > 0.6"]}},
            "search_space.forbid.1: parameter 'xx' is unknown; did you mean 'x'?",
        ),
        (
            {"search_space": SPACE, "enqueue": [{"size": "l", "x": 0.7}]},
            "enqueue.0: got {'size': 'l', 'x': 0.7}, which search_space.forbid rules out: size ==",
        ),
        (
            {"search_space": SPACE, "baselines": {"book": {"size": "l", "x": 0.7}}},
            "baselines.book: got {'size': 'l', 'x': 0.7}, which search_space.forbid rules out",
        ),
        (
            {"search_space": PRIOR, "searcher": "pso"},
            "searcher: pso: 'x' has a prior, which pso does not honour: leave it out, or take ran",
        ),
        (
            {"search_space": SPACE, "searcher": "pso"},
            "searcher: pso: 'decay' is a choice without an order",
        ),
        ({"forbid": ["x > 0.5"]}, "did you mean search_space.forbid?"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, Any], text: str
) -> None:
    said = problem(tmp_path, capsys, **keys)
    assert text in said
    assert "study.yaml:1:" in said
