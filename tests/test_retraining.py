"""The answer and the baselines on the full training set: what is trained, resumed, added, told."""

from __future__ import annotations

import json
import shutil
import statistics
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import ShuffledExecutor, StopsAfter, essence, study_file
from training.pictures_on_disk import write

from hpogen.cli.drive import retrain, train_again
from hpogen.errors import UserError
from hpogen.executors.choice import Where
from hpogen.record import history, ledger
from hpogen.record.folder import read_curve
from hpogen.record.history import History
from hpogen.report.retrain import last_lines, page, who_wins
from hpogen.running.runner import run, run_all
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.open import loaded, open_studies
from hpogen.study.read import RETRAIN, read, studies_in
from hpogen.study.retrained import Choice, Retrained, Run, plan, results
from hpogen.study.study import Study
from hpogen.tasks.errors import ERRORS
from hpogen.training.data import load
from hpogen.training.data import loaded as data_of_process
from hpogen.trial import canonical, trial_seed

accuracy, loss = attrgetter("accuracy"), attrgetter("loss")

KEYS: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.1, "validation": 100, "audit": 100},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 2,
        "measures": ["agn"],
    },
    "search_space": {
        "lr": {"float": [0.001, 0.5], "log": True, "default": 0.002},
        "batch_size": {"int": [32, 256], "default": 128},
    },
    "limits": {"trial_seconds": 900, "max_consecutive_errors": 3},
    "stop": {"trials": 4},
    "plugins": [],
}
PRACTICE = {"lr": 0.1, "batch_size": 64}


