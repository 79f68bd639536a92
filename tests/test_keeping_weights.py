"""Which weights stay: those of the best trials, whatever happens to the study meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kept import KEYS, TASK, finished, kept, records, written
from toys import ShuffledExecutor, StopsAfter, study_file

import hpogen
from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.running.fork import fork
from hpogen.running.keeping import SPARE
from hpogen.running.runner import run, run_all
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.open import open_study
from hpogen.study.read import read
from hpogen.study.study import Study
from hpogen.trial import WEIGHTS

MANY: dict[str, Any] = {"stop": {"trials": 8}}


def best(directory: Path, count: int = 1) -> set[int]:
    """The trials with the least scores."""
    told = sorted(records(directory), key=lambda r: (r.score, r.trial.id))
    return {record.trial.id for record in told[:count]}


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob(f"trials/*.{WEIGHTS}")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("undisturbed"), **MANY)


class Counts:
    """An observer that notes how many trials have weights."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.most = directory, 0

    def finished(self, record: Record) -> None:
        self.most = max(self.most, len(kept(self._directory)))

    def started(self, trial: object) -> None: ...

    def progressed(self, progress: object) -> None: ...

    def tick(self, stopping: bool) -> None: ...


@pytest.mark.parametrize("top", [1, 3])
def test_the_best_are_kept_and_few_at_any_time(top: int, tmp_path: Path) -> None:
    spec = written(tmp_path, checkpoints={"top": top}, **MANY)
    counts = Counts(tmp_path / "run")
    with Study(spec, tmp_path / "run") as study:
        run(study, observer=counts)
    assert kept(tmp_path / "run") == best(tmp_path / "run", top)
    assert top <= counts.most <= top + 1


def test_trials_that_end_out_of_order(tmp_path: Path, undisturbed: Path) -> None:
    with Study(written(tmp_path, **MANY), tmp_path / "run") as study:
        run(study, ShuffledExecutor(1))
    assert kept(tmp_path / "run") == best(tmp_path / "run") == kept(undisturbed)


def test_an_interrupted_study_keeps_the_same(tmp_path: Path, undisturbed: Path) -> None:
    for epochs in (1, 2, 3, 99):
        with Study(written(tmp_path, **MANY), tmp_path / "run") as study:
            run(study, observer=StopsAfter(epochs))
        assert best(tmp_path / "run") <= kept(tmp_path / "run") or not kept(tmp_path / "run")
    assert kept(tmp_path / "run") == kept(undisturbed)
    before, after = (hpogen.load(path) for path in (undisturbed, tmp_path / "run"))
    assert before.header.crc32 == after.header.crc32


KILLED = """
import json, os, signal, sys
from pathlib import Path
import hpogen, sklearn.datasets, torch, torch._dynamo
from hpogen.record import folder
from hpogen.study.study import Study

def dies(function, call, after):
    calls = 0
    def killed(*arguments, **keys):
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments, **keys)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return killed

study, home = sys.argv[1:]
for owner, name, call, after in json.loads(sys.stdin.read()):
    owner = {"folder": folder, "Study": Study}[owner]
    child = os.fork()
    if child == 0:
        setattr(owner, name, dies(getattr(owner, name), call, after))
        with hpogen.open_study(study, home) as opened:
            hpogen.run(opened)
        os._exit(1)  # it was not killed
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), (name, call)
    print(json.dumps(sorted(p.name for p in Path(home).glob("trials/*.safetensors"))), flush=True)
"""


