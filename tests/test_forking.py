"""A study that begins with another's configurations: what is reused, what is trained, going on."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from toys import SPACE, TASK, study_file, typed

from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.record.folder import read_curve
from hpogen.record.history import History, read
from hpogen.report.pages import fork_page
from hpogen.running.fork import Fork, fork
from hpogen.running.runner import run
from hpogen.spec import load_studies, load_study
from hpogen.study import read as folders
from hpogen.study.open import loaded, open_study
from hpogen.study.study import Study
from hpogen.trial import canonical

AGN = {"preset": "agn+val", "alpha": 0.5}


def searched(directory: Path, source: str = TASK, **keys: Any) -> Path:
    path = study_file(directory / "old", **keys)
    (directory / "old" / "bowl.py").write_text(source)
    with Study(load_study(path), directory / "q") as study:
        assert run(study).end == "finished"
    return directory / "q"


def configs(past: History) -> list[str]:
    return [canonical(record.trial.config) for record in past.records]


@pytest.mark.parametrize(
    ("searcher", "seed"),
    [
        ("random", 0),
        ({"name": "cmaes", "population": 5}, 3),
        ({"name": "pso", "population": 4}, 3),
        ("optuna", 3),
        ("listed", 3),
    ],
)
def test_outcomes_are_reused_and_scored_anew(tmp_path: Path, searcher: Any, seed: int) -> None:
    old = searched(tmp_path)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    new = study_file(tmp_path / "new", searcher=searcher, seed=seed, objective=AGN)
    found = fork(old, new, tmp_path / "n", ["stop.trials=20"])
    assert found == Fork(tmp_path / "n", 12, 12, 0, 0, 0, 0, "")
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    past, first = read(tmp_path / "n"), read(old)
    assert configs(past) == configs(first)
    assert (past.charged, past.trained, past.reused) == (24, 0, 12)
    for record, source in zip(past.told(), first.told(), strict=True):
        assert record.outcome is not None and source.outcome is not None
        metrics = source.outcome.metrics
        assert dict(record.outcome.metrics) == dict(metrics)
        assert record.score == metrics["val_loss"] + 0.5 * metrics["agn"]
        assert record.reused == f"q/{source.trial.id}"
        assert len(rows := read_curve(tmp_path / "n", record.trial.id)) == 2
        assert rows == read_curve(old, source.trial.id)


def test_the_forked_study_goes_on_with_its_yaml_and_without(tmp_path: Path) -> None:
    new = study_file(tmp_path / "new", objective=AGN, searcher="optuna")
    fork(searched(tmp_path), new, tmp_path / "n")
    shutil.copytree(tmp_path / "n", tmp_path / "m")
    with open_study(new, tmp_path / "n", ["stop.trials=15"]) as study:
        assert run(study).trials == 3
    forked = folders.read(tmp_path / "n")
    assert [record.reused != "" for record in forked.history.records] == [True] * 12 + [False] * 3
    with open_study(loaded(forked), tmp_path / "n") as study:  # as `hpogen resume` does
        assert study.next() is None
    with pytest.raises(UserError, match=r"objective\.alpha: 0.7, but the study in"):
        open_study(new, tmp_path / "m", ["objective.alpha=0.7"])
    with pytest.raises(UserError, match="enqueue"):
        open_study(new, tmp_path / "m", ["enqueue=[{x: 0.1}]"])


def test_an_interrupted_fork_is_repeated(tmp_path: Path) -> None:
    new = study_file(tmp_path / "new", objective=AGN, stop={"trials": 4})
    old = searched(tmp_path, stop={"trials": 4})
    whole = fork(old, new, tmp_path / "whole")
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines) + 1):
        target = tmp_path / f"n{kept}"
        shutil.copytree(tmp_path / "whole", target)
        (target / ledger.LEDGER).write_bytes(b"".join(lines[:kept]))
        again = fork(old, new, target)
        assert (again.reused, again.to_train) == (whole.reused, 0)
        assert [e for e in ledger.read(target) if e["kind"] == "told"] == [
            {**e} for e in ledger.read(tmp_path / "whole") if e["kind"] == "told"
        ]
        shutil.rmtree(target)


def test_configurations_outside_the_new_space_are_left_out(tmp_path: Path) -> None:
    old = searched(tmp_path)
    space = {"x": {"float": [0.0, 0.5], "default": 0.5}, "y": SPACE["y"]}
    inside = [c for c in configs(read(old)) if json.loads(c)["x"] <= 0.5]
    assert 0 < len(inside) < 12
    found = fork(old, study_file(tmp_path / "new", search_space=space), tmp_path / "n")
    assert (found.enqueued, found.outside) == (len(inside), 12 - len(inside))
    assert configs(read(tmp_path / "n")) == inside


def test_another_task_takes_the_configurations_only(tmp_path: Path) -> None:
    old = searched(tmp_path)
    new = study_file(tmp_path / "new", task={"name": "bowl", "epochs": 3})
    found = fork(old, new, tmp_path / "n")
    assert (found.task, found.enqueued, found.reused, found.to_train) == ("epochs", 12, 0, 12)
    with open_study(new, tmp_path / "n") as study:
        run(study)
    past = read(tmp_path / "n")
    assert configs(past) == configs(read(old))
    assert (past.trained, past.reused) == (36, 0)
    assert "The task is another (epochs differs)" in " ".join(
        fork_page(found, "n.yaml", "hpogen", 300)
    )


def test_a_task_of_another_name_is_another_task(tmp_path: Path) -> None:
    two = TASK.replace(
        '@task("bowl"', '@task("dish", metrics=METRICS, sums=("agn",))\n@task("bowl"'
    )
    new = study_file(tmp_path / "new", task={"name": "dish", "epochs": 2})
    old = searched(tmp_path, source=two)
    (tmp_path / "new" / "bowl.py").write_text(two)
    found = fork(old, new, tmp_path / "n")
    assert (found.task, found.reused, found.to_train) == ("name", 0, 12)


def test_a_study_that_is_older_than_a_key_is_the_same_task(tmp_path: Path) -> None:
    keys = {**IMAGES}
    old = searched(tmp_path, task=keys.pop("task"), **keys)
    first, *others = ledger.read(old)
    del first["spec"]["task"]["precision"], first["spec"]["task"]["dataset"]["rotate"]
    lines = [ledger.encode(event, i) for i, event in enumerate([first, *others])]
    (old / ledger.LEDGER).write_bytes(b"".join(lines))
    new = study_file(tmp_path / "new", **{**IMAGES, "seed": 1})
    assert fork(old, new, tmp_path / "n").reused == 2


def test_a_plug_in_that_has_changed_is_another_task(tmp_path: Path) -> None:
    old, new = searched(tmp_path), study_file(tmp_path / "new")
    source = new.parent / "bowl.py"
    source.write_text(source.read_text() + "\n# another\n")
    assert fork(old, new, tmp_path / "n").task == "bowl.py"


def test_failures_but_for_diverged_ones_are_tried_again_and_last(tmp_path: Path) -> None:
    for mood, again in (("nan", 0), ("raises", 4)):
        home = tmp_path / mood
        old = searched(home, task={"name": "bowl", "epochs": 2, "mood": mood})
        new = study_file(
            home / "new",
            task={"name": "bowl", "epochs": 2, "mood": mood},
            searcher={"name": "cmaes", "population": 4},
        )
        found = fork(old, new, home / "n")
        assert (found.enqueued, found.reused) == (12, 12 - again)
        past = read(home / "n")
        assert sum(bool(record.failure) for record in past.told()) == 4 - again
        assert all(record.reused for record in past.records[: 12 - again])


def test_outcomes_without_the_metric_wanted_are_trained(tmp_path: Path) -> None:
    old = searched(tmp_path, stop={"trials": 3})
    lines = [
        {**e, "metrics": {"val_loss": 1.0}} if e["kind"] == "told" and e["trial"] == 1 else e
        for e in ledger.read(old)
    ]
    (old / ledger.LEDGER).write_bytes(b"".join(ledger.encode(e, i) for i, e in enumerate(lines)))
    new = study_file(tmp_path / "new", objective=AGN)
    found = fork(old, new, tmp_path / "n")
    assert (found.reused, found.to_train) == (2, 1)
    assert [r.state for r in read(tmp_path / "n").records] == ["told", "running", "told"]


TIMED = TASK.replace('sums=("agn",)', 'sums=("agn",), observed=("gap_loss",)')


@pytest.mark.parametrize(
    "keys",
    [
        {"objective": {"terms": [{"metric": "val_loss"}, {"metric": "gap_loss", "weight": 0.1}]}},
        {"constraints": {"gap_loss": "<= 0.4"}},
    ],
)
def test_what_another_run_has_observed_is_taken_over_when_asked(
    keys: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = searched(tmp_path, TIMED, stop={"trials": 3})
    new = study_file(tmp_path / "new", stop={"trials": 3}, **keys)
    (new.parent / "bowl.py").write_text(TIMED)
    assert typed("fork", old, new, "--dir", tmp_path / "n") == 2
    said = capsys.readouterr().err
    assert "the study scores by 'gap_loss', of which each run gives another number" in said
    assert f"those in {old} are of other runs: take them over by --observed" in said
    assert said.count("\n") == 1 and not (tmp_path / "n").exists()
    assert typed("fork", old, new, "--dir", tmp_path / "n", "--observed") == 0
    past, first = read(tmp_path / "n"), read(old)
    assert past.reused == 3 and past.header["declared"]["observed"] == ["gap_loss"]
    for record, source in zip(past.told(), first.told(), strict=True):
        assert record.outcome is not None and source.outcome is not None
        assert dict(record.outcome.metrics) == dict(source.outcome.metrics)
    with open_study(new, tmp_path / "n", ["stop.trials=4"]) as study:
        assert run(study).trials == 1, "asked for once"


def test_what_is_observed_matters_where_it_is_scored_by(tmp_path: Path) -> None:
    old = searched(tmp_path, TIMED, stop={"trials": 3})
    assert "observed" not in read(old).header["declared"]
    new = study_file(tmp_path / "new", objective=AGN)
    (new.parent / "bowl.py").write_text(TIMED)
    assert fork(old, new, tmp_path / "n").reused == 3
    other = study_file(
        tmp_path / "other",
        task={"name": "bowl", "epochs": 3},
        objective={"terms": [{"metric": "gap_loss"}]},
    )
    (other.parent / "bowl.py").write_text(TIMED)
    assert fork(old, other, tmp_path / "m").to_train == 3, "nothing of it is taken over"


IMAGES: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.1},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 1,
        "measures": ["agn", {"name": "gsnr", "samples": 50}],
    },
    "search_space": {"lr": {"float": [0.01, 0.5], "default": 0.1}},
    "plugins": [],
    "stop": {"trials": 2},
}
RUNGS: dict[str, Any] = {
    "task": {"name": "bowl", "epochs": 8},
    "budgets": {"min": 2, "max": 8, "eta": 2},
    "searcher": {"name": "hyperband", "brackets": 3},
    "stop": {"trials": 100},
}


def test_rungs_are_climbed_again_without_training(tmp_path: Path) -> None:
    old = searched(tmp_path, **RUNGS)
    new = study_file(tmp_path / "new", **{**RUNGS, "objective": {"preset": "val"}})
    found = fork(old, new, tmp_path / "n")
    past = read(tmp_path / "n")
    assert found.reused == len(past.records) - found.to_train
    assert {record.trial.budget for record in past.records if record.reused} == {2, 4, 8}
    assert found.to_train <= 1
    assert found.reused > found.enqueued  # promotions, too


def test_rungs_that_are_continued_are_trained(tmp_path: Path) -> None:
    """A reused outcome has no checkpoint to go on from."""
    keys = {**IMAGES, "task": {**IMAGES["task"], "epochs": 2}, "rungs": "continue"}
    keys |= {"searcher": {"name": "hyperband", "brackets": 1}, "stop": {"trials": 3}}
    keys |= {"budgets": {"min": 1, "max": 2, "eta": 2}}
    old = searched(tmp_path, **keys)
    new = study_file(tmp_path / "new", **keys)
    found = fork(old, new, tmp_path / "n")
    assert (found.reused, found.to_train) == (0, 2)
    with open_study(new, tmp_path / "n") as study:
        run(study)
        assert [r.failure for r in study.history.told()] == [None] * 3
    assert [r.outcome and r.outcome.metrics for r in read(old).told()] == [
        r.outcome and r.outcome.metrics for r in read(tmp_path / "n").told()
    ]


def test_only_the_budgets_that_both_have(tmp_path: Path) -> None:
    old = searched(tmp_path, **RUNGS)
    past = read(old)
    largest = {canonical(r.trial.config) for r in past.records if r.trial.budget == 8}
    finished = set(configs(past))
    assert 0 < len(largest) < len(finished)
    new = study_file(tmp_path / "new", task={"name": "bowl", "epochs": 8}, stop={"trials": 50})
    found = fork(old, new, tmp_path / "n")
    assert (found.enqueued, found.reused) == (len(largest), len(largest))
    assert found.other_budgets == len(finished) - len(largest)
    assert found.to_train == (canonical(load_study(new).space.default) not in largest)


def test_stop_leaves_no_room(tmp_path: Path) -> None:
    new = study_file(tmp_path / "new", stop={"trials": 5}, enqueue=[])
    found = fork(searched(tmp_path), new, tmp_path / "n")
    assert (found.enqueued, found.reused, found.no_room) == (12, 5, 7)
    assert "stop leaves no room for 7 of them" in " ".join(
        fork_page(found, "n.yaml", "hpogen", 300)
    )


def test_what_changes_no_training_is_the_same_task(tmp_path: Path) -> None:
    keys = {**IMAGES}
    task = keys.pop("task")
    old = searched(tmp_path, task=task, **keys)
    for i, (objective, measures, reused) in enumerate(
        [
            ({"terms": [{"metric": "agn"}]}, [], 2),
            ({"terms": [{"metric": "gsnr"}]}, task["measures"], 2),
            ({"terms": [{"metric": "gsnr"}]}, [], 0),  # on all samples that is another number
            ({"terms": [{"metric": "osgr_head"}]}, [], 0),  # which was not measured
        ]
    ):
        elsewhere = {"root": str(tmp_path), "download": False, "resident": False}
        data = {**task["dataset"], **elsewhere}
        speed = {"threads": 2, "deterministic": True, "cuda_graphs": False, "compile": True}
        changed = {**task, **speed, "dataset": data, "measures": measures}
        new = study_file(tmp_path / f"new{i}", task=changed, objective=objective, **keys)
        assert fork(old, new, tmp_path / f"n{i}").reused == reused
    deeper = {**task, "model": {"name": "mlp", "width": 9, "depth": 1}}
    found = fork(old, study_file(tmp_path / "d", task=deeper, **keys), tmp_path / "nd")
    assert (found.task, found.reused) == ("model.width", 0)


def test_what_cannot_be_forked(tmp_path: Path) -> None:
    old = searched(tmp_path)
    new = study_file(tmp_path / "new", objective=AGN)
    with pytest.raises(UserError, match="there is no study here"):
        fork(tmp_path / "nowhere", new, tmp_path / "n")
    with pytest.raises(UserError, match="q: here is a study already: use another --dir, or none"):
        fork(old, new, old)
    grid = study_file(tmp_path / "grid", searcher="grid")
    with pytest.raises(UserError, match="grid: takes no enqueued configurations"):
        fork(old, grid, tmp_path / "n")
    narrow = {**SPACE, "z": {"float": [0.0, 1.0]}}
    space = study_file(tmp_path / "narrow", search_space=narrow)
    with pytest.raises(UserError, match=r"q: there is nothing to begin with: .* 12 are not in"):
        fork(old, space, tmp_path / "n")
    Study(load_study(new), tmp_path / "empty").close()
    with pytest.raises(UserError, match="empty: there is nothing to begin with"):
        fork(tmp_path / "empty", new, tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_why_no_configuration_is_in_the_new_space(tmp_path: Path) -> None:
    """What the message advises against brings nothing, and what it advises does what it says."""
    old, n = searched(tmp_path), tmp_path / "n"

    def refused(**keys: Any) -> str:
        with pytest.raises(UserError) as caught:
            fork(old, study_file(tmp_path / "new", **keys), n)
        return str(caught.value).partition("budgets only; ")[2]

    one_more = {**SPACE, "z": {"float": [0.0, 1.0], "default": 0.25}}
    text = refused(search_space=one_more)
    assert text == (
        "none has 'z': without it in search_space 12 of them would be in it (with it as a constant "
        "none would); to search it, write old configurations under enqueue, where what they lack "
        "takes its default"
    )
    assert refused(search_space={**SPACE, "z": 0.25}) == text
    spec = load_study(study_file(tmp_path / "e", search_space=one_more, enqueue=[{"x": 0.5}]))
    assert dict(spec.enqueue[0]) == {"x": 0.5, "y": 30, "z": 0.25}
    more = {**one_more, "w": {"int": [1, 2]}}
    assert refused(search_space=more).startswith("none has 'z', 'w': without them in search_space")
    elsewhere = {**SPACE, "x": {"float": [2.0, 3.0]}}
    assert refused(search_space=elsewhere).startswith("the first of them: x: got 0.5, expected")
    fewer = {"x": SPACE["x"]}
    assert "the first of them: parameter 'y' is unknown" in refused(search_space=fewer)
    assert fork(old, study_file(tmp_path / "new"), n).enqueued == 12


def test_the_page(tmp_path: Path) -> None:
    lines = fork_page(Fork(Path("n"), 12, 10, 2, 3, 1, 0, ""), "new.yaml", "hpogen", 60)
    assert lines[-1] == " next     hpogen run new.yaml --dir n"
    assert " ".join(" ".join(lines[:-2]).split()) == (
        "12 configurations enqueued, 10 outcomes reused without training. 2 trials to be trained: "
        "no outcome that serves. Left out: 3 outside the new search space. Left out: 1 that were "
        "trained for other budgets only."
    )


def test_without_a_folder_the_first_free_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = searched(tmp_path)
    new = study_file(tmp_path / "new", objective=AGN)
    runs = [Path(f"runs/{name}") for name in ("study", "study-2", "study-3")]
    first = fork(old, new)
    assert (first.directory, first.taken) == (runs[0], None)
    assert fork(old, new) == first, "an interrupted fork may be repeated"
    second = fork(old, new, overrides=["objective.alpha=0.1"])
    assert (second.directory, second.taken, second.reused) == (runs[1], runs[0], 12)
    assert fork(old, new, overrides=["objective=val"]).directory == runs[2]
    page = " ".join(fork_page(second, "new.yaml", "hpogen", 300, ["objective.alpha=0.1"]))
    assert "runs/study has another study: this one is in runs/study-2." in page
    assert page.endswith("run new.yaml --dir runs/study-2 --set objective.alpha=0.1")


@pytest.mark.parametrize(
    "override", ["search_space.x.float=[0,2]", "seed=5", "searcher=cmaes", "objective.alpha=0.1"]
)
def test_a_changed_study_leads_to_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.chdir(tmp_path)
    study_file(Path(), objective=AGN)
    with open_study("study.yaml") as study:
        assert run(study).end == "finished"
    with pytest.raises(UserError) as caught:
        open_study("study.yaml", overrides=[override])
    words = shlex.split(str(caught.value).partition("these trials: hpogen ")[2])
    assert words == ["fork", "runs/study", "study.yaml", "--set", override]
    made = fork(Path(words[1]), words[2], overrides=words[4:])
    assert (made.directory, made.taken) == (Path("runs/study-2"), Path("runs/study"))


def test_the_study_of_a_matrix_is_not_forked_by_its_file(tmp_path: Path) -> None:
    path = study_file(tmp_path, matrix={"seed": [0, 1]})
    spec = load_studies(path).specs[0]
    with Study(spec, tmp_path / "m"):
        pass
    with pytest.raises(UserError, match="start a new study with --dir"):
        Study(load_studies(path, ["task.epochs=3"]).specs[0], tmp_path / "m")
