"""hpogen's searchers in a real Hydra app, that is killed and goes on. Needs `hpogen[hydra]`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import hpogen
from hpogen.errors import UserError
from hpogen.integrations.journal import Journal
from hpogen.integrations.search import Search, define
from hpogen.space import Space
from hpogen.spec.form import USUAL
from hpogen.trial import Config

hydra = pytest.importorskip("hydra", reason="hydra is not installed: hpogen[hydra]")

from hpogen.integrations.hydra import Options, overrides_of, space_of  # noqa: E402

APP = """
import math, time
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    time.sleep(cfg.pause)
    if cfg.mood == "fails":
        raise RuntimeError("not in the mood")
    if cfg.mood == "none":
        return None
    loss = (math.log10(cfg.lr) + 2) ** 2 + (cfg.net.width / 100 - 1) ** 2
    return {"loss": loss, "accuracy": -loss} if cfg.mood == "mapping" else loss

if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults: [_self_, {opt: sgd}]
lr: 0.1
net: {width: 64}
pause: 0.0
mood: good
"""
SWEEPS = ["lr=tag(log, interval(1e-4, 1))", "net.width=range(8, 256)"]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "opt").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    for name in ("sgd", "adam"):
        (tmp_path / "conf" / "opt" / f"{name}.yaml").write_text(f"name: {name}\n")
    (tmp_path / "train.py").write_text(APP)
    return tmp_path


def command(app: Path, *words: str, searcher: str = "cmaes", trials: int = 8) -> list[Any]:
    own = [f"hydra.sweeper.searcher={searcher}", f"hydra.sweeper.trials={trials}"]
    module = [sys.executable, "-m", "hpogen.integrations.hydra", app / "train.py", "-m"]
    return [*module, "hydra/sweeper=hpogen", *own, "hydra.sweep.dir=out", *words]


def run(app: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(app, *words, **more), cwd=app, capture_output=True, text=True, check=False
    )


def journal(app: Path) -> list[dict[str, Any]]:
    (path,) = (app / "multirun" / "hpogen").iterdir()
    return [
        json.loads(line) for line in path.read_text().splitlines(keepends=True) if line[-1:] == "\n"
    ]


def asked(app: Path) -> list[Config]:
    return [line["config"] for line in journal(app) if "asked" in line]


def proposed(space: dict[str, Any], trials: int, **options: Any) -> list[Config]:
    """By the searcher alone, told the app's losses one by one."""
    import math

    search = define("test", space, "cmaes", 0, None, options)
    searcher, configs = search.make(), list[Config]()
    while len(configs) < trials:
        proposal = searcher.ask()
        assert proposal is not None
        lr, width = (float(proposal.config[name]) for name in ("lr", "net.width"))  # type: ignore[arg-type]
        searcher.tell(len(configs), (math.log10(lr) + 2) ** 2 + (width / 100 - 1) ** 2)
        configs.append(dict(proposal.config))
    return configs


SPACE = {
    "lr": {"float": [1e-4, 1.0], "log": True, "default": 0.1},
    "net.width": {"int": [8, 255], "default": 64},
}


