"""What a study becomes when it is loaded: defaults, shorthand, overrides, and its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpogen.errors import UserError
from hpogen.report.planned import check_page
from hpogen.spec import StudySpec, changes, load_studies, load_study
from hpogen.spec.positions import Unreadable, parse
from hpogen.spec.schema import schema
from hpogen.study.rehearsal import plan

STUDIES = Path(__file__).parent.parent / "studies"

PLUGIN = """
from hpogen.plugins import searcher, task
from hpogen.searchers.random import RandomSearcher

@task("spec-toy", metrics=("val_loss", "agn"), sums=("agn",), resumable=True)
def train(trial, *, difficulty: float = 1.0, layers: tuple[int, ...] = (8,), note=None):
    yield {}

@task("spec-rows", metrics=("val_loss",), data=True)
def rows(trial):
    yield {}

@searcher("spec-rungs")
class Rungs(RandomSearcher):
    multi_fidelity = True
"""

STUDY = """
plugins: [toy.py]
task: {name: spec-toy, epochs: 16}
search_space: {x: {float: [1e-7, 1.0], log: true, default: 0.5}, y: {int: [1, 9], default: 2}}
searcher: cmaes
stop: {trials: 4}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(PLUGIN)
    (tmp_path / "a.yaml").write_text(STUDY)
    return tmp_path / "a.yaml"


def reloaded(spec: StudySpec) -> StudySpec:
    return StudySpec.from_record(json.loads(json.dumps(spec.record(), allow_nan=False)))


def test_the_record_is_complete(study: Path) -> None:
    assert load_study(study).record() == {
        "name": "a",
        "seed": 0,
        "task": {
            "name": "spec-toy",
            "epochs": 16,
            "threads": 1,
            "difficulty": 1.0,
            "layers": [8],
            "note": None,
        },
        "search_space": {
            "x": {"float": [1e-7, 1.0], "log": True, "default": 0.5},
            "y": {"int": [1, 9], "log": False, "default": 2},
        },
        "searcher": {
            "name": "cmaes",
            "population": None,
            "sigma": 0.25,
            "asynchronous": False,
        },
        "objective": {"preset": "val", "standard_after": 8},
        "selection": "score",
        "finalists": None,
        "stop": {"epochs": None, "trials": 4},
        "baselines": {"default": {"x": 0.5, "y": 2}},
        "limits": {"trial_seconds": None, "epoch_seconds": None, "max_consecutive_errors": 10},
        "enqueue": [{"x": 0.5, "y": 2}],
        "plugins": [str(study.parent / "toy.py")],
        "checkpoints": {"keep": "best", "top": 1, "path": None},
        "budgets": None,
        "rungs": "retrain",
        "primary": None,
    }


VARIANTS = [
    [],
    ["searcher=grid"],
    ["searcher={name: cmaes, population: 6}", "enqueue=[]", "seed=7", "name=b"],
    ["searcher=random", "enqueue=[default, {x: 0.1}]", "baselines={p: {y: 3}, q: {}}"],
    ["searcher=spec-rungs", "budgets={min: 4, max: 16, eta: 2}", "rungs=continue"],
    ["objective={preset: agn+val, alpha: 1, scale: log}", "checkpoints.keep=final"],
    ["objective={terms: [{metric: agn, weight: -2, scale: rank}], standard_after: 3}"],
    ["task.layers=[1, 2]", "task.difficulty=3", "stop={epochs: 160}", "selection=val_loss"],
]


@pytest.mark.parametrize("overrides", VARIANTS)
def test_a_record_gives_the_same_study(study: Path, overrides: list[str]) -> None:
    spec = load_study(study, overrides)
    again = reloaded(spec)
    assert again.record() == spec.record()
    assert json.dumps(again.record()) == json.dumps(spec.record())
    assert changes(spec.record(), again.record()) == []
    assert (again.task, again.objective, again.enqueue) == (spec.task, spec.objective, spec.enqueue)
    assert again.make_searcher().ask() == spec.make_searcher().ask()


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**40), st.floats(-1e300, 1e300))
def test_a_record_keeps_every_number(seed: int, trials: int, weight: float) -> None:
    mapping = {
        "seed": seed,
        "task": {"name": "command", "command": "run {x}", "metrics": ["loss"], "epochs": 3},
        "search_space": {"x": {"float": [0, 1]}},
        "searcher": "random",
        "objective": {"terms": [{"metric": "loss", "weight": weight}]},
        "stop": {"trials": trials},
    }
    spec = StudySpec.from_record(mapping)
    assert (spec.seed, spec.stop.trials, spec.objective.terms[0].weight) == (seed, trials, weight)
    assert reloaded(spec).record() == spec.record()


