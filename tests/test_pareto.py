"""Fronts of several scores: what is searched, recorded, chosen, shown, and refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna._hypervolume import compute_hypervolume
from toys import as_read, essence, study_file, typed

from hpogen.analysis.fronts import compared, front_of, hypervolume, reference_of, volumes
from hpogen.analysis.rescoring import rescore
from hpogen.errors import UserError
from hpogen.export.exporting import export
from hpogen.record import ledger
from hpogen.report.verdict import verdict
from hpogen.running.fork import fork
from hpogen.running.runner import run
from hpogen.searchers.optuna import OptunaSearcher
from hpogen.selection.front import front, knee
from hpogen.space import Space
from hpogen.spec import load_study
from hpogen.spec.schema import schema
from hpogen.study.open import loaded
from hpogen.study.read import Folder, read
from hpogen.study.restate import restated, scores_form
from hpogen.study.standing import chosen, front_scores
from hpogen.study.status import best, status
from hpogen.study.study import Study

TWO: dict[str, Any] = {"pareto": ["val_loss", {"metric": "agn", "scale": "log"}]}
OPTUNAS = ["TPESampler", "NSGAIISampler", "NSGAIIISampler", "GPSampler"]


def searched(tmp_path: Path, name: str = "q", **keys: Any) -> Folder:
    path = study_file(tmp_path / f"yaml {name}", **{"objective": TWO, **keys})
    with Study(load_study(path), tmp_path / name) as study:
        assert run(study).end == "finished"
    return read(tmp_path / name)


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    pairs = [*zip(a, b, strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_front_is_what_no_other_dominates(k: int) -> None:
    generator = np.random.default_rng(k)
    for n, values in itertools.product((1, 2, 7, 60), (3, 1000)):
        scores = generator.integers(0, values, (n, k)).astype(float)
        scores[generator.random(n) < 0.1] = np.inf  # not defined
        expected = [
            i
            for i, own in enumerate(scores)
            if np.isfinite(own).all() and not any(dominates(other, own) for other in scores)
        ]
        assert front(scores.tolist()) == expected
    assert front([]) == [] and front([(np.inf, np.inf)]) == []


def test_equal_trials_are_all_on_the_front_and_the_first_is_the_knee() -> None:
    same = [(1.0, 2.0)] * 4
    assert front(same) == [0, 1, 2, 3]
    assert knee(same) == [0.0] * 4


def test_the_knee_is_the_farthest_below_the_line_between_the_ends() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        x = np.sort(generator.random(9))
        y = np.sort(generator.random(9))[::-1]
        ends = np.array([x[-1] - x[0], y[-1] - y[0]])
        scaled = np.stack([(x - x[0]) / ends[0], (y - y[-1]) / -ends[1]], axis=1)
        below = (1 - scaled.sum(axis=1)) / np.sqrt(2)  # from the line u + v = 1
        assert int(np.argmin(knee([*zip(x, y, strict=True)]))) == int(below.argmax())
    assert knee([(1.0, 5.0, 0.0), (2.0, 5.0, 0.5)]) == [0.0, 2.0]  # the second says nothing


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_hypervolume_is_the_volume_and_optunas_own_to_the_bit(k: int) -> None:
    generator = np.random.default_rng(k)
    scores = generator.integers(0, 5, (12, k)).astype(float)
    at = (4.0,) * k
    cells = itertools.product(range(4), repeat=k)  # unit cubes that some point dominates
    inside = sum(any((own <= np.array(cell)).all() for own in scores) for cell in cells)
    assert hypervolume(scores.tolist(), at) == inside
    within = scores[(scores <= 4).all(axis=1)]
    assert hypervolume(scores.tolist(), at) == compute_hypervolume(within, np.array(at))
    assert hypervolume([(5.0,) * k], at) == 0.0 and hypervolume([], at) == 0.0


def zdt(number: int, x: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Zitzler, Deb and Thiele 2000."""
    f, g = float(x[0]), 1 + 9 * float(x[1:].mean())
    h = {1: 1 - (f / g) ** 0.5, 2: 1 - (f / g) ** 2}.get(number)
    if h is None:
        h = 1 - (f / g) ** 0.5 - f / g * np.sin(10 * np.pi * f)
    return f, float(g * h)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", OPTUNAS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_engines_are_optunas_own_to_the_bit(sampler: str, number: int) -> None:
    """So their hypervolume is: ZDT1 to ZDT3, three variables, 40 trials (GP: 14)."""
    names = ["a", "b", "c"]
    trials = 14 if sampler == "GPSampler" else 40
    space = Space.parse({name: {"float": [0.0, 1.0]} for name in names})
    ours = OptunaSearcher(space, (1,), 7, scores=2, sampler=sampler)
    theirs = optuna.create_study(
        sampler=getattr(optuna.samplers, sampler)(seed=7), directions=["minimize"] * 2
    )
    unit: optuna.distributions.BaseDistribution = optuna.distributions.FloatDistribution(0.0, 1.0)
    found: list[list[tuple[float, float]]] = [[], []]
    for i in range(trials):
        config, trial = ours.ask().config, theirs.ask(dict.fromkeys(names, unit))
        assert dict(config) == trial.params
        for own in found:
            own.append(zdt(number, np.array([trial.params[name] for name in names])))
        ours.tell_scores(i, found[0][-1], {})
        theirs.tell(trial, found[1][-1])
    worst = np.array([11.0, 11.0])
    values = np.array([t.values for t in theirs.trials])
    assert hypervolume(found[0], (11.0, 11.0)) == compute_hypervolume(values, worst)


