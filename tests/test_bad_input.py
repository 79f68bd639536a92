"""What a user can get wrong in a study's YAML: each mistake is one line that says where and what.

A study is the base below with some of its lines replaced; positions are counted in the result.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpogen.errors import UserError
from hpogen.spec import StudySpec, load_studies, load_study
from hpogen.spec.form import StudyForm

PLUGIN = """
from hpogen.plugins import searcher, task
from hpogen.searchers.random import RandomSearcher

@task("toy", metrics=("val_loss", "agn", "gap_loss"), sums=("agn",))
def train(trial, *, difficulty: float = 1.0, layers: tuple[int, ...] = ()):
    yield {}

@searcher("rungs")
class Rungs(RandomSearcher):
    multi_fidelity = True
"""

BASE = {
    "plugins": "plugins: [toy.py]",
    "task": "task: {name: toy, epochs: 16}",
    "search_space": "search_space: {x: {float: [0.0, 1.0]}, y: {int: [1, 9]}}",
    "searcher": "searcher: random",
    "stop": "stop: {trials: 4}",
}


def write(folder: Path, **lines: str) -> Path:
    """studies/a.yaml in the folder, its plug-in and a space file; "" leaves a line out."""
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies" / "toy.py").write_text(PLUGIN)
    path = folder / "studies" / "a.yaml"
    path.write_text("\n".join(filter(None, {**BASE, **lines}.values())) + "\n")
    return path


def message(path: Path, *overrides: str) -> str:
    """The text of the error, with the folder of the test taken away."""
    with pytest.raises(UserError) as caught:
        load_study(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert "pydantic" not in text
    return text.replace(f"{path.parent.parent}/", "")


PLACED = [  # lines of the study, where the mistake is, key path, words of the message
    ({"task": ""}, "1:1", "task", ["is required"]),
    ({"search_space": ""}, "1:1", "search_space", ["is required"]),
    ({"stop": ""}, "1:1", "stop", ["is required"]),
    ({"task": "task:"}, "2:1", "task", ["got null", "expected a mapping"]),
    ({"task": "task: 3"}, "2:7", "task", ["got 3", "expected a mapping"]),
    ({"task": "task: {name: toy}"}, "2:7", "task.epochs", ["is required"]),
    ({"task": "task: {name: toy, epochs: true}"}, "2:27", "task.epochs", ["true", "an integer"]),
    ({"task": "task: {name: toy, epochs: '3'}"}, "2:27", "task.epochs", ["'3'", "an integer"]),
    ({"task": "task: {name: toy, epochs: 1.5}"}, "2:27", "task.epochs", ["1.5", "an integer"]),
    ({"task": "task: {name: toy, epochs: 0}"}, "2:27", "task.epochs", ["got 0", "at least 1"]),
    ({"task": "task: {name: toi, epochs: 1}"}, "2:14", "task.name", ["'toi' is unknown", "'toy'"]),
    (
        {"task": "task: {name: toy, epochs: 1, dificulty: 2}"},
        "2:30",
        "task.dificulty",
        [
            "'dificulty' is unknown; did you mean 'difficulty'?",
            "(difficulty, epochs, gpus_per_trial, layers,",
        ],
    ),
    (
        {"task": "task: {name: toy, epochs: 1, difficulty: .nan}"},
        "2:42",
        "task.difficulty",
        ["got nan", "a finite number"],
    ),
    (
        {"task": "task: {name: toy, epochs: 1, layers: [8, x]}"},
        "2:42",
        "task.layers.1",
        ["got 'x'", "an integer"],
    ),
    ({"seed": "seed: -1"}, "6:7", "seed", ["got -1", "at least 0"]),
    ({"seed": "seed: yes"}, "6:7", "seed", ["got 'yes'", "an integer"]),
    ({"name": "name: a/b"}, "6:7", "name", ["'a/b'", "a folder"]),
    ({"matrics": "matrics: {}"}, "6:1", "matrics", ["'matrics' is unknown", "'matrix'"]),
    ({"matrix": "matrix: {seed: [1]}"}, "6:9", "matrix", ["stands for many studies"]),
    ({"stop": "stop: {trails: 4}"}, "5:8", "stop.trails", ["did you mean 'trials'?"]),
    ({"stop": "stop: {trials: 0}"}, "5:16", "stop.trials", ["got 0", "at least 1"]),
    ({"stop": "stop: {}"}, "5:7", "stop", ["epochs, trials or hours"]),
    ({"stop": "stop: {epochs: 15}"}, "5:16", "stop.epochs", ["got 15", "16 epochs"]),
    ({"limits": "limits: {max_consecutive_errors: 0}"}, "6:34", None, ["at least 1"]),
    ({"checkpoints": "checkpoints: {keep: some}"}, "6:21", "checkpoints.keep", ["'some'", "final"]),
    # the search space
    ({"search_space": "search_space: {}"}, "3:15", "search_space", ["expected parameters"]),
    ({"search_space": "search_space: [x]"}, "3:15", "search_space", ["expected a mapping"]),
    ({"search_space": "search_space: {x: {float: [2, 1]}}"}, "3:27", None, ["low < high"]),
    ({"search_space": "search_space: {x: {float: [.nan, 1]}}"}, "3:28", None, ["nan", "finite"]),
    ({"search_space": "search_space: {x: {float: [0, .inf]}}"}, "3:31", None, ["inf", "finite"]),
    (
        {"search_space": "search_space: {x: {float: [0, 1], log: true}}"},
        "3:27",
        "search_space.x.float",
        ["low > 0", "log"],
    ),
    (
        {"search_space": "search_space: {x: {float: [0, 1], default: 2}}"},
        "3:44",
        "search_space.x.default",
        ["got 2", "[0.0, 1.0]"],
    ),
    (
        {"search_space": "search_space: {x: {float: [0, 1], lgo: true}}"},
        "3:35",
        "search_space.x.lgo",
        ["did you mean 'log'?"],
    ),
    ({"search_space": "search_space: {x: {choice: []}}"}, "3:28", None, ["got []"]),
    ({"search_space": "search_space: {x: {int: [1, 2.5]}}"}, "3:29", None, ["got 2.5", "integers"]),
    # searchers
    ({"searcher": "searcher: randon"}, "4:11", "searcher.name", ["did you mean 'random'?"]),
    ({"searcher": "searcher: {name: cmeas}"}, "4:18", "searcher.name", ["did you mean 'cmaes'?"]),
    ({"searcher": "searcher: {population: 8}"}, "4:11", "searcher.name", ["is required"]),
    (
        {"searcher": "searcher: {name: cmaes, popsize: 8}"},
        "4:25",
        "searcher.popsize",
        ["'popsize' is unknown", "(asynchronous, name, population, sigma)"],
    ),
    (
        {"searcher": "searcher: {name: cmaes, population: 1}"},
        "4:37",
        "searcher.population",
        ["got 1", "at least 2"],
    ),
    (
        {"searcher": "searcher: cmaes", "search_space": "search_space: {x: {float: [0, 1]}}"},
        "4:11",
        "searcher",
        ["cmaes", "'x'"],
    ),
    (
        {"searcher": "searcher: {name: grid, points: {x: 0}}"},
        "4:36",
        "searcher.points.x",
        ["got 0, expected at least 1 or a list"],
    ),
    ({"searcher": "searcher: grid", "e": "enqueue: [default]"}, "6:10", "enqueue", ["grid"]),
    ({"e": "enqueue: [defualt]"}, "6:11", "enqueue.0", ["got 'defualt'", "'default' or a mapping"]),
    ({"e": "enqueue: [default, {x: 2}]"}, "6:24", "enqueue.1.x", ["got 2", "[0.0, 1.0]"]),
    ({"e": "enqueue: [{xx: 2}]"}, "6:12", "enqueue.0.xx", ["'xx' is unknown", "(x, y)"]),
    ({"b": "baselines: {a: {y: 0.5}}"}, "6:20", "baselines.a.y", ["got 0.5", "an integer"]),
    # objectives
    ({"o": "objective: vall"}, "6:12", "objective", ["'vall' is unknown; did you mean 'val'?"]),
    ({"o": "objective: {}"}, "6:12", "objective", ["preset or terms"]),
    ({"o": "objective: train"}, "6:12", "objective.preset", ["metric 'train_loss' is unknown"]),
    ({"o": "objective: agn+val"}, "6:12", "objective.alpha", ["is required"]),
    ({"o": "objective: {preset: val, alpha: 1}"}, "6:33", "objective.alpha", ["no AGN term"]),
    ({"o": "objective: {preset: val, scale: log}"}, "6:33", "objective.scale", ["no AGN term"]),
    ({"o": "objective: {preset: agn+val, alpha: .nan}"}, "6:37", None, ["a finite number"]),
    ({"o": "objective: {preset: agn+val, alpha: 1, scale: ln}"}, "6:47", None, ["'ln' is unknown"]),
    ({"o": "objective: {terms: []}"}, "6:20", "objective.terms", ["at least 1"]),
    (
        {"o": "objective: {terms: [{metric: val_los}]}"},
        "6:30",
        "objective.terms.0.metric",
        ["metric 'val_los' is unknown; did you mean 'val_loss'?"],
    ),
    (
        {"o": "objective: {terms: [{metric: audit_loss}]}"},
        "6:30",
        "objective.terms.0.metric",
        ["audit is for analysis only"],
    ),
    (
        {"o": "objective: {terms: [{metric: gap_loss, scale: log}]}"},
        "6:47",
        "objective.terms.0.scale",
        ["'log' is refused for 'gap_loss'"],
    ),
    (
        {"o": "objective: {terms: [{metric: agn, scale: rank}]}"},
        "6:42",
        "objective.terms.0.scale",
        ["'rank' needs a searcher that uses ranks only"],
    ),
    ({"o": "objective: {terms: [{metric: agn}], alpha: 1}"}, "6:44", None, ["together with terms"]),
    ({"s": "selection: audit_loss"}, "6:12", "selection", ["audit is for analysis only"]),
    ({"s": "selection: val_accuracy"}, "6:12", "selection", ["metric 'val_accuracy' is unknown"]),
    # budgets
    ({"b": "budgets: {min: 4, max: 16, eta: 2}"}, "6:10", "budgets", ["'random' has one budget"]),
    ({"searcher": "searcher: rungs"}, "1:1", "budgets", ["is required", "'rungs'"]),
    (
        {"searcher": "searcher: rungs", "b": "budgets: {min: 3, max: 16, eta: 2}"},
        "6:10",
        "budgets",
        ["max 16 is not 3 times a power of 2 (3, 6, 12, …)"],
    ),
    (
        {"searcher": "searcher: rungs", "b": "budgets: {min: 17, max: 16, eta: 2}"},
        "6:10",
        "budgets",
        ["min 17 > max 16"],
    ),
    (
        {"searcher": "searcher: rungs", "b": "budgets: {min: 1, max: 16, eta: 1}"},
        "6:33",
        "budgets.eta",
        ["got 1", "at least 2"],
    ),
    (
        {"searcher": "searcher: rungs", "b": "budgets: {min: 4, max: 8, eta: 2}"},
        "6:24",
        "budgets.max",
        ["got 8", "task.epochs = 16"],
    ),
    (
        {
            "searcher": "searcher: rungs",
            "b": "budgets: {min: 4, max: 16, eta: 2}",
            "o": "objective: {preset: agn+val, alpha: 1}",
        },
        "7:12",
        "objective.scale",
        ["must be named"],
    ),
    ({"r": "rungs: continue"}, "6:8", "rungs", ["resumable", "'toy'"]),
    # plug-ins
    ({"plugins": "plugins: [toi.py]"}, "1:11", "plugins.0", ["toi.py' does not exist"]),
    ({"plugins": "plugins: [toy.py, ./toy.py]"}, "1:19", "plugins.1", ["a second plug-in"]),
    ({"plugins": f"plugins: [{'x' * 300}.py]"}, "1:11", "plugins.0", ["name too long"]),
    ({"plugins": "plugins: toy.py"}, "1:10", "plugins", ["got 'toy.py'", "expected a list"]),
    # the text itself
    ({"seed": "seed: 1\nseed: 2"}, "7:1", "seed", ["stands twice (first in line 6)"]),
    ({"stop": "stop: {trials: 1, trials: 2}"}, "5:19", "stop.trials", ["stands twice"]),
    ({"seed": "\tseed: 1"}, "6:1", None, ["not YAML: a tab: indent with spaces"]),
    ({"stop": "stop: {trials: 1"}, "6:1", None, ["not YAML", "',' or '}'"]),
    ({"seed": "1: 2"}, "6:1", None, ["got '1' as a key", "a string"]),
    ({"seed": "seed: !!python/name:os.system 1"}, "6:7", None, ["!!python/name:os.system"]),
    ({"seed": "---\nseed: 1"}, "6:1", None, ["a second YAML document"]),
    ({"seed": "seed: &a [*a]"}, "6:11", None, ["alias *a"]),
    ({"seed": "seed: 99999999999999999999"}, "6:7", None, ["64 bits"]),
]


@pytest.mark.parametrize(("lines", "position", "key", "words"), PLACED)
def test_a_mistake_is_one_line_with_its_place(
    tmp_path: Path, lines: dict[str, str], position: str, key: str | None, words: list[str]
) -> None:
    text = message(write(tmp_path, **lines))
    assert text.startswith(f"studies/a.yaml:{position}: {key + ': ' if key else ''}")
    for word in words:
        assert word in text


def test_the_path_is_printed_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, seed="seed: x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load_study("studies/../studies/a.yaml")
    assert str(caught.value) == (
        "studies/../studies/a.yaml:6:7: seed: got 'x', expected an integer"
    )


def test_several_mistakes_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, searcher="searcher: randon", seed="seed: x", o="objective: agn+val")
    assert message(path).startswith("studies/a.yaml:4:11: searcher.name: 'randon' is unknown; did")
    assert message(path).endswith(") (and 1 more mistake)")
    path = write(tmp_path, searcher="searcher: {name: cmaes, a: 1, b: 2}", seed="seed: x")
    assert message(path).startswith("studies/a.yaml:4:25: searcher.a: 'a' is unknown")
    assert message(path).endswith(" (and 2 more mistakes)")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            {"searcher": "searchers: random"},
            "4:1: searchers: 'searchers' is unknown; did you mean 'searcher'",
        ),
        ({"stop": "stpo: {trials: 4}"}, "5:1: stpo: 'stpo' is unknown; did you mean 'stop'"),
        ({"stop": "stop: {trial: 4}"}, "5:8: stop.trial: 'trial' is unknown; did you mean"),
        ({"task": ""}, "task: is required"),
    ],
)
def test_a_misspelt_key_is_told_before_the_key_that_it_leaves_missing(
    tmp_path: Path, line: dict[str, str], said: str
) -> None:
    assert said in message(write(tmp_path, **line))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"\xff\xfe\x00", "is not UTF-8 text (byte 0)"),
        (b"a: \x00\x01", ":1:4: not text"),
        (b"- a\n", ":1:1: expected a mapping with task, search_space, stop"),
        (b"null\n", ":1:1: expected a mapping"),
        (b"x" * 500_001, "is larger than 500000 bytes"),
        (b"[" * 10_000, ":1:52: nested more than 50 deep"),
        (
            b"a: &a [1,1,1,1,1,1,1,1]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c, c, b",*%c" % (c - 1) * 8) for c in range(98, 108)),
            "more than 20000 values",
        ),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes, words: str) -> None:
    path = write(tmp_path)
    path.write_bytes(content.replace(b"[,", b"["))
    assert message(path).startswith("studies/a.yaml:")
    assert words in message(path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("task:\n  b: 1\n c: 2\n", "3:2"),
        ("task:\n  - b\n c: 1\n", "3:2"),
        ("task:\n  b: 1\n  - c\n", "3:3"),
        ("task: 1\n- b\n", "2:1"),
        (" task: 1\nb: 2\n", "2:1"),
    ],
)
def test_another_indentation_is_said_in_plain_words(tmp_path: Path, text: str, place: str) -> None:
    path = write(tmp_path)
    path.write_text(text)
    assert message(path) == (
        f"studies/a.yaml:{place}: not YAML: indented otherwise than the keys above it: indent it "
        "like the keys that it belongs to"
    )


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert message(path.with_name("b.yaml")) == "studies/b.yaml: does not exist"
    assert message(path.parent / "..") == "studies/..: is not a file"
    assert "cannot be read" in message(path.with_name("x" * 300))


def test_a_broken_plugin_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path.parent / "toy.py").write_text("import json\n1 / 0\n")
    text = message(path)
    assert text.startswith("studies/a.yaml:1:11: plugins.0: plug-in ")
    assert text.endswith("cannot be imported (line 2): ZeroDivisionError: division by zero")


def test_a_referenced_space_has_positions_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, search_space="search_space: ../space.yaml")
    assert message(path).startswith("studies/a.yaml:3:15: search_space: 'space.yaml' does not")
    for content, expected in [
        ("x: {float: [0, 1]}\ny: {int: [3, 1]}\n", "space.yaml:2:10: y.int: got [3, 1]"),
        ("x: {float: [0, 1]\n", "space.yaml:2:1: not YAML"),
        ("x: 1\nx: 2\n", "space.yaml:2:1: x: stands twice"),
        ("[1]\n", "space.yaml:1:1: got [1], expected a mapping"),
        ("\n", "studies/a.yaml:3:15: search_space: 'space.yaml' is empty"),
    ]:
        (tmp_path / "space.yaml").write_text(content)
        assert message(path).startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("task.epoch=3", "task.epoch: 'epoch' is unknown; did you mean 'epochs'?"),
        ("task.epochs=abc", "task.epochs: got 'abc', expected an integer"),
        ("task.epochs.x=1", "task.epochs.x: task.epochs is 16, not a mapping"),
        ("searcher={name: x}", "searcher: searcher.name: 'x' is unknown"),
        ("stop.trials=[1", "stop.trials: not YAML"),
        ("limit.x=1", "limit.x: limit: 'limit' is unknown; did you mean 'limits'?"),
        ("seed", "'seed': expected key.path=value"),
        ("=1", "'=1': expected key.path=value"),
        ("search_space=no.yaml", "search_space: 'studies/no.yaml' does not exist"),
        ("search_space.x.float=[1, 0]", "search_space.x.float: got [1.0, 0.0], expected low"),
    ],
)
def test_an_override_is_named(tmp_path: Path, override: str, expected: str) -> None:
    assert message(write(tmp_path), override).startswith(f"studies/a.yaml: --set {expected}")


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["toy", "random", "cmaes", "val", "agn+val", "default", "val_loss", "x"])
)
KEYS = """
    name epochs x float int choice log default when preset alpha terms metric scale weight
    min max eta trials dataset model schedule measures subset validation command
