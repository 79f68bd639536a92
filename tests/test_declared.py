"""Odd arguments of the decorators: each is one line, with the plug-in's line where it is a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.plugins import dataset, load_file, loss, measure, model, searcher, task


def one(trial: Any) -> Any: ...


def two(a: Any, b: Any) -> Any: ...


async def waits(trial: Any) -> Any: ...


class Deaf:
    def ask(self) -> None: ...


ODD: list[tuple[Callable[[], Any], str]] = [
    (lambda: task(5, metrics=["x"]), "@task: got 5 as the name, expected a string: @task("),
    (lambda: task("", metrics=["x"]), "@task: got '' as the name"),
    (lambda: task(" a", metrics=["x"]), "@task: got ' a' as the name"),
    (lambda: task("a\nb", metrics=["x"]), "as the name"),
    (lambda: task(b"a", metrics=["x"]), "@task: got b'a' as the name"),
    (lambda: task("a", metrics="val_loss"), 'several names: metrics=("val_loss",)'),
    (lambda: task("a", metrics=None), "@task: got metrics=None, expected several names"),
    (lambda: task("a", metrics=5), "@task: got metrics=5, expected several names"),
    (lambda: task("a", metrics=[]), "@task: got no metrics"),
    (lambda: task("a", metrics=["x", 5]), "@task: got metrics=5, expected names, as strings"),
    (lambda: task("a", metrics=["x", ""]), "@task: got metrics='', expected names"),
    (lambda: task("a", metrics=["x"], sums="x"), 'several names: sums=("x",)'),
    (lambda: task("a", metrics=["agn"], sums=["agnn"]), "sums: metric 'agnn' is unknown; did you"),
    (lambda: task("a", metrics=["x"], observed="x"), 'several names: observed=("x",)'),
    (lambda: task("a", metrics=["s"], observed=["t"]), "observed: metric 't' is unknown"),
    (lambda: task("a", metrics=["x"], resumable="no"), "resumable='no', expected True or False"),
    (lambda: task("a", metrics=["x"])(5), "@task: got 5, expected a function below it"),
    (lambda: task("a", metrics=["x"])(waits), "got an async function, expected a plain one"),
    (lambda: task("a", metrics=["x"])(two), "two takes 2 arguments, expected 1 (trial)"),
    (lambda: task("a", metrics=["x"])(lambda: 0), "takes 0 arguments, expected 1"),
    (lambda: model(two), "@model: got the function itself as the name, expected a string"),
    (lambda: model("a")(lambda: 0), "takes 0 arguments, expected 2 (in_shape, classes; or data)"),
    (lambda: loss("a")(one), "one takes 1 arguments, expected 2 (outputs, targets)"),
    (lambda: dataset(None), "@dataset: got None as the name"),
    (lambda: dataset("a")(two), "two takes 2 arguments, expected 1 (root)"),
    (lambda: searcher(5), "@searcher: got 5 as the name"),
    (lambda: searcher("a")(one), "got one, expected a class with the methods ask and tell"),
    (lambda: searcher("a")(Deaf), "got Deaf, expected a class with the methods ask and tell"),
    (lambda: measure(5, of="head"), "@measure: got 5 as the name"),
    (lambda: measure("a", of="heads"), "of: 'heads' is unknown; did you mean 'head'?"),
    (lambda: measure("a", of=["head"]), "of: ['head'] is unknown"),
    (lambda: measure("a", of="step"), "of: 'step' is unknown"),
    (lambda: measure("a", of="head", metrics="a"), "@measure: got metrics='a'"),
    (lambda: measure("a", of="head", sums=["b"]), "sums: metric 'b' is unknown"),
    (lambda: measure("a", of="head", final=1), "final=1, expected True or False"),
    (lambda: measure("a", of="head")(two), "two takes 2 arguments, expected 1"),
    (lambda: measure("a", of="network")(one), "one takes 1 arguments, expected 2"),
    (lambda: measure("a", of="network", initial=True)(two), "takes 2 arguments, expected 3 (head;"),
    (lambda: measure("a", of="head", initial=True), 'only one of="network" is given the model'),
    (lambda: measure("a", of="network", initial=2), "initial=2, expected True or False"),
    (lambda: measure("a", of="head", observed=1), "observed=1, expected True or False"),
    (lambda: measure("a", of="head", means=["b"]), "means: metric 'b' is unknown"),
    (lambda: measure("a", of="head", needs=5), "needs=5, expected a function of the model and a"),
    (
        lambda: measure("a", of="head", needs=one),
        "one takes 1 arguments, expected 2 (model, im",
    ),
    (lambda: measure("a", of="head", cost=5), "@measure: got cost=5, expected a text"),
    (lambda: measure("a", of="head", source=None), "@measure: got source=None, expected a text"),
]


@pytest.mark.parametrize(("use", "words"), ODD)
def test_odd_arguments_are_one_line(use: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        use()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("@task(5, metrics=['x'])", "(line 3): @task: got 5 as the name"),
        ("@task(5)", "(line 3): TypeError: task() missing 1 required keyword-only argument"),
        ("@task", "(line 3): TypeError: task() missing"),
        ("@task('a', metrics='val_loss')", "(line 3): @task: got metrics='val_loss'"),
        ("@task('a', metrics=['x'], sum=[])", "unexpected keyword argument 'sum'"),
        ("@task('command', metrics=['x'])", "task 'command' is built in"),
    ],
)
def test_the_line_of_the_plug_in_is_named(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(f"from hpogen.plugins import task\n\n{line}\ndef train(trial): ...\n")
    with pytest.raises(UserError) as caught:
        load_file(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_what_is_right_is_registered(tmp_path: Path) -> None:
    path = tmp_path / "right.py"
    path.write_text(
        "import functools\n"
        "from hpogen.plugins import dataset, measure, model, searcher, task\n"
        "@task('right', metrics={'a': 1, 'b': 2}, sums=('b',))\n"
        "def train(trial, *, lr: float = 0.1): ...\n"
        "@model('right')\nclass Net:\n"
        "    def __init__(self, shape, classes, *, wide: int = 3): ...\n"
        "model('right2')(functools.partial(lambda scale, shape, classes: 0, 2))\n"
        "@dataset('right')\ndef load(*arguments, **options): ...\n"
        "@measure('right', of='network', metrics=['a'])\ndef size(model, batches): 'Big.'\n"
    )
    load_file(path)
    found = plugins.tasks.get("right")
    assert (found.metrics, found.sums) == (frozenset({"a", "b"}), frozenset({"b"}))
    assert plugins.options_of(plugins.models.get("right"))["wide"][1] == 3
    assert plugins.measures.get("right").definition == "Big."


FOR_A_CHECKER = """
from __future__ import annotations
import functools
from typing import TYPE_CHECKING, Literal
from hpogen.plugins import model
if TYPE_CHECKING:
    from collections.abc import Sequence