def test_failed_and_infeasible_trials_are_told_behind_in_each_score() -> None:
    space = Space.parse({"x": {"float": [0.0, 1.0]}})
    searcher = OptunaSearcher(space, (1,), 0, scores=2, sampler="RandomSampler")
    for _ in range(4):
        searcher.ask()
    searcher.tell_scores(0, (1.0, 10.0), {})
    searcher.tell(1, float("inf"))
    searcher.tell_scores(2, (3.0, 4.0), {})
    searcher.tell_scores(3, (0.0, 0.0), {"gap": 1.0})  # it does not know constraints
    values = [trial.values for trial in searcher._pool._study.trials]
    assert values == [[1.0, 10.0], [2.0, 11.0], [3.0, 4.0], [4.0, 13.0]]


@pytest.mark.parametrize(
    "searcher", ["random", "optuna", {"name": "optuna", "sampler": "NSGAIISampler"}]
)
def test_a_study_records_its_scores_and_goes_on(tmp_path: Path, searcher: Any) -> None:
    study = searched(tmp_path, searcher=searcher)
    told = [event for event in ledger.read(study.directory) if event["kind"] == "told"]
    for event in told:
        metrics = event["metrics"]
        assert event["scores"] == [metrics["val_loss"], float(np.log(metrics["agn"] / 2))]
        assert event["score"] == event["scores"][0]
    spec = load_study(tmp_path / "yaml q" / "study.yaml")
    with Study(spec, tmp_path / "parts") as first:
        run(first, seconds=0)
        for _ in range(5):
            trial = first.next()
            assert trial is not None
            break
    with Study(spec, tmp_path / "parts") as second:
        assert run(second).end == "finished"
    parts = ledger.read(tmp_path / "parts")
    assert essence(parts) == essence(ledger.read(study.directory))


def test_the_answer_is_the_knee_of_the_front_or_what_selection_says(tmp_path: Path) -> None:
    study = searched(tmp_path, stop={"trials": 30})
    assert study.spec.selection == "knee"
    scores = {r.trial.id: r.scores for r in study.finished}
    there = [n for n in scores if not any(dominates(scores[m], scores[n]) for m in scores)]
    found = best(study)
    assert [*found["front"]] == there == [*front_scores(study)] and 1 < len(there) < 30
    first = dict(zip(["val_loss", "log(agn)"], scores[there[0]], strict=True))
    assert found["front"][there[0]] == first
    own = np.array([scores[n] for n in there])
    low, high = own.min(axis=0), own.max(axis=0)
    sums = {n: float(((np.array(scores[n]) - low) / (high - low)).sum()) for n in there}
    assert found["trial"] == min(there, key=lambda n: sums[n])
    by_loss = best(study, restated(study, selection="val_loss"))
    assert by_loss["trial"] == min(there, key=lambda n: scores[n][0])
    assert status(study)["front"] == len(there)
    text = " ".join(verdict(study, "finished", [], 10_000))
    assert f"selected by knee chose trial {found['trial']}" in text
    assert f"the front has {len(there)} trials" in text


def test_maximize_turns_a_score_round(tmp_path: Path) -> None:
    pareto = ["val_loss", {"metric": "gap_loss", "maximize": True}]
    study = searched(tmp_path, objective={"pareto": pareto})
    for record in study.finished:
        assert record.outcome is not None
        metrics = record.outcome.metrics
        assert record.scores == (metrics["val_loss"], -metrics["gap_loss"])
    assert study.spec.objective.label == "pareto of val_loss, max gap_loss"
    again = load_study(tmp_path / "yaml q" / "study.yaml").record()["objective"]
    assert again["pareto"][1] == {"metric": "gap_loss", "scale": "raw", "maximize": True}


