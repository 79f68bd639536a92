"""An α that is found: `auto` from frozen spreads, `swept` by halves of the validation samples."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.rescored import EPOCHS, made_study, made_trials
from numpy.typing import NDArray
from toys import by_trial, essence, study_file, typed

from hpogen.analysis.comparison import compare
from hpogen.analysis.rescoring import rescore
from hpogen.analysis.trajectory import incumbents
from hpogen.errors import UserError
from hpogen.objective import Location, Objective, label, preset
from hpogen.record import ledger
from hpogen.running.fork import fork
from hpogen.running.runner import run
from hpogen.selection.sweep import HALVINGS, PARTS, swept
from hpogen.spec import load_study
from hpogen.study.read import read
from hpogen.study.standing import alpha, chosen
from hpogen.study.status import best
from hpogen.study.study import Study

AUTO = {"preset": "agn+val", "alpha": "auto", "scale": "log", "standard_after": 5}
SWEPT = {"preset": "agn+val", "alpha": "swept", "scale": "log"}
ALONE = {"preset": "val"}


def finished(path: Path, directory: Path) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study).end == "finished"
    return ledger.read(directory)


def mad(values: list[float]) -> float:
    center = statistics.median(values)
    return 1.4826 * statistics.median(abs(x - center) for x in values)


def by_hand(told: dict[int, dict[str, Any]], budget: int, part: float) -> float:
    """α by the first five, by another computation than the objective's."""
    first = [told[trial]["metrics"] for trial in range(5)]
    agn = mad([math.log(m["agn"] / budget) for m in first])
    return part * mad([m["val_loss"] for m in first]) / agn


@pytest.mark.parametrize("part", [None, 0.5])
def test_auto_is_a_part_of_the_spread_of_the_first_trials(
    part: float | None, tmp_path: Path
) -> None:
    objective = AUTO if part is None else {**AUTO, "part": part}
    path = study_file(tmp_path, objective=objective)
    told = by_trial(finished(path, tmp_path / "q"), "told")
    expected = by_hand(told, 2, part or 0.25)
    for line in told.values():
        m = line["metrics"]
        score = m["val_loss"] + expected * math.log(m["agn"] / 2)
        assert line["score"] == pytest.approx(score, rel=1e-12)
    found = read(tmp_path / "q")
    assert alpha(found) == pytest.approx(expected, rel=1e-12) == best(found)["alpha"]
    scales = [event for event in ledger.read(tmp_path / "q") if event["kind"] == "scale"]
    assert len(scales) == 1 and {*scales[0]["metrics"]} == {"log(agn)", "val_loss"}


def test_each_budget_has_its_own_alpha(tmp_path: Path) -> None:
    keys = {
        "task": {"name": "bowl", "epochs": 4},
        "searcher": {"name": "hyperband", "brackets": 3},
        "budgets": {"min": 1, "max": 4, "eta": 2},
        "stop": {"trials": 40},
        "objective": {**AUTO, "standard_after": 2},
    }
    events = finished(study_file(tmp_path, **keys), tmp_path / "q")
    spreads = {
        e["budget"]: e["metrics"]["val_loss"]["spread"] for e in events if "center" in str(e)
    }
    assert {*spreads} == {1, 2, 4} and len({*spreads.values()}) > 1


