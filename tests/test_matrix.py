"""One YAML file, many studies: its cells and mistakes, one pool, what is trained once, the CLI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys import TASK, ShuffledExecutor, StopsAfter, by_trial, essence, study_file, typed

from hpogen.errors import UserError
from hpogen.executors.base import Event, Job
from hpogen.record import folder, ledger
from hpogen.running.runner import run, run_all
from hpogen.spec import StudySpec, load_studies, load_study
from hpogen.study.open import open_studies
from hpogen.study.read import studies_in
from hpogen.study.study import Study
from hpogen.trial import Failure, Outcome

TIMED = TASK.replace('sums=("agn",)', 'sums=("agn",), observed=("gap_loss",)')
OBJECTIVES = [{"preset": "val"}, {"preset": "agn+val", "alpha": 0.1}]


def matrix_file(directory: Path, matrix: Any, **keys: Any) -> Path:
    return study_file(directory, matrix=matrix, **keys)


def specs(path: Path) -> dict[Path, StudySpec]:
    return {path.parent / "runs" / spec.name: spec for spec in load_studies(path).specs}


def drive_all(path: Path, executor: Any = None) -> dict[str, list[dict[str, Any]]]:
    """Run all; the events by the study's label."""
    found = specs(path)
    studies = open_studies(found)
    try:
        results = run_all(studies, executor)
    finally:
        for study in studies:
            study.close()
    assert {result.end for result in results} == {"finished"}
    return {home.name: ledger.read(home) for home in found}


class Recording(ShuffledExecutor):
    """Notes which trials of which study it was given to train."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.trained: list[tuple[str, int]] = []

    def submit(self, job: Job) -> None:
        self.trained.append((job.log.parents[1].name, job.trial.id))
        super().submit(job)


def test_a_cell_for_each_combination_the_last_key_fastest(tmp_path: Path) -> None:
    matrix = {"searcher": ["random", {"name": "cmaes", "population": 6}], "seed": [3, 4]}
    found = load_studies(matrix_file(tmp_path, matrix))
    assert found.is_matrix and found.name == "study"
    names = [spec.name for spec in found.specs]
    assert names == ["random__seed-3", "random__seed-4", "cmaes__seed-3", "cmaes__seed-4"]
    assert [spec.seed for spec in found.specs] == [3, 4, 3, 4]
    assert found.specs[2].searcher.options["population"] == 6
    assert "matrix" not in found.specs[0].record()


def test_labels(tmp_path: Path) -> None:
    matrix = {
        "searcher": [{"name": "cmaes", "label": "small", "population": 4}, {"name": "cmaes"}],
        "task.mood": [{"value": "good", "label": "happy"}, "nan"],
        "objective.alpha": [0.1, 1.0e-3],
        "enqueue": [{"value": [], "label": "free"}],
    }
    path = matrix_file(tmp_path, matrix, objective={"preset": "agn+val", "alpha": 1.0})
    found = {spec.name: spec for spec in load_studies(path).specs}
    assert len(found) == 8
    assert found["small__happy__alpha-0.1__free"].searcher.options["population"] == 4
    assert found["cmaes__nan__alpha-0.001__free"].enqueue == ()
    assert found["cmaes__nan__alpha-0.001__free"].task.record()["mood"] == "nan"


def test_a_search_space_may_vary(tmp_path: Path) -> None:
    for name, high in (("narrow", 0.5), ("wide", 1.0)):
        space = {"x": {"float": [0.0, high], "default": 0.25}, "y": 10}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(space))
    path = matrix_file(tmp_path, {"search_space": ["narrow.yaml", "wide.yaml"]})
    found = {spec.name: spec for spec in load_studies(path).specs}
    assert found["narrow"].space.record()["x"]["float"] == [0.0, 0.5]
    assert found["wide"].space.record()["x"]["float"] == [0.0, 1.0]


YAML = """
plugins: [bowl.py]
task: {{name: bowl, epochs: 2}}
search_space: {{x: {{float: [0.0, 1.0]}}, y: 10}}
searcher: random
stop: {{trials: 4}}
matrix:
  {matrix}