def test_shorthand_and_resolved_parts(study: Path) -> None:
    spec = load_study(study, ["objective=agn+val", "objective.alpha=0.5", "searcher.sigma=0.1"])
    assert spec.searcher.name == "cmaes"
    assert spec.searcher.options == {"population": None, "sigma": 0.1, "asynchronous": False}
    assert [(t.metric, t.weight) for t in spec.objective.terms] == [("agn", 0.5), ("val_loss", 1)]
    assert spec.objective.sums == {"agn"}
    assert spec.budgets == (16,)
    assert spec.enqueue == (spec.space.default,)
    assert spec.make_searcher().ask().config == {"x": 0.5, "y": 2}  # type: ignore[union-attr]
    assert load_study(study, ["searcher=grid"]).enqueue == ()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "{name: optuna, sampler: TPESampler}"),
        (["budgets={min: 4, max: 16, eta: 2}"], "{name: asha}"),
        (["budgets={over: data, min: 0.1, max: 0.4, eta: 2}"], "{name: asha}"),
        (["budgets={over: data, min: 0.1, max: 0.1, eta: 2}"], "{name: optuna}"),  # one rung
    ],
)
def test_a_study_that_names_no_searcher_has_the_usual_one(
    study: Path, more: list[str], expected: str
) -> None:
    study.write_text(STUDY.replace("searcher: cmaes\n", "").replace("spec-toy", "spec-rows"))
    left_out = load_study(study, more)
    named = load_study(study, [*more, f"searcher={expected}"])
    assert left_out.record() == named.record()
    assert left_out.record() == load_study(study, [*more, "searcher=null"]).record()
    assert left_out.make_searcher().ask() == named.make_searcher().ask()
    line = f"searcher:   {named.searcher.name}"
    assert line in check_page(named, plan(named), "a.yaml")
    assert f"{line}, since the study names none" in check_page(left_out, plan(named), "a.yaml")


def test_budgets_are_powers(study: Path) -> None:
    spec = load_study(
        study, ["searcher=spec-rungs", "task.epochs=243", "budgets={min: 1, max: 243, eta: 3}"]
    )
    assert spec.budgets == (1, 3, 9, 27, 81, 243)


def test_null_is_as_if_an_optional_key_were_not_there(study: Path) -> None:
    overrides = ["objective=", "baselines=null", "seed=~", "budgets="]
    assert load_study(study, overrides).record() == load_study(study).record()


def test_a_referenced_space_is_the_inline_one(study: Path) -> None:
    (study.parent / "spaces").mkdir()
    (study.parent / "spaces" / "s.yaml").write_text(
        "x: {float: [1e-7, 1.0], log: true, default: 0.5}\ny: {int: [1, 9], default: 2}\n"
    )
    inline = load_study(study)
    study.write_text(STUDY.split("search_space")[0] + "search_space: spaces/s.yaml\n")
    with study.open("a") as file:
        file.write("searcher: cmaes\nstop: {trials: 4}\n")
    assert load_study(study).record() == inline.record()
    assert load_study(study).where("search_space.y.default") == (
        f"{study.parent}/spaces/s.yaml:2:27"
    )
    changed = load_study(study, ["search_space.y.default=3"])
    assert changed.space.default == {"x": 0.5, "y": 3}


def test_where_finds_the_key_or_what_encloses_it(study: Path) -> None:
    spec = load_study(study, ["task.difficulty=2"])
    assert spec.where("task.epochs") == f"{study}:3:32"
    assert spec.where("task.threads") == f"{study}:3:7"
    assert spec.where("limits.max_consecutive_errors") == str(study)
    assert spec.where("task.difficulty") == f"{study}: --set task.difficulty"
    assert StudySpec.from_record(spec.record()).where("task.epochs") == "a"


def test_changes_names_what_differs_and_leaves_out_where_it_runs(study: Path) -> None:
    old = load_study(study).record()
    left_out = ["name=b", "limits.max_consecutive_errors=3", "checkpoints.keep=all"]
    compared = ["task.epochs=32", "stop.trials=8", "searcher.sigma=0.1"]
    new = load_study(study, left_out + compared).record()
    assert changes(old, new) == [
        ("task.epochs", 16, 32),
        ("searcher.sigma", 0.25, 0.1),
        ("stop.trials", 4, 8),
    ]
    places = {"root": "a", "download": False, "resident": True}
    there, here = ({"name": "image-classification", "dataset": x} for x in (places, {}))
    assert changes({"task": there}, {"task": here}) == []
    assert changes({"a": 1}, {"a": True}) == [("a", 1, True)]
    assert changes({"a": 1}, {"b": 2}) == [("a", 1, None), ("b", None, 2)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-7", 1e-7),
        ("no", "no"),
        ("'1'", "1"),
        ("010", 10),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("~", None),
        ("True", True),
        (".5", 0.5),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, b: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
        ("[&x [1], *x]", [[1], [1]]),
    ],
)
def test_yaml_is_1_2(text: str, value: object) -> None:
    assert parse(text).data == value
    assert type(parse(text).data) is type(value)