def test_the_front_is_of_feasible_trials_alone(tmp_path: Path) -> None:
    study = searched(
        tmp_path, searcher="optuna", constraints={"gap_loss": "<= -0.2"}, stop={"trials": 25}
    )
    there = front_of(study).records
    assert there and all(record.feasible for record in there)
    assert any(not record.feasible for record in study.history.records)


def test_the_reference_point_is_the_worst_of_the_first_trials_and_stays(tmp_path: Path) -> None:
    study = searched(tmp_path, stop={"trials": 20})
    first = [record.scores for record in study.history.records[:8]]
    assert reference_of(study) == tuple(np.array(first).max(axis=0).tolist())
    few = searched(tmp_path, "few", stop={"trials": 7})
    assert reference_of(few) is None and front_of(few).volume is None
    point = reference_of(study)
    assert point is not None
    walk = volumes(study, point)
    assert [v for _, v in walk] == sorted(v for _, v in walk)
    whole = hypervolume([record.scores for record in study.finished], point)
    assert walk[-1][1] == front_of(study).volume == whole


def test_arms_are_compared_up_to_one_reference_point(tmp_path: Path) -> None:
    arms = {
        s: [searched(tmp_path, s, searcher=s, stop={"trials": 16})] for s in ("random", "optuna")
    }
    found = compared(arms)
    points = [reference_of(own[0]) for own in arms.values()]
    assert {one.reference for one in found} == {tuple(np.array(points).max(axis=0).tolist())}
    assert [one.epochs for one in found] == [(8.0, 16.0, 24.0, 32.0)] * 2
    for one, (study,) in zip(found, arms.values(), strict=True):
        assert one.volume[-1] == front_of(study, one.reference).volume
    other = searched(tmp_path, "other", objective={"pareto": ["val_loss", "gap_loss"]})
    assert compared({**arms, "other": [other]}) == ()


def test_no_improvement_is_that_the_front_stays_as_it_is(tmp_path: Path) -> None:
    study = searched(tmp_path, stop={"trials": 200, "no_improvement": 6})
    scores = [record.scores for record in study.history.records]
    assert len(scores) < 200
    new = [i for i, own in enumerate(scores) if not any(
        all(a <= b for a, b in zip(other, own, strict=True)) for other in scores[:i]
    )]  # fmt: skip
    assert len(scores) == max(new) + 7 and max(np.diff(new)) <= 6


def test_old_studies_are_asked_for_their_front(tmp_path: Path) -> None:
    study = searched(tmp_path, objective="val", searcher="cmaes", stop={"trials": 30})
    found = rescore(study, scores_form("val_loss, {metric: agn, scale: log}"))
    assert found.asked is not None
    spec = restated(study, {"pareto": TWO["pareto"]}, "knee")
    answer = chosen(study, spec)
    assert answer is not None and answer.trial.id == found.asked.trial
    assert found.asked.rule == "pareto of val_loss, log(agn), knee"
    with pytest.raises(UserError, match=r"metric 'agm' is unknown; did you mean 'agn'"):
        rescore(study, scores_form("[val_loss, agm]"))
    assert typed("rescore", tmp_path / "q", "--pareto", "val_loss, agn") == 0
    assert typed("best", tmp_path / "q", "--knee") == 2


def test_a_fork_scores_anew(tmp_path: Path) -> None:
    old = searched(tmp_path, objective="val")
    new = study_file(tmp_path / "new", objective=TWO, stop={"trials": 15})
    fork(old.directory, new, tmp_path / "n", [])
    with Study(loaded(read(tmp_path / "n")), tmp_path / "n") as study:
        assert run(study).end == "finished"
    there = read(tmp_path / "n")
    assert all(len(record.scores) == 2 for record in there.history.records)
    assert len(there.history.records) == 15
    assert [r.trial.config for r in there.history.records[:12]] == [
        r.trial.config for r in old.history.records
    ]


def test_it_is_an_optuna_study_of_several_scores(tmp_path: Path) -> None:
    study = searched(tmp_path)
    url = f"sqlite:///{tmp_path}/study.db"
    export(study.directory, url)
    copy = optuna.load_study(study_name="study", storage=url)
    assert len(copy.directions) == 2
    assert [t.values for t in copy.trials] == [[*r.scores] for r in study.history.records]
    assert sorted(t.number for t in copy.best_trials) == [*front_scores(study)]