def test_killed_at_every_moment_that_matters(tmp_path: Path, undisturbed: Path) -> None:
    moments = [
        ("folder", "keep_files", 1, True),  # the file is there, the ledger's line is not
        ("folder", "keep_files", 2, False),
        ("folder", "drop_kept", 1, False),  # the line is there, the others' weights, too
        ("folder", "drop_kept", 1, True),
        ("Study", "record", 1, True),
    ]
    written(tmp_path, **MANY)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "study.yaml"), str(tmp_path / "run")]
    done = subprocess.run(
        command, input=json.dumps(moments), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(moments)
    told = [record.trial.id for record in records(tmp_path / "run") if record.state == "told"]
    assert 0 < len(told) < 8 and status.best(read(tmp_path / "run"))["trial"] in kept(
        tmp_path / "run"
    )
    with Study(written(tmp_path, **MANY), tmp_path / "run") as study:
        assert run(study).end == "finished"
    assert content(tmp_path / "run").keys() == content(undisturbed).keys()
    assert hpogen.load(tmp_path / "run").header.crc32 == hpogen.load(undisturbed).header.crc32


def test_what_should_have_gone_goes_at_the_end_of_a_finished_study(undisturbed: Path) -> None:
    (there,) = kept(undisturbed)
    left = folder.trial_stem(undisturbed, (there + 1) % 8).with_suffix(f".{WEIGHTS}")
    left.write_bytes(b"left by a run that was killed")
    spec = load_study(undisturbed.parent / "study.yaml")
    with Study(spec, undisturbed) as study:
        run(study)
    assert kept(undisturbed) == {there}


def test_only_the_largest_budget_counts(tmp_path: Path) -> None:
    directory = finished(
        tmp_path,
        task={**TASK, "epochs": 4},
        searcher={"name": "hyperband", "brackets": 1},
        budgets={"min": 1, "max": 4, "eta": 2},
        rungs="continue",
        stop={"trials": 20},
    )
    (there,) = kept(directory)
    assert records(directory)[there].trial.budget == 4
    assert there == status.best(read(directory))["trial"]
    assert not [path for path in (directory / "trials").iterdir() if path.is_dir()]


@pytest.mark.parametrize("selection", ["shrunk", "noise_cut"])
def test_a_rule_that_compares_trials_finds_its_answer(selection: str, tmp_path: Path) -> None:
    trials = SPARE + 4
    keys = {"selection": selection, "stop": {"trials": trials}}
    if selection == "noise_cut":
        keys = {**keys, "stop": {"trials": trials + 10}}
    directory = finished(tmp_path, **keys)
    assert kept(directory) == {status.best(read(directory))["trial"]}


def test_a_scale_that_is_known_later(tmp_path: Path) -> None:
    terms = [{"metric": "val_loss"}, {"metric": "agn", "scale": "standard"}]
    objective = {"terms": terms, "standard_after": 3}
    directory = finished(tmp_path, objective=objective, **MANY)
    assert kept(directory) == {status.best(read(directory))["trial"]}


@pytest.mark.parametrize("executor", [InlineExecutor("cpu"), ShuffledExecutor(0)])
def test_trials_that_studies_share_have_weights_in_each(executor: Any, tmp_path: Path) -> None:
    names = ("val", "train", "worst")
    terms = {"terms": [{"metric": "val_loss", "weight": -1.0}]}  # which likes the worst
    specs = [
        written(tmp_path / name, objective=terms if name == "worst" else name, **MANY)
        for name in names
    ]
    paths = [tmp_path / name / "run" for name in names]
    studies = [Study(spec, path) for spec, path in zip(specs, paths, strict=True)]
    run_all(studies, executor)
    for study in studies:
        study.close()
    assert len({*map(frozenset, map(best, paths))}) > 1
    assert any(record.reused for path in paths for record in records(path))
    for path in paths:
        assert kept(path) == best(path)
        (answer,) = best(path)
        assert hpogen.load(path).header.config == records(path)[answer].trial.config


def test_a_fork_takes_the_weights_that_are_there(undisturbed: Path, tmp_path: Path) -> None:
    path = study_file(tmp_path, **{**KEYS, "searcher": "listed", "stop": {"trials": 8}})
    found = fork(undisturbed, path, tmp_path / "fork")
    assert found.reused == 8
    with open_study(path, tmp_path / "fork") as study:
        run(study)
    (there,) = kept(tmp_path / "fork")
    config = records(tmp_path / "fork")[there].trial.config
    assert hpogen.load(tmp_path / "fork").header.config == config
    assert hpogen.load(undisturbed).header.crc32 == hpogen.load(tmp_path / "fork").header.crc32


def test_a_network_that_holds_more_than_tensors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom hpogen.plugins import model\n\n"
        "class Net(nn.Sequential):\n"
        "    def get_extra_state(self):\n        return {'seen': 1}\n"
        "    def set_extra_state(self, state):\n        pass\n\n"
        "@model('net')\ndef net(in_shape, classes):\n"
        "    return Net(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    task = {**TASK, "model": "net"}
    directory = finished(tmp_path, task=task, plugins=["net.py"], stop={"trials": 1})
    assert kept(directory) == set() and "weights_kept=false" in caplog.text
    assert records(directory)[0].failure is None