"""


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ("searcher: [random, cmaez]", ":8:22: matrix.searcher.1.name: 'cmaez' is unknown; did you"),
        ("sercher: [random]", ":8:3: matrix.sercher: 'sercher' is unknown; did you mean"),
        ("searcher: [{name: cmaes, population: 1}]", ":8:40: matrix.searcher.0.population: "),
        ("searcher: [random, random]", ":8:22: matrix.searcher.1: two studies would be called"),
        ("objective: [{terms: [{metric: agn}]}]", ":8:15: matrix.objective.0: got {'terms'"),
        ("seed: []", ":8:9: matrix.seed: got [], expected at least 1 values"),
        ("seed: 3", ":8:9: matrix.seed: got 3, expected a list"),
        ("name: [a, b]", ":8:9: matrix.name: cannot vary 'name'"),
        ("searcher: [{name: random, label: a/b}]", ":8:14: matrix.searcher.0: got {'name'"),
        ("task.dataset.name: [digits]", ":8:3: matrix.task.dataset.name: 'dataset' is unknown"),
        ("search_space: [nowhere.yaml]", ":8:18: matrix.search_space: '"),
        ("stop.trials: [4, 0]", ":8:20: matrix.stop.trials.1: got 0, expected at least 1"),
    ],
)
def test_mistakes_are_one_line_at_the_value(matrix: str, said: str, tmp_path: Path) -> None:
    study_file(tmp_path)
    path = tmp_path / "m.yaml"
    path.write_text(YAML.format(matrix=matrix))
    with pytest.raises(UserError) as error:
        load_studies(path)
    assert str(error.value).startswith(f"{path}{said}") and "\n" not in str(error.value)


def test_labels_that_collide_only_when_joined(tmp_path: Path) -> None:
    values = [{"value": 1, "label": "a"}, {"value": 2, "label": "a__b"}]
    others = [{"value": 1, "label": "b__c"}, {"value": 2, "label": "c"}]
    path = matrix_file(tmp_path, {"seed": values, "stop.trials": others})
    with pytest.raises(UserError, match="two studies would be called 'a__b__c'"):
        load_studies(path)


def test_a_matrix_is_not_one_study(tmp_path: Path) -> None:
    path = matrix_file(tmp_path, {"seed": [1, 2]})
    with pytest.raises(UserError, match="matrix: stands for many studies"):
        load_study(path)


@pytest.mark.parametrize("seed", range(3))
def test_each_study_is_as_if_it_ran_alone(seed: int, tmp_path: Path) -> None:
    matrix = {"searcher": ["random", "cmaes", "pso"], "objective": OBJECTIVES, "seed": [0, 1]}
    path = matrix_file(tmp_path, matrix, stop={"trials": 24})
    pool = drive_all(path, ShuffledExecutor(seed, slots=7))
    for label, spec in ((home.name, spec) for home, spec in specs(path).items()):
        with Study(spec, tmp_path / "alone" / label) as study:
            run(study)
        alone = ledger.read(tmp_path / "alone" / label)
        for kind in ("asked", "told"):
            found, expected = by_trial(pool[label], kind), by_trial(alone, kind)
            for trial in expected:
                ignored = {"epochs": None}  # 0 where another study has trained it
                assert {**found[trial], **ignored} == {**expected[trial], **ignored}
            assert found.keys() == expected.keys()


def test_a_trial_of_two_studies_is_trained_once(tmp_path: Path) -> None:
    path = matrix_file(tmp_path, {"objective": OBJECTIVES})
    executor = Recording()
    events = drive_all(path, executor)
    assert len(executor.trained) == 12  # of 24: random search asks for the same in both
    reused = {label: by_trial(found, "reused") for label, found in events.items()}
    assert sum(map(len, reused.values())) == 12
    for label, other in (("val", "agn+val"), ("agn+val", "val")):
        for trial, event in reused[label].items():
            assert (event["study"], event["of"]) == (other, trial)
            told, source = (by_trial(events[name], "told")[trial] for name in (label, other))
            assert told["metrics"] == source["metrics"] and told["epochs"] == 0
            assert source["epochs"] == 2
            runs = tmp_path / "runs"
            curves = [folder.read_curve(runs / name, trial) for name in (label, other)]
            assert curves[0] == curves[1] and len(curves[0]) == 2


@pytest.mark.parametrize(
    ("key", "values", "trained"),
    [
        ("dataset.root", ["a", "b"], 2),
        ("dataset.download", [True, False], 2),
        ("dataset.resident", [True, False], 2),
        ("cuda_graphs", [True, False], 4),  # last bits: an outcome is of its own way to train
        ("threads", [1, 2], 4),
        ("measures", [[], ["osgr_head"]], 4),
    ],
)
def test_what_may_differ_between_studies_that_share(
    key: str, values: list[Any], trained: int, tmp_path: Path
) -> None:
    task = {"dataset": {"name": "digits", "subset": 0.1}, "model": "mlp", "epochs": 1}
    labelled = [{"value": value, "label": f"v{i}"} for i, value in enumerate(values)]
    space = {"lr": {"float": [0.01, 0.5], "default": 0.1}}
    keys = {"task": task, "search_space": space, "stop": {"trials": 2}, "plugins": []}
    executor = Recording()
    drive_all(matrix_file(tmp_path, {f"task.{key}": labelled}, **keys), executor)
    assert len(executor.trained) == trained


OBSERVING: list[dict[str, Any]] = [  # what is seen of a run, beside an objective that it has not
    {"objective": {"terms": [{"metric": "gap_loss"}]}},
    {"constraints": {"gap_loss": "<= 0.4"}},
]


@pytest.mark.parametrize("keys", OBSERVING)
def test_what_another_run_has_observed_is_no_score(keys: Any, tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"trials": 3}, matrix={"objective": OBJECTIVES})
    seen = study_file(tmp_path / "seen", stop={"trials": 3}, **keys)
    (tmp_path / "bowl.py").write_text(TIMED)
    (tmp_path / "seen" / "bowl.py").write_text(TIMED)
    found = specs(path) | {seen.parent / "observing": load_study(seen)}
    for order in (1, -1):  # it comes last, and first
        homes = {tmp_path / str(order) / home.name: spec for home, spec in found.items()}
        studies = open_studies(dict([*homes.items()][::order]))
        executor = Recording()
        assert {result.end for result in run_all(studies, executor)} == {"finished"}
        for study in studies:
            study.close()
        trained = [name for name, _ in executor.trained]
        assert trained.count("observing") == 3 and len(trained) <= 6
        events = {home.name: ledger.read(home) for home in homes}
        assert by_trial(events["observing"], "reused") == {}
        others = [
            e for name in ("val", "agn+val") for e in by_trial(events[name], "reused").values()
        ]
        assert len(others) == 9 - len(trained)
        assert order > 0 or "observing" in {event["study"] for event in others}


def test_what_is_observed_and_not_scored_by_is_shared(tmp_path: Path) -> None:
    path = matrix_file(tmp_path, {"objective": OBJECTIVES})
    (tmp_path / "bowl.py").write_text(TIMED)
    executor = Recording()
    drive_all(path, executor)
    assert len(executor.trained) == 12


def test_a_study_added_later_reuses_what_is_there(tmp_path: Path) -> None:
    drive_all(matrix_file(tmp_path, {"objective": OBJECTIVES[:1]}))
    executor = Recording()
    events = drive_all(matrix_file(tmp_path, {"objective": OBJECTIVES}), executor)
    assert executor.trained == []
    assert len(by_trial(events["agn+val"], "reused")) == 12


def test_other_code_is_not_reused(tmp_path: Path) -> None:
    drive_all(matrix_file(tmp_path, {"objective": OBJECTIVES[:1]}))
    path = matrix_file(tmp_path, {"objective": OBJECTIVES})
    plugin = tmp_path / "bowl.py"
    plugin.write_text(plugin.read_text() + "\n# another version\n")
    executor = Recording()
    studies = open_studies({p: s for p, s in specs(path).items() if p.name == "agn+val"})
    # the first study refuses to go on with another plug-in: its trials are only looked at
    with pytest.raises(UserError, match=r"plugins\.bowl\.py"):
        open_studies({p: s for p, s in specs(path).items() if p.name == "val"})
    assert {r.end for r in run_all(studies, executor)} == {"finished"}
    assert len(executor.trained) == 12
    studies[0].close()


@pytest.mark.parametrize(
    ("matrix", "keys"),
    [
        ({"task.epochs": [2, 3]}, {}),
        ({"seed": [0, 1]}, {}),
        ({"objective": OBJECTIVES}, {"task": {"name": "command", "epochs": 1}}),
    ],
)
def test_what_is_not_the_same_trial(matrix: Any, keys: Any, tmp_path: Path) -> None:
    if keys:
        line = 'python -c "print(\'{{\\"val_loss\\": 1.0, \\"agn\\": 2.0}}\')"'
        metrics = {"command": line, "metrics": ["val_loss", "agn"]}
        space = {"x": {"float": [0.0, 1.0]}}
        metrics["command"] += " {x}"
        keys = {"task": {**keys["task"], **metrics}, "search_space": space, "stop": {"trials": 2}}
        matrix = {"objective": [{"preset": "val"}, {"terms": [{"metric": "agn"}], "label": "agn"}]}
    executor = Recording()
    events = drive_all(matrix_file(tmp_path, matrix, **keys), executor)
    assert not any(by_trial(found, "reused") for found in events.values())
    assert len(executor.trained) == sum(len(by_trial(e, "asked")) for e in events.values())


class LosesFirst(Recording):
    """The first trial that it is given never comes back."""

    def wait(self, timeout: float) -> list[Event]:
        for job in [job for job in self._running if self.trained[0] == named(job)]:
            del self._running[job]
            return [(job, Outcome(job.trial.id, {}, failure=Failure("lost", "gone")))]
        return super().wait(timeout)


def named(job: Job) -> tuple[str, int]:
    return job.log.parents[1].name, job.trial.id


def test_a_study_that_stops_itself_leaves_the_others_going(tmp_path: Path) -> None:
    path = matrix_file(tmp_path, {"objective": OBJECTIVES})
    studies = open_studies(specs(path))
    assert [result.end for result in run_all(studies, LosesFirst())] == ["lost", "finished"]
    for study in studies:
        study.close()
    told = by_trial(ledger.read(tmp_path / "runs/agn+val"), "told")
    assert len(told) == 12 and all(event["failure"] is None for event in told.values())


def test_an_interrupted_pool_goes_on(tmp_path: Path) -> None:
    matrix = {"searcher": ["cmaes", "random"], "objective": OBJECTIVES}
    path = matrix_file(tmp_path / "a", matrix)
    whole = drive_all(matrix_file(tmp_path / "b", matrix))
    times = 0
    while True:
        studies = open_studies(specs(path))
        ends = {r.end for r in run_all(studies, observers=[StopsAfter(7)] * len(studies))}
        for study in studies:
            study.close()
        if ends == {"finished"}:
            break
        times += 1
    assert times > 3
    for label, events in whole.items():
        found = ledger.read(tmp_path / "a/runs" / label)
        kept = [e for e in essence(found) if e["kind"] in ("asked", "told")]
        expected = [e for e in essence(events) if e["kind"] in ("asked", "told")]
        assert [{**e, "epochs": 0} for e in kept] == [{**e, "epochs": 0} for e in expected]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = matrix_file(tmp_path, {"objective": OBJECTIVES, "seed": [0, 1]}, stop={"trials": 4})
    home = tmp_path / "m"
    assert typed("check", str(path)) == 0
    assert "no mistakes found in 4 studies" in capsys.readouterr().out
    assert typed("run", str(path), "--dir", str(home)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("val__seed-0  trial ") for line in lines) == 4
    assert any("4 of 4 studies finished" in line for line in lines)
    assert [p.name for p in studies_in(home)] == [
        "agn+val__seed-0",
        "agn+val__seed-1",
        "val__seed-0",
        "val__seed-1",
    ]
    assert typed("status", str(home), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [study["state"] for study in data["studies"]] == ["finished"] * 4
    assert sum(study["reused"] for study in data["studies"]) == 8
    assert typed("status", str(home)) == 0
    assert "4 of 4 studies finished" in capsys.readouterr().out
    assert typed("resume", str(home)) == 0
    for words in (("best", str(home)), ("show", str(home), "1")):
        assert typed(*words) == 2
        assert "here are the 4 studies of a matrix" in capsys.readouterr().err
    assert typed("run", str(path), "--dir", str(home / "val__seed-0")) == 2
    assert "here is a study, not a matrix" in capsys.readouterr().err


def test_what_diverged_is_shared(tmp_path: Path) -> None:
    keys = {"task": {"name": "bowl", "epochs": 2, "mood": "nan"}}
    path = matrix_file(tmp_path, {"objective": OBJECTIVES}, **keys)
    executor = Recording()
    events = drive_all(path, executor)
    told = {label: by_trial(found, "told") for label, found in events.items()}
    for label in told:
        kinds = {t: (e["failure"] or {}).get("kind") for t, e in told[label].items()}
        assert kinds == {t: "diverged" if t % 3 == 2 else None for t in range(12)}
    assert len(executor.trained) == 12  # those that diverged are not tried again


LOGS = """
from hpogen.plugins import task

@task("logs", metrics=("val_loss", "agn"))
def logs(trial):
    yield {"val_loss": trial.config["x"], "agn": -1.0}
"""


def test_an_outcome_that_one_objective_cannot_score_is_not_shared(tmp_path: Path) -> None:
    """The logarithm of a negative metric is an error in one study, and nothing to the other."""
    (tmp_path / "logs.py").write_text(LOGS)
    keys = {"task": {"name": "logs", "epochs": 1}, "plugins": ["logs.py"], "limits": {}}
    bad = {"terms": [{"metric": "agn", "scale": "log"}], "label": "bad"}
    path = matrix_file(tmp_path, {"objective": [bad, "val"]}, stop={"trials": 3}, **keys)
    events = drive_all(path, Recording())
    assert all(e["failure"]["kind"] == "error" for e in by_trial(events["bad"], "told").values())
    assert all(e["failure"] is None for e in by_trial(events["val"], "told").values())