def test_a_table_has_a_column_per_score(tmp_path: Path) -> None:
    study = searched(tmp_path)
    export(study.directory, str(tmp_path / "t.parquet"))
    frame = pd.read_parquet(tmp_path / "t.parquet")
    pairs = zip(frame["scores.val_loss"], frame["scores.agn"], strict=True)
    assert [*pairs] == [r.scores for r in study.history.records]
    assert [*frame["score"]] == [*frame["scores.val_loss"]]


def test_a_trial_without_a_score_has_failed(tmp_path: Path) -> None:
    """The logarithm of a negative number, and NaN."""
    task = {"name": "bowl", "epochs": 2, "mood": "nan"}
    pareto = ["val_loss", {"metric": "agn", "scale": "log"}]
    study = searched(tmp_path, task=task, objective={"pareto": pareto}, searcher="optuna")
    failed = [r for r in study.history.records if r.failure is not None]
    assert [r.failure.kind for r in failed if r.failure] == ["diverged"] * 4
    assert all(r.scores == () for r in failed)
    assert not {r.trial.id for r in failed} & {*front_scores(study)}


def test_a_score_that_is_the_same_for_all_leaves_the_other(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    path = study_file(tmp_path / "flat", objective={"pareto": ["val_loss", "agn"]})
    task = (tmp_path / "flat" / "bowl.py").read_text()
    (tmp_path / "flat" / "bowl.py").write_text(task.replace("(epoch + 1) * (1 + x)", "3.0"))
    with Study(load_study(path), tmp_path / "q") as study:
        assert run(study).end == "finished"
    there = read(tmp_path / "q")
    least = min(there.finished, key=lambda record: record.score)
    assert [*front_scores(there)] == [least.trial.id] == [best(there)["trial"]]
    assert front_of(there).volume == 0.0  # it has no extent in the second


MISTAKES: dict[str, dict[str, Any]] = {
    "objective.pareto: searcher 'cmaes' learns from one score, and pareto has 2: use optuna": {
        "searcher": "cmaes"
    },
    "searcher: optuna: CmaEsSampler learns from one score, expected one of GPSampler": {
        "searcher": {"name": "optuna", "sampler": "CmaEsSampler"}
    },
    "objective.pareto: got ['val_loss'], expected at least 2 values": {
        "objective": {"pareto": ["val_loss"]}
    },
    "objective.pareto.1: 'val_loss' is a score twice": {
        "objective": {"pareto": ["val_loss", "val_loss"]}
    },
    "objective.pareto.1.metric: metric 'agm' is unknown; did you mean 'agn'?": {
        "objective": {"pareto": ["val_loss", "agm"]}
    },
    "objective.pareto.0.metric: audit is for analysis only: no objective can name 'audit_error'": {
        "objective": {"pareto": ["audit_error", "agn"]}
    },
    "objective.pareto.1.scale: 'log' is refused for 'gap_loss', which may be negative": {
        "objective": {"pareto": ["val_loss", {"metric": "gap_loss", "scale": "log"}]}
    },
    "objective.pareto.1.scale: 'standard' is unknown (log, per_epoch, raw)": {
        "objective": {"pareto": ["val_loss", {"metric": "agn", "scale": "standard"}]}
    },
    "objective.terms: does not go together with pareto": {
        "objective": {**TWO, "terms": [{"metric": "agn"}]}
    },
    "objective.alpha: does not go together with pareto": {"objective": {**TWO, "alpha": 0.1}},
    "prune: compares trials by one score, and pareto has several": {"prune": "median"},
    "selection: 'knee' is of a Pareto front: it needs an objective of several scores": {
        "objective": "val",
        "selection": "knee",
    },
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(tmp_path: Path, text: str) -> None:
    path = study_file(tmp_path, **{"objective": TWO, **MISTAKES[text]})
    with pytest.raises(UserError) as error:
        load_study(path)
    assert text in str(error.value) and "\n" not in str(error.value).strip()


def test_the_schema_knows_it() -> None:
    text = json.dumps(schema())
    assert '"pareto"' in text and '"maximize"' in text and '"knee"' in text


def test_pages_show_the_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = searched(tmp_path, "a", stop={"trials": 16})
    b = searched(tmp_path, "b", searcher="optuna", stop={"trials": 16})
    assert typed("compare", a.directory, b.directory) == 0
    assert "hypervolume of the Pareto front up to the reference point" in capsys.readouterr().out
    assert typed("report", a.directory, b.directory, "--out", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text()
    assert "Which trials does no other dominate?" in page
    assert "hypervolume against epochs" in page
    assert as_read(a.spec, a.history).finished == a.finished