KEYS = st.text(max_size=100)  # YAML's, as JSON escapes them, have at most 1,024 characters


@given(
    st.recursive(
        st.integers(-(2**63), 2**63 - 1) | st.text() | st.booleans() | st.none(),
        lambda v: st.lists(v) | st.dictionaries(KEYS, v),
        max_leaves=10,
    )
)
def test_json_is_yaml(value: object) -> None:
    assert parse(json.dumps(value)).data == value


def test_positions_count_from_one() -> None:
    document = parse("# comment\na:\n  - {b: 1}\n")
    assert (document.keys["a", 0, "b"].line, document.keys["a", 0, "b"].column) == (3, 6)
    assert (document.values["a", 0, "b"].line, document.values["a", 0, "b"].column) == (3, 9)
    with pytest.raises(Unreadable):
        parse("a: *b")


@pytest.mark.parametrize("name", [path.name for path in STUDIES.glob("*.yaml")])
def test_our_own_studies_load(name: str) -> None:
    found = load_studies(STUDIES / name)
    assert found.name == Path(name).stem
    assert (STUDIES / name).read_text().startswith(f"# scripts/run studies/{name}")
    for spec in found.specs:
        assert reloaded(spec).record() == spec.record()


def test_the_papers_search_space() -> None:
    spec = load_study(STUDIES / "cifar10-resnet20-cmaes-agn.yaml")
    assert spec.space.default == {
        "batch_size": 100,
        "lr": 0.01,
        "momentum": 0.6,
        "weight_decay": 5e-4,
    }
    assert spec.stop.epochs == 8 * 4 * spec.task.epochs


def test_the_image_task_is_checked_with_positions(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    text = (STUDIES / "quickstart.yaml").read_text()
    for old, new, words in [
        ("model: mlp", "model: mpl", ":5:10: task.model: 'mpl' is unknown; did you mean 'mlp'?"),
        ("validation: 400", "validation: 900", ":4:12: task.dataset: data set 'digits' has 1297"),
        ("momentum: ", "momentun: ", "hyper-parameter 'momentun' is unknown; did you mean 'mom"),
        ("  lr: ", "  # lr: ", "search_space: task 'image-classification' needs lr"),
    ]:
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError) as caught:
            load_study(path)
        assert words in str(caught.value)


def test_the_schema_knows_the_keys() -> None:
    found = schema()
    alone, matrix = found["anyOf"]
    assert set(alone["required"]) == {"task", "search_space", "stop"}
    assert matrix["required"] == ["matrix"]
    assert {"seed", "objective", "budgets"} <= set(found["properties"])
    for reference in _references(found):
        assert reference.removeprefix("#/$defs/") in found["$defs"]
    json.dumps(found, allow_nan=False)


def test_the_schema_knows_every_kind_of_hyper_parameter() -> None:
    space: dict[str, Any] = {
        "lr": {"float": [0.1, 1], "log": True, "prior": {"center": 0.2, "width": 2}},
        "dropout": {"float": [0, 1], "step": 0.1},
        "size": {"choice": ["s", None], "ordered": True, "when": {"width": None}},
        "width": {"choice": [None, 3]},
        "forbid": ["size == 's' and lr > 0.5"],
    }
    study = {"task": {"name": "t"}, "searcher": "random", "stop": {"trials": 1}}
    jsonschema.validate({**study, "search_space": space}, schema())
    wrong = ({"forbid": [3]}, {"lr": {"float": [0, 1], "prior": {"centre": 1}}}, {"size": None})
    for part in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**study, "search_space": {**space, **part}}, schema())


def _references(node: object) -> list[str]:
    if isinstance(node, list):
        return [r for item in node for r in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + [r for value in node.values() for r in _references(value)]


def test_the_root_of_the_data_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "task: {dataset: {name: digits, root: ../images}, model: mlp, epochs: 1}\n"
        "search_space: {lr: {float: [0.1, 0.2]}}\nsearcher: random\nstop: {trials: 1}\n"
    )
    record = load_study(tmp_path / "a.yaml").record()
    assert record["task"]["dataset"]["root"] == str(tmp_path.parent / "images")
    assert StudySpec.from_record(record).record() == record