"""
keys = st.text(max_size=5) | st.sampled_from(KEYS.split())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
top_keys = [*(key for key in StudyForm.model_fields if key != "plugins"), "matrics"]
mappings = st.fixed_dictionaries({}, optional={key: values for key in top_keys})
quick = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(mappings)
def test_any_mapping_loads_or_is_refused(tmp_path: Path, mapping: dict[str, object]) -> None:
    valid = {
        "task": {"name": "toy", "epochs": 16},
        "search_space": {"x": {"float": [0.0, 1.0]}},
        "searcher": "random",
        "stop": {"trials": 4},
    }
    for record in (mapping, {**valid, **mapping}):
        try:
            StudySpec.from_record(record, plugins=[write(tmp_path).parent / "toy.py"])
        except UserError as error:
            assert re.fullmatch(r"[^\n]+", str(error))
        path = tmp_path / "mapping.yaml"
        path.write_text(json.dumps({"plugins": ["studies/toy.py"], **record}))
        try:
            load_studies(path)
        except UserError as error:
            assert re.fullmatch(r"[^\n]+", str(error))


@quick
@given(st.binary(max_size=60) | st.text("ab:{}[],-?!&*#|>'\"%@\n\t \\0x1.e~<", max_size=60))
def test_any_bytes_are_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"\A[^\n]+\Z"):
        load_study(path)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("batch_size: {float: [8, 64]}", "batch_size may come to be 8.0, expected a valid integer"),
        ("batch_size: {int: [0, 64]}", "batch_size may come to be 0, expected greater than"),
        ("momentum: {float: [0.5, 1.0]}", "momentum may come to be 1.0, expected less than 1"),
        ("optimizer: {choice: [sgd, lbfgs]}", "optimizer may come to be 'lbfgs', expected 'sgd'"),
        ("nesterov: 1", "nesterov may come to be 1, expected a valid boolean"),
    ],
)
def test_values_that_the_task_cannot_train_with(parameter: str, words: str, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        task="task: {dataset: digits, model: mlp, epochs: 2}",
        search_space=f"search_space: {{lr: {{float: [0.1, 0.2]}}, {parameter}}}",
    )
    name = parameter.partition(":")[0]
    place = r"studies/a\.yaml:3:\d+: search_space\."
    assert re.match(f"{place}{name}: task 'image-classification': {words}", message(path))


FLOODS = {
    "keys": {"more": "\n".join(f"key{i}: 1" for i in range(60_000))},
    "a list": {"more": f"enqueue: [{', '.join(['1'] * 60_000)}]"},
    "anchors": {"more": "\n".join(f"k{i}: &a{i} 1" for i in range(30_000))},
    "a choice": {"search_space": f"search_space: {{x: {{choice: {[*range(15_000)]}}}}}"},
    "plug-ins": {"plugins": f"plugins: [{', '.join(f'f{i}.py' for i in range(9_000))}]"},
    "lines": {"more": "%a\n" * 100_000},
    "a long chain": {
        "search_space": "search_space: {p0: {choice: [0, 1]}, "
        + ", ".join(f"p{i}: {{choice: [0, 1], when: {{p{i - 1}: 0}}}}" for i in range(1, 1_000))
        + "}"
    },
    "ways without number": {
        "search_space": "search_space: {p0: {choice: [0, 1]}, p1: {choice: [0, 1]}, "
        + ", ".join(
            f"p{i}: {{choice: [0, 1], when: {{p{i - 1}: 0, p{i - 2}: 0}}}}" for i in range(2, 45)
        )
        + ", x: 1, z: {float: [0, 1]}}"
    },
}


@pytest.mark.parametrize("lines", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_refused_in_two_seconds(tmp_path: Path, lines: dict[str, str]) -> None:
    path = write(tmp_path, **lines)
    gc.collect()
    gc.freeze()  # what the tests before this one left is no part of a study's time
    begin = time.process_time()
    with contextlib.suppress(UserError):  # a choice is only long
        load_study(path)
    seconds = time.process_time() - begin
    gc.unfreeze()
    assert seconds < 2