@pytest.mark.slow
def test_an_app_beside_an_installed_hpogen_stays_as_it_is(app: Path) -> None:
    """Hydra itself finds what the wheel has in `hydra_plugins`."""
    words = [*map(str, command(app, *SWEEPS, trials=3))]
    words = [words[0], *words[3:]]  # without `-m hpogen.integrations.hydra`
    installed = Path(hpogen.__file__).parent / "integrations" / "namespaces"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(words, cwd=app, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert asked(app) == proposed(SPACE, 3)


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_with_the_same_trials(app: Path) -> None:
    killed = 0
    while killed < 3:
        with subprocess.Popen(
            command(app, "pause=0.2", *SWEEPS, trials=14),
            cwd=app,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            there = len(journal(app)) if killed else 0
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if (app / "multirun" / "hpogen").exists() and len(journal(app)) >= there + 5:
                    break
                time.sleep(0.02)
            process.kill()
        killed += 1
    before = journal(app)
    done = run(app, "pause=0.2", *SWEEPS, trials=14)
    assert done.returncode == 0 and "goes on after" in done.stdout + done.stderr
    assert journal(app)[: len(before)] == before
    assert asked(app) == proposed(SPACE, 14)
    told = {line["told"]: line["score"] for line in journal(app) if "told" in line}
    best = min(told, key=lambda trial: told[trial])
    results = (app / "out" / "optimization_results.yaml").read_text()
    assert f"best_trial: {best}" in results and len(told) == 14
    again = run(app, "pause=0.2", *SWEEPS, trials=14)
    assert again.returncode == 0 and len(journal(app)) == 29


@pytest.mark.slow
def test_batches_groups_and_an_objective(app: Path) -> None:
    words = [*SWEEPS, "opt=sgd,adam", "mood=mapping", "hydra.sweeper.objective=accuracy"]
    done = run(
        app,
        *words,
        "hydra.sweeper.mode=max",
        "hydra.sweeper.max_batch_size=3",
        searcher="{name: optuna, sampler: TPESampler}",
        trials=6,
    )
    assert done.returncode == 0, done.stderr
    kinds = ["asked" if "asked" in line else "told" for line in journal(app)[1:]]
    assert kinds == (["asked"] * 3 + ["told"] * 3) * 2
    assert {config["opt"] for config in asked(app)} <= {"sgd", "adam"}
    assert all(line["score"] >= 0 for line in journal(app) if "told" in line)
    assert asked(app)[0]["lr"] == 0.1
    assert "best_value: -" in (app / "out" / "optimization_results.yaml").read_text()


MISTAKES = [
    (["lr=0.1"], "hydra/sweeper=hpogen: nothing is searched: give 'lr=interval(1e-4, 1)'"),
    ([*SWEEPS, "hydra.sweeper.searcher=cmase"], "'cmase' is unknown; did you mean 'cmaes'?"),
    ([*SWEEPS, "hydra.sweeper.searcher=hyperband"], "several budgets, which a job has not: use"),
    ([*SWEEPS, "hydra.sweeper.searcher={name: cmaes, popul: 3}"], "searcher.popul"),
    ([*SWEEPS, "mood=none"], "the app returned None, expected a number, or a mapping and"),
    ([*SWEEPS, "mood=mapping"], "objective None is unknown (accuracy, loss)"),
    ([*SWEEPS, "hydra.sweeper.mode=mni"], "mode 'mni' is unknown; did you mean 'min'?"),
    ([*SWEEPS, "hydra.sweeper.max_batch_size=0"], "max_batch_size: got 0, expected at least 1"),
    ([*SWEEPS, "mood=fails", "hydra.sweeper.trials=40"], "10 jobs in a row have failed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "text"), MISTAKES)
def test_mistakes_are_one_line(words: list[str], text: str, app: Path) -> None:
    done = run(app, *words)
    lines = [line for line in done.stderr.splitlines() if line.startswith("hydra/sweeper=hpogen")]
    assert done.returncode == 1 and len(lines) == 1 and text in lines[0], done.stderr
    assert "Traceback" not in done.stderr or "mood=fails" in words


def parsed(text: str) -> dict[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return space_of(OverridesParser.create().parse_overrides([text])[0])


SPACES = [
    ("x=interval(0.5, 2)", {"float": [0.5, 2.0]}),
    ("x=int(interval(1, 20))", {"int": [1, 20]}),
    ("x=interval(1, 20)", {"float": [1.0, 20.0]}),
    ("x=tag(log, int(interval(1, 1000)))", {"int": [1, 1000], "log": True}),
    ("x=range(8, 65, 8)", {"int": [8, 64], "step": 8}),
    ("x=tag(log, range(1, 100))", {"int": [1, 99], "log": True}),
    ("x=range(0.0, 1.0, 0.25)", {"float": [0.0, 0.75], "step": 0.25}),
    ("x=range(5, 0, -1)", {"int": [1, 5]}),
    ("x=range(3, 4)", {"choice": [3]}),
    ("x=a,b", {"choice": ["a", "b"]}),
    ("x=3,2.5,true,null,'a b'", {"choice": [3, 2.5, True, None, "'a b'"]}),
    ("x=tag(ordered, choice(16, 32, 64))", {"choice": [16, 32, 64], "ordered": True}),
    ("+x.y=choice([1, 2], [3])", {"choice": ["[1,2]", "[3]"]}),
]


@pytest.mark.parametrize(("text", "form"), SPACES)
def test_a_sweep_is_a_parameter(text: str, form: dict[str, Any]) -> None:
    found = parsed(text)
    assert found == form
    assert list(found) == list(form) and [type(x) for x in found[next(iter(form))]] == [
        type(x) for x in form[next(iter(form))]
    ]
    if len(form.get("choice", "ab")) > 1:
        Space.parse({"x": found})


def test_what_hydra_is_told_is_what_was_proposed() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    config = {"a": 1e-05, "b": 3, "c": None, "+d.e": True, "f": "'a b'", "opt": "adam"}
    lines = overrides_of(config)
    values = [o.value() for o in OverridesParser.create().parse_overrides(lines)]
    assert values == [1e-05, 3, None, True, "a b", "adam"]
    assert Options().searcher == USUAL  # written there, so that an app need not read the forms


def search(**more: Any) -> Search:
    return define(
        "test",
        {"x": {"float": [0, 1]}, "y": {"float": [0, 1]}},
        "cmaes",
        0,
        None,
        {"population": 4, **more},
    )


def test_a_journal_that_was_cut_off_anywhere_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"

    def go_on(upto: int) -> list[Config]:
        one = Journal(path, search(), {})
        for trial in one.left:
            one.tell(trial, float(one.configs[trial]["x"]))  # type: ignore[arg-type]
        while len(one.configs) < upto and (config := one.ask()) is not None:
            one.tell(len(one.configs) - 1, float(config["x"]))  # type: ignore[arg-type]
        one.close()
        return one.configs

    whole = go_on(12)
    data = path.read_bytes()
    for length in range(data.index(b"\n") + 1, len(data), 37):
        path.write_bytes(data[:length])
        assert go_on(12) == whole and path.read_bytes() == data


def test_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    one = Journal(path, search(), {"fixed": ["a=1"]})
    one.ask()
    one.close()
    with pytest.raises(UserError, match=r"j.jsonl: searcher.population: begun with 4, but .* 6: "):
        Journal(path, search(population=6), {"fixed": ["a=1"]})
    with pytest.raises(UserError, match=r"j.jsonl: fixed: begun with \['a=1'\], but it is now"):
        Journal(path, search(), {"fixed": []})
    path.write_text('"x": 0.51'.join(path.read_text().rsplit('"x": 0.5', 1)))
    with pytest.raises(UserError, match=r"on replay the searcher proposes \{'x': 0.5, "):
        Journal(path, search(), {"fixed": ["a=1"]})
    for text, reason in [("{]\n", "is damaged"), ("[]\n", "is no journal of a search")]:
        path.write_text(text)
        with pytest.raises(UserError, match=reason):
            Journal(path, search(), {})