def test_auto_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Cut behind every line, between the scale and what it was waited for with, too."""
    searcher = {"name": "cmaes", "population": 4}
    path = study_file(tmp_path, objective=AUTO, searcher=searcher, stop={"trials": 9})
    whole = finished(path, tmp_path / "whole")
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines)):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        assert essence(finished(path, directory)) == essence(whole), f"cut behind line {cut}"


def test_spreads_of_zero_are_those_of_the_scale_standard() -> None:
    objective = Objective(preset("agn+val", "auto"), "", part=0.25)
    same = [{"agn": 3.0, "val_loss": x} for x in (0.1, 0.2, 0.4, 0.5, 0.6)]
    locations = objective.locations(same, 1)
    assert locations["agn"] == Location(3.0, 1.0)
    assert objective.alpha(locations) == 0.25 * mad([m["val_loss"] for m in same])
    scores = [objective.score(m, 1, locations) for m in same]
    assert scores == sorted(scores)  # the order is that of the loss
    flat = [{"agn": x, "val_loss": 0.5} for x in (1.0, 2.0, 4.0)]
    assert objective.alpha(objective.locations(flat, 1)) == 0.25 / mad([1.0, 2.0, 4.0])


def test_what_has_no_logarithm_is_left_out_of_the_spread() -> None:
    objective = Objective(preset("agn+val", "auto", "log"), "", part=0.25)
    good = [{"agn": float(x), "val_loss": 0.1 * x} for x in (1, 2, 4, 7)]
    odd = {"agn": -1.0, "val_loss": 0.5}
    assert (
        objective.locations([*good, odd], 1)["log(agn)"] == objective.locations(good, 1)["log(agn)"]
    )
    assert objective.locations([odd], 1)["log(agn)"] == Location(0.0, 1.0)


@pytest.mark.parametrize("form", [AUTO, {**AUTO, "part": 0.1}, SWEPT])
def test_the_record_gives_the_same_objective(form: dict[str, Any], tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.2, "validation": 100}
    task = {"dataset": dataset, "model": {"name": "mlp", "width": 8}, "epochs": 2}
    space = {"lr": {"float": [0.001, 1.0], "log": True, "default": 0.1}}
    spec = load_study(
        study_file(tmp_path, task=task, search_space=space, plugins=[], objective=form)
    )
    record = json.loads(json.dumps(spec.record()))
    assert spec.with_record(record).objective == spec.objective
    expected = {**form, "part": form.get("part", 0.25)} if form["alpha"] == "auto" else form
    assert record["objective"] == {"standard_after": 8, **expected}


def test_labels() -> None:
    assert label("agn+val", "auto", "log", 0.25) == "agn+val (α auto 0.25, log)"
    assert label("agn+val", "swept") == "agn+val (α swept)"


MISTAKES = {
    "objective.part: is for alpha: auto, got alpha: 0.1": {
        "preset": "agn+val",
        "alpha": 0.1,
        "part": 1.0,
    },
    "objective.part: got 0, expected more than 0": {**AUTO, "part": 0},
    "objective.alpha: got 'aut', expected a number or 'auto' or 'swept'": {**AUTO, "alpha": "aut"},
    "objective.scale: 'standard' does not go together with alpha: auto": {
        **AUTO,
        "scale": "standard",
    },
    "preset 'val' has no AGN term that part could apply to": {"preset": "val", "part": 0.5},
    "'swept' reads the loss of each validation sample, which task 'bowl' does not keep": SWEPT,
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_is_wrong_is_said_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_study(study_file(tmp_path, objective=MISTAKES[text]))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_swept_has_no_use_for_training_loss_alone(tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.2, "validation": 100}
    task = {"dataset": dataset, "model": "mlp", "epochs": 1}
    keys = {"task": task, "search_space": {"lr": {"float": [0.01, 1.0]}}, "plugins": []}
    form = {**SWEPT, "preset": "agn+train"}
    with pytest.raises(UserError, match=r"objective\.alpha: 'swept' chooses by validation losses"):
        load_study(study_file(tmp_path, objective=form, **keys))
    with pytest.raises(UserError, match="'val_loss' leaves alpha aside"):
        load_study(study_file(tmp_path, objective=SWEPT, selection="val_loss", **keys))


def test_a_fork_finds_its_own_alpha(tmp_path: Path) -> None:
    finished(study_file(tmp_path / "old"), tmp_path / "q")
    new = study_file(tmp_path / "new", objective={**AUTO, "part": 1.0})
    assert fork(tmp_path / "q", new, tmp_path / "n").reused == 12
    told = by_trial(ledger.read(tmp_path / "n"), "told")
    assert alpha(read(tmp_path / "n")) == pytest.approx(by_hand(told, 2, 1.0))


def test_rescore_asks_auto_of_an_old_study(tmp_path: Path) -> None:
    metrics, _, audits = made_trials(0, 30, 20)
    home = made_study(tmp_path, metrics, audits=audits)
    first = metrics[:8]
    agn = mad([math.log(m["agn"] / EPOCHS) for m in first])
    weight = 0.25 * mad([m["val_loss"] for m in first]) / agn
    scores = [m["val_loss"] + weight * math.log(m["agn"] / EPOCHS) for m in metrics]
    found = rescore(read(home), "agn+val", scale="log", alpha="auto")
    assert found.asked is not None and found.asked.trial == int(np.argmin(scores))
    assert found.weighed == "agn+val (α auto 0.25, log)" and len(found.alphas) == 26
    assert typed("rescore", home, "--objective", "agn+val", "--alpha", "auto", "--json") == 0


def test_rescore_weighs_a_study_that_found_its_alpha(tmp_path: Path) -> None:
    """`--alpha 0.3` of a study by `auto` leaves its part behind; its own rule keeps it."""
    finished(study_file(tmp_path, objective=AUTO), tmp_path / "q")
    study = read(tmp_path / "q")
    found = rescore(study, alpha=0.3)
    assert found.asked is not None and found.asked.rule == "agn+val (α 0.3, log)"
    assert found.own.trial == best(study)["trial"]
    assert rescore(study, "agn+val").asked is None  # its own α and part serve


def test_compare_tells_the_parts_apart(tmp_path: Path) -> None:
    for name, part in (("a", 0.25), ("b", 1.0)):
        path = study_file(tmp_path / name, objective={**AUTO, "part": part}, name=name)
        finished(path, tmp_path / "runs" / name)
    found = compare([tmp_path / "runs" / "a", tmp_path / "runs" / "b"])
    labels = [row.arm for task in found.tasks for row in task.rows]
    assert len({*labels}) == 2


Losses = NDArray[np.float32]


def planted(
    seed: int, informative: bool, n: int = 40, samples: int = 30
) -> tuple[list[float], Losses, NDArray[np.float64]]:
    """Values, losses, and the true loss of each trial.

    Validation has few samples, each a draw around the truth. The values follow the truth, or are
    noise.
    """
    generator = np.random.default_rng(seed)
    truth = 1 + 0.1 * generator.standard_normal(n)
    losses = truth[:, None] + generator.standard_normal((n, samples))
    noise = generator.standard_normal(n)
    values = 10 * truth + 0.3 * noise if informative else noise
    return values.tolist(), losses.astype(np.float32), truth


SEEDS = range(100)


@pytest.mark.parametrize("informative", [True, False])
def test_alpha_is_above_zero_where_agn_says_what_validation_hides_else_zero(
    informative: bool,
) -> None:
    """And by the truth, which it does not see: it gains there, and costs next to nothing else."""
    above, gained = [], []
    for seed in SEEDS:
        values, losses, truth = planted(seed, informative, samples=250)
        weight = swept(values, losses)
        mean = losses.mean(axis=1)
        above.append(weight > 0)
        gained.append(truth[mean.argmin()] - truth[(mean + weight * np.array(values)).argmin()])
    share, gain = float(np.mean(above)), float(np.mean(gained))
    assert (share > 0.7 and gain > 0.008) if informative else (share < 0.45 and gain > -0.004)


def test_the_estimate_by_a_loop() -> None:
    """Every α, halving, sample: with plain numbers."""
    values, losses, _ = planted(3, informative=True, n=6, samples=9)
    mean = losses.astype(np.float64).mean(axis=1)
    spread = mad(mean.tolist()) / mad(values)
    generator = np.random.default_rng(0)
    halves = [generator.permutation(9)[:4] for _ in range(HALVINGS)]
    judged = []
    for part in PARTS:
        own = [0.0] * 9
        for first in halves:
            rest = [k for k in range(9) if k not in first]
            for chooses, judges in ((first, rest), (rest, first)):
                scores = [
                    statistics.fmean(float(losses[i, k]) for k in chooses)
                    + part * spread * values[i]
                    for i in range(6)
                ]
                choice = scores.index(min(scores))
                for k in judges:
                    own[k] += float(losses[choice, k]) / HALVINGS
        judged.append(own)
    best = min(judged, key=statistics.fmean)
    expected = math.nan
    for part, own in zip(PARTS, judged, strict=True):
        d = [a - b for a, b in zip(own, best, strict=True)]
        if not any(d) or statistics.fmean(d) <= statistics.stdev(d) / 3:
            expected = part * spread
            break
    assert swept(values, losses) == pytest.approx(expected, rel=1e-9)


def test_few_trials_and_values_that_are_not_defined() -> None:
    values, losses, _ = planted(0, informative=True)
    assert swept(values[:3], losses[:3]) == 0
    assert swept([math.inf] * 40, losses) == 0
    some = [math.inf, *values[1:]]
    assert swept(some, losses) >= 0


def searched(tmp_path: Path, seed: int, informative: bool) -> Path:
    """A study by `swept` with planted losses, whose audits are the truth."""
    values, losses, truth = planted(seed, informative)
    metrics = [
        {"val_loss": float(own.mean(dtype=np.float64)), "agn": EPOCHS * math.exp(x)}
        for x, own in zip(values, losses, strict=True)
    ]
    audits = [{"accuracy": 0.5, "loss": float(x)} for x in truth]
    return made_study(tmp_path, metrics, losses, audits, objective=SWEPT)


@pytest.mark.parametrize("informative", [True, False])
def test_a_study_by_swept_answers_with_it(informative: bool, tmp_path: Path) -> None:
    home = searched(tmp_path, 1, informative)
    study = read(home)
    values, losses, _ = planted(1, informative)
    weight = swept(np.log(np.exp(values)).tolist(), losses)
    assert (weight > 0) == informative
    assert alpha(study) == pytest.approx(weight) == best(study)["alpha"]
    answer = chosen(study)
    mean = losses.mean(axis=1, dtype=np.float64)
    assert answer is not None
    assert answer.trial.id == int((mean + weight * np.array(values)).argmin())
    found = rescore(study)
    assert found.own.trial == answer.trial.id
    assert found.validation is not None and found.validation.trial == int(mean.argmin())
    asked = rescore(study, "agn+val", alpha="swept", scale="log", validation=[10])
    assert asked.own.trial == answer.trial.id and asked.labels
    last = incumbents(study)[-1]
    assert last is not None and last.trial.id == answer.trial.id


def test_another_study_is_asked_for_swept(tmp_path: Path) -> None:
    values, losses, _ = planted(7, informative=True)
    metrics = [
        {"val_loss": float(own.mean(dtype=np.float64)), "agn": EPOCHS * math.exp(x)}
        for x, own in zip(values, losses, strict=True)
    ]
    home = made_study(tmp_path, metrics, losses, objective=ALONE)
    found = rescore(read(home), "agn+val", alpha="swept", scale="log")
    assert found.asked is not None and found.asked.trial != found.own.trial
    with pytest.raises(UserError, match="expected a number, auto or swept"):
        typed_alpha("guess")


def typed_alpha(text: str) -> object:
    from hpogen.study.restate import alpha_of

    return alpha_of(text)


@pytest.mark.parametrize("searcher", ["random", {"name": "cmaes", "population": 4}])
def test_the_search_of_swept_is_that_of_val(searcher: Any, tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.2, "validation": 100}
    keys = {
        "task": {"dataset": dataset, "model": {"name": "mlp", "width": 8}, "epochs": 1},
        "search_space": {
            "lr": {"float": [0.001, 1.0], "log": True, "default": 0.1},
            "momentum": {"float": [0.0, 0.9], "default": 0.5},
        },
        "plugins": [],
        "stop": {"trials": 8},
        "searcher": searcher,
    }
    told = {
        name: by_trial(
            finished(study_file(tmp_path / name, objective=form, **keys), tmp_path / f"{name}-run"),
            "told",
        )
        for name, form in (("swept", SWEPT), ("val", ALONE))
    }
    for trial, line in told["val"].items():
        assert told["swept"][trial]["score"] == line["score"] == line["metrics"]["val_loss"]
        assert "agn" in told["swept"][trial]["metrics"]
    assert best(read(tmp_path / "swept-run"))["alpha"] >= 0