@model("plain")
def plain(in_shape: Sequence[int], classes: int, *, kind: Literal["a", "b"] = "a"): ...

@model("a_class")
class Net:
    def __init__(self, shape: Sequence[int], classes: int, *, kind: Literal["a", "b"] = "a"): ...

def scaled(scale, in_shape: Sequence[int], classes, *, kind: Literal["a", "b"] = "a"): ...
model("partial")(functools.partial(scaled, 2))

def passed(function):
    @functools.wraps(function)
    def inner(*given, **options): return function(*given, **options)
    return inner
model("wrapped")(passed(plain))

@model("unknown")
def unknown(in_shape, classes, *, widths: Sequence[int] = (8,)): ...

@model("unknown2")
def unknown2(in_shape, classes, *, widths: functools.Missing = 8): ...
"""


def test_annotations_for_a_type_checker_alone(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(FOR_A_CHECKER)
    load_file(tmp_path / "typed.py")
    for name in ("plain", "a_class", "partial", "wrapped"):
        options = plugins.options_of(plugins.models.get(name))
        assert options == {"kind": (Literal["a", "b"], "a")}, name
    for name, annotation, why in (
        ("unknown", "Sequence[int]", "NameError: name 'Sequence' is not defined"),
        ("unknown2", "functools.Missing", "AttributeError: module 'functools' has no attribute"),
    ):
        with pytest.raises(UserError) as caught:
            plugins.options_of(plugins.models.get(name))
        expected = f"{name}: the annotation '{annotation}' of the option 'widths' cannot be"
        assert str(caught.value).startswith(expected) and why in str(caught.value)