def searched(directory: Path, **keys: Any) -> Path:
    """A finished study's folder."""
    with Study(load_study(study_file(directory, **{**KEYS, **keys})), directory / "q") as study:
        assert run(study).end == "finished"
    return directory / "q"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was retrained with two seeds."""
    directory = searched(tmp_path_factory.mktemp("done"), baselines={"practice": PRACTICE})
    assert retrain(directory, Where("cpu"), seeds=2) == ["finished", "finished"]
    return directory


def test_what_is_trained_is_the_full_training_set_and_no_more(done: Path) -> None:
    answer = status.best(read(done))
    folders = {path.name: path for path in studies_in(done / RETRAIN)}
    assert set(folders) == {f"trial-{answer['trial']}", "baseline-practice"}
    for label, config in (
        (f"trial-{answer['trial']}", answer["config"]),
        ("baseline-practice", PRACTICE),
    ):
        study = read(folders[label])
        spec, past = loaded(study), study.history
        assert [dict(record.trial.config) for record in past.records] == [config] * 2
        assert [record.trial.seed for record in past.records] == [
            trial_seed(0, config, replicate) for replicate in (0, 1)
        ]
        dataset = spec.record()["task"]["dataset"]
        images = load(spec.task.dataset)  # type: ignore[attr-defined]
        assert spec.task.dataset.counts(len(images.train.targets)) == (1297, 0, 0)  # type: ignore[attr-defined]
        assert (dataset["audit"], spec.task.epochs) == ("test-each-epoch", 2)
        assert spec.limits.times == {}  # those of the search were for its subset


def test_the_figures_are_those_of_the_ledger(done: Path) -> None:
    found = {tuple(one.choice.baselines): one for one in results(done)}
    one = found[("practice",)]
    lines = (one.directory / ledger.LEDGER).read_text().splitlines()
    told = [event for event in map(json.loads, lines) if event["kind"] == "told"]
    accuracies = [event["audit"]["accuracy"] for event in told]
    assert [run.accuracy for run in one.runs] == accuracies
    assert one.mean(accuracy) == pytest.approx(np.mean(accuracies), abs=1e-15)
    assert one.sd(accuracy) == pytest.approx(np.std(accuracies, ddof=1), abs=1e-15)
    assert one.sd(loss) == pytest.approx(statistics.stdev(e["audit"]["loss"] for e in told))
    assert min(accuracies) > 0.5 and accuracies[0] != accuracies[1]
    for run_, event in zip(one.runs, told, strict=True):
        assert [row["epoch"] for row in run_.curve] == [1, 2]
        assert all(set(row["audit"]) == {"loss", "accuracy"} for row in run_.curve)
        assert run_.curve[-1]["audit"] == event["audit"]
        assert run_.curve[0]["audit"] != event["audit"]
        assert not any("audit" in name for row in run_.curve for name in row["metrics"])


def test_of_a_study_with_rungs_the_largest_budget_is_trained(tmp_path: Path) -> None:
    directory = searched(
        tmp_path,
        searcher={"name": "hyperband", "brackets": 1},
        budgets={"min": 1, "max": 2, "eta": 2},
        rungs="continue",
    )
    for spec in plan(read(directory), 1).values():
        assert (spec.budgets, spec.rungs, spec.stop.trials) == ((2,), "retrain", 1)


def test_the_page(done: Path) -> None:
    found = results(done)
    text = "\n".join(page(done, found, 100))
    for one in found:
        mean, sd = one.mean(accuracy), one.sd(accuracy)
        assert mean is not None and sd is not None
        assert f"{100 * mean:.2f} ± {100 * sd:.2f} %" in text
    assert "the answer" in text and "baseline practice" in text
    assert all(len(line) <= 60 for line in page(Path("q"), found, 60)[2:])
    assert [one.choice.is_answer for one in found] == [True, False]
    assert found[1].choice.config == PRACTICE and found[1].n == 2
    assert len(found[1].runs[0].curve) == 2


def of(baselines: tuple[str, ...], *accuracies: float, is_answer: bool = False) -> Retrained:
    runs = tuple(
        Run(i, i, ERRORS["accuracy"], {"accuracy": x, "loss": 0.5}, ())
        for i, x in enumerate(accuracies)
    )
    choice = Choice("label", {"lr": 0.1}, is_answer, baselines)
    return Retrained(choice, Path("q"), runs, 3, {})


@pytest.mark.parametrize(
    ("answer", "baseline", "said"),
    [
        (
            (0.945, 0.949),
            (0.86, 0.86),
            "the answer does better than the baseline 'default': 94.70 % against 86.00 %.",
        ),
        (
            (0.86, 0.86),
            (0.945, 0.949),
            "the baseline 'default' does better than the answer: 94.70 % against 86.00 % (the "
            "search trained on 10.0 % of the training images; its choice need not be right for "
            "all of them).",
        ),
        (
            (0.90, 0.94),
            (0.89, 0.93),
            "the answer does better than the baseline 'default': 92.00 % against 91.00 %, by less "
            "than the seeds' own spread.",
        ),
        (
            (0.92,),
            (0.91, 0.91),
            "the answer does better than the baseline 'default': 92.00 % against 91.00 %, which "
            "may be less than the seeds' own spread: that takes two seeds of each.",
        ),
        (
            (0.90, 0.94),
            (0.92,),
            "the answer does no better and no worse than the baseline 'default': 92.00 %.",
        ),
    ],
)
def test_who_does_better(answer: tuple[float, ...], baseline: tuple[float, ...], said: str) -> None:
    found = [of((), *answer, is_answer=True), of(("default",), *baseline), of(("other",))]
    assert [*who_wins(found, 0.1)] == [f"On the test set {said}"]
    assert f"On the test set {said}" in " ".join(" ".join(page(Path("q"), found, 90, 0.1)).split())
    assert "its choice need not" not in "".join(who_wins(found, 1.0))


def test_nobody_does_better_where_there_are_not_two() -> None:
    both = of(("default",), 0.9, is_answer=True)
    assert (
        [*who_wins([both], 0.1)] == [*who_wins([of((), is_answer=True), of(("a",), 0.9)], 1)] == []
    )
    assert [*who_wins([of((), 0.9, is_answer=True), of((), 0.8)], 0.1)] == []  # an earlier answer
    (said,) = who_wins([both, of(("a", "b"), 0.8)], 0.1)
    assert "than the baseline 'a' and 'b': 90.00 % against 80.00 %" in said


def test_what_to_type_next() -> None:
    """One study has nothing to be compared with."""
    for several, stopped, verb in (
        (False, [], "report"),
        (True, [], "compare"),
        (True, ["x"], "retrain"),
    ):
        assert last_lines(Path("q"), stopped, "hpogen", 80, several)[-1].endswith(
            f"hpogen {verb} q"
        )


def test_more_seeds_are_added_and_fewer_change_nothing(done: Path) -> None:
    before = {path: ledger.read(path) for path in studies_in(done / RETRAIN)}
    assert retrain(done, Where("cpu"), seeds=1) == ["finished", "finished"]
    assert {path: ledger.read(path) for path in before} == before
    assert retrain(done, Where("cpu"), seeds=3) == ["finished", "finished"]
    for path, events in before.items():
        assert ledger.read(path)[: len(events)] == events
    assert [one.n for one in results(done)] == [3, 3]


def test_killed_and_resumed_gives_the_same(tmp_path: Path) -> None:
    directory = searched(tmp_path, task={**KEYS["task"], "epochs": 6}, baselines={})
    undisturbed = plan(read(directory), 2)
    copies = {tmp_path / "copy" / path.name: spec for path, spec in undisturbed.items()}
    with_all = open_studies(undisturbed)
    run_all(with_all, ShuffledExecutor(1))
    for study in with_all:
        study.close()
    complete, times = False, 0
    while not complete:
        opened = open_studies(copies)
        run_all(opened, ShuffledExecutor(2), observers=[StopsAfter(3)] * len(opened))
        complete = all(len(study.history.told()) == 2 for study in opened)
        times += 1
        for study in opened:
            study.close()
    assert times > 1
    for path, copy in zip(undisturbed, copies, strict=True):
        told = [
            {e["trial"]: e for e in essence(ledger.read(at)) if e["kind"] == "told"}
            for at in (path, copy)
        ]
        assert told[0] == told[1]
        rows = [read_curve(at, trial) for at in (path, copy) for trial in (0, 1)]
        curves = [[(row["metrics"], row["audit"]) for row in curve] for curve in rows]
        assert curves[:2] == curves[2:]


def test_an_answer_that_changes_is_added(tmp_path: Path) -> None:
    directory = searched(tmp_path, stop={"trials": 1}, task={**KEYS["task"], "epochs": 1})
    assert retrain(directory, Where("cpu"), seeds=1) == ["finished"]
    (first,) = results(directory)
    assert first.choice.is_answer and first.choice.baselines == ("default",)
    assert [row["epoch"] for row in first.runs[0].curve] == [1]  # which has no curve's file
    (row,) = status.trial(read(first.directory), 0)["curve"]
    assert row == first.runs[0].curve[0] and row["audit"]["accuracy"] == first.runs[0].accuracy
    kept = ledger.read(first.directory)
    searched(tmp_path, stop={"trials": 6}, task={**KEYS["task"], "epochs": 1})
    new = status.best(read(directory))
    assert new["trial"] > 0
    assert [one.choice.is_answer for one in results(directory)] == [False]  # not trained yet
    assert retrain(directory, Where("cpu"), seeds=1) == ["finished", "finished"]
    found = results(directory)
    assert [(one.choice.is_answer, one.choice.baselines) for one in found] == [
        (True, ()),
        (False, ("default",)),
    ]
    assert canonical(found[0].choice.config) == canonical(new["config"])
    assert ledger.read(first.directory) == kept


def test_an_earlier_answer_is_kept_and_named(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"baselines": {}, "task": {**KEYS["task"], "epochs": 1}}
    directory = searched(tmp_path, stop={"trials": 1}, **keys)
    retrain(directory, Where("cpu"), seeds=1)
    searched(tmp_path, stop={"trials": 6}, **keys)
    retrain(directory, Where("cpu"), seeds=1)
    found = results(directory)
    assert [one.choice.label for one in found][1:] == ["trial-0"]
    assert "trial-0, not the answer now" in "\n".join(page(directory, found, 100))


def test_a_training_that_fails_is_said(tmp_path: Path) -> None:
    space = {"lr": {"float": [0.001, 1e30], "log": True, "default": 0.1}}
    directory = searched(
        tmp_path,
        search_space=space,
        baselines={"wild": {"lr": 1e30}, "default": {}},
        task={**KEYS["task"], "epochs": 1},
        stop={"trials": 1},
    )
    assert retrain(directory, Where("cpu"), seeds=2) == ["finished", "finished"]
    tame, wild = results(directory)
    assert (tame.n, tame.failures, tame.choice.is_answer) == (2, {}, True)
    assert (wild.n, wild.failures) == (0, {0: "diverged", 1: "diverged"})
    (row,) = (line for line in page(directory, results(directory), 90) if "2 diverged" in line)
    assert row.split()[:5] == ["baseline", "wild", "0/2", "–", "–"]
    assert (wild.mean(accuracy), wild.sd(accuracy)) == (None, None)


def test_nothing_that_chooses_sees_the_test_set(done: Path, tmp_path: Path) -> None:
    """Test figures that say the opposite change neither the answer nor what is retrained."""
    done = shutil.copytree(done, tmp_path / "q")
    before = {path: spec.record() for path, spec in plan(read(done), 3).items()}
    for path in studies_in(done / RETRAIN):
        events = ledger.read(path)
        poisoned = [
            {**e, "audit": {"loss": 9.0, "accuracy": 0.0}} if e["kind"] == "told" else e
            for e in events
        ]
        lines = [ledger.encode(event, seq) for seq, event in enumerate(poisoned)]
        (path / ledger.LEDGER).write_bytes(b"".join(lines))
    assert {path: spec.record() for path, spec in plan(read(done), 3).items()} == before
    assert {run.accuracy for one in results(done) for run in one.runs} == {0.0}


@pytest.mark.parametrize("seeds", [0, -1])
def test_a_number_of_seeds(tmp_path: Path, seeds: int) -> None:
    Study(load_study(study_file(tmp_path)), tmp_path / "q").close()
    with pytest.raises(UserError, match=f"--seeds: got {seeds}, expected 1 or more"):
        retrain(tmp_path / "q", Where("cpu"), seeds)


def test_a_task_of_ones_own_cannot_be_retrained(tmp_path: Path) -> None:
    with Study(load_study(study_file(tmp_path)), tmp_path / "q") as study:
        run(study)
    with pytest.raises(UserError, match=r"q: the task 'bowl' cannot be retrained: .* split=True"):
        retrain(tmp_path / "q", Where("cpu"))
    assert not (tmp_path / "q" / RETRAIN).exists()


def test_pictures_without_test_images(tmp_path: Path) -> None:
    write(tmp_path / "p")
    keys: dict[str, Any] = {**KEYS, "baselines": {}, "stop": {"trials": 2}}
    data = {"name": "folder", "path": str(tmp_path / "p"), "validation": 10, "audit": 10}
    keys["task"] = {**KEYS["task"], "dataset": {**data, "subset": 0.6}, "epochs": 1}
    directory = searched(tmp_path, **keys)
    answer = status.best(read(directory))["trial"]
    with pytest.raises(UserError) as refused:
        retrain(directory, Where("cpu"), seeds=1)
    assert str(refused.value) == (
        f"{directory}: the data set 'folder' has no test images, and retrain tests on them: put "
        f"them into {tmp_path}/p/test/CLASS beside {tmp_path}/p/train/CLASS; `hpogen retrain "
        f"{directory} --trial {answer} --subset` trains the answer again as it was"
    )
    with pytest.raises(UserError, match="--trial 0 --subset` trains that trial again as it was"):
        retrain(directory, Where("cpu"), seeds=1, trial=0)
    assert train_again(directory, Where("cpu"), answer) == ["finished"]
    classes = [*(tmp_path / "p").iterdir()]
    for part in ("train", "test"):
        for of_class in classes:
            shutil.copytree(of_class, tmp_path / "p" / part / of_class.name)
    data_of_process._load.cache_clear()
    assert retrain(directory, Where("cpu"), seeds=1) == ["finished"]


def test_folders_that_cannot_be_retrained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no study here"):
        retrain(tmp_path, Where("cpu"))
    with pytest.raises(UserError, match="there is no study here"):
        results(tmp_path)
    Study(load_study(study_file(tmp_path, **KEYS)), tmp_path / "q").close()
    with pytest.raises(UserError, match="q: there is no answer yet: no trial has finished"):
        retrain(tmp_path / "q", Where("cpu"))
    with pytest.raises(UserError, match="q: nothing has been retrained: hpogen retrain"):
        results(tmp_path / "q")
    assert isinstance(history.read(tmp_path / "q"), History)


def test_a_matrix_is_retrained_in_one_pool(tmp_path: Path) -> None:
    """What two of its studies have in common is trained once."""
    (tmp_path / "m").mkdir()
    for name, objective in (("a", "val"), ("b", "train")):
        searched(tmp_path / name, stop={"trials": 1}, objective=objective)
        (tmp_path / name / "q").rename(tmp_path / "m" / name)
    assert retrain(tmp_path / "m", Where("cpu"), seeds=1) == ["finished", "finished"]
    (a,), (b,) = (results(tmp_path / "m" / name) for name in ("a", "b"))
    assert a.n == 1 and a.runs == b.runs
    assert [history.read(one.directory).trained for one in (a, b)] in ([2, 0], [0, 2])


def test_what_was_retrained_for_another_study_is_not_told(done: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    assert len(results(copy)) == 2
    (copy / RETRAIN / "study").write_text("0123456789abcdef")
    with pytest.raises(UserError, match="nothing has been retrained"):
        results(copy)
    assert retrain(copy, Where("cpu"), seeds=1) == ["finished", "finished"]
    assert [found.n for found in results(copy)] == [1, 1]
    assert (copy / "earlier-1" / RETRAIN / "study").exists()
