"""Search spaces that a Python program writes are those of the YAML."""

from __future__ import annotations

from typing import Any

import ConfigSpace as cs
import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import hpogen
from hpogen.errors import UserError
from hpogen.integrations.search import define
from hpogen.space import Space, from_configspace, space_form

YAML = {
    "lr": {"float": [1e-4, 1.0], "log": True, "default": 0.01},
    "width": {"int": [8, 512]},
    "optimizer": {"choice": ["sgd", "adam"]},
    "momentum": {"float": [0, 0.99], "when": {"optimizer": "sgd"}},
    "decay": {"float": [0, 0.1], "default": 0.0, "when": {"optimizer": ["sgd", "adam"]}},
    "dropout": {"float": [0, 0.5], "step": 0.1},
    "rank": {"int": [1, 64], "log": True, "prior": {"center": 8, "width": 2}},
    "size": {"choice": ["s", None, "l"], "ordered": True, "default": None},
    "classes": 10,
    "forbid": ["size == null and lr > 0.1"],
}
PYTHON = {
    "lr": hpogen.Float(1e-4, 1.0, log=True, default=0.01),
    "width": hpogen.Int(8, 512),
    "optimizer": hpogen.Choice(("sgd", "adam")),
    "momentum": hpogen.Float(0, 0.99, when={"optimizer": "sgd"}),
    "decay": hpogen.Float(0, 0.1, default=0.0, when={"optimizer": ("sgd", "adam")}),
    "dropout": hpogen.Float(0, 0.5, step=0.1),
    "rank": hpogen.Int(1, 64, log=True, prior={"center": 8, "width": 2}),
    "size": hpogen.Choice(["s", None, "l"], ordered=True, default=None),
    "classes": hpogen.Constant(10),
    "forbid": ("size == null and lr > 0.1",),
}


def test_objects_give_the_mapping_of_the_yaml() -> None:
    assert space_form(PYTHON) == YAML
    assert Space.parse(space_form(PYTHON)).record() == Space.parse(YAML).record()


def test_forms_and_bare_values_stand_beside_objects() -> None:
    mixed = {**PYTHON, "lr": YAML["lr"], "classes": 10}
    assert space_form(mixed) == YAML
    assert space_form(space_form(mixed)) == YAML


def test_what_numpy_makes_is_plain() -> None:
    made = space_form(
        {
            "lr": hpogen.Float(np.float32(0.5), np.float64(1)),
            "n": hpogen.Int(*np.array([1, 3])),
            "k": hpogen.Choice(np.array([1, 2])),
            "m": hpogen.Choice(range(2)),
        }
    )
    assert made == {
        "lr": {"float": [0.5, 1.0]},
        "n": {"int": [1, 3]},
        "k": {"choice": [1, 2]},
        "m": {"choice": [0, 1]},
    }
    kinds = {type(x) for form in made.values() for values in form.values() for x in values}
    assert kinds == {int, float}


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(UserError, match=r"search space: got \[\], expected a mapping"):
        space_form([])  # type: ignore[arg-type]


def test_other_loops_take_them_too() -> None:
    search = define("it", PYTHON, "random", 0, None, {})
    assert search.space.record() == Space.parse(YAML).record()
    with pytest.raises(UserError, match=r"it: search_space.lr.float: got \[1.0, 0.0\], expected"):
        define("it", {"lr": hpogen.Float(1, 0)}, "random", 0, None, {})


def configuration_space() -> Any:
    """Every kind, condition and clause that has a form."""
    made = cs.ConfigurationSpace(seed=1)
    kernel = cs.CategoricalHyperparameter("kernel", ["rbf", None, "lin"])
    size = cs.OrdinalHyperparameter("size", ["s", "m", "l"], default_value="m")
    layers = cs.UniformIntegerHyperparameter("layers", 1, 5)
    width = cs.UniformIntegerHyperparameter("net:width", 1, 5)
    momentum = cs.NormalFloatHyperparameter("momentum", mu=0.5, sigma=0.1, lower=0, upper=1)
    units = cs.NormalIntegerHyperparameter("units", mu=30, sigma=9, lower=1, upper=99)
    lr = cs.UniformFloatHyperparameter("lr", 1e-4, 1, log=True)
    made.add(kernel, size, layers, width, momentum, units, lr, cs.Constant("classes", 3))
    made.add(
        cs.AndConjunction(
            cs.NotEqualsCondition(size, kernel, "rbf"), cs.GreaterThanCondition(size, layers, 2)
        ),
        cs.OrConjunction(
            cs.EqualsCondition(momentum, layers, 2), cs.EqualsCondition(momentum, layers, 3)
        ),
        cs.InCondition(units, kernel, ["rbf", "lin"]),
    )
    made.add(
        cs.ForbiddenAndConjunction(
            cs.ForbiddenEqualsClause(kernel, "lin"), cs.ForbiddenInClause(layers, [1, 2])
        ),
        cs.ForbiddenLessThanRelation(width, layers),
    )
    return made


def test_a_configspace_is_the_same_space() -> None:
    theirs = configuration_space()
    mapping = space_form(theirs)
    assert mapping == from_configspace(theirs)
    assert mapping["units"] == {
        "int": [1, 99],
        "log": False,
        "default": 30,
        "prior": {"center": 30.0, "width": 9.0},
        "when": {"kernel": ["rbf", "lin"]},
    }
    assert mapping["size"]["when"] == {"kernel": [None, "lin"], "layers": [3, 4, 5]}
    assert mapping["momentum"]["when"] == {"layers": [2, 3]}
    assert mapping["forbid"] == ["(kernel == 'lin') and (layers in [1, 2])", "`net:width` < layers"]
    ours = Space.parse(mapping)
    for drawn in theirs.sample_configuration(200):
        config = {n: x.item() if isinstance(x, np.generic) else x for n, x in dict(drawn).items()}
        assert ours.why_not(config) == ""
    generator = np.random.default_rng(0)
    for _ in range(200):
        cs.Configuration(theirs, values=dict(ours.sample(generator)))  # or it raises
    assert dict(ours.default) == dict(theirs.get_default_configuration())


def test_optunas_distributions_are_the_same_ranges() -> None:
    given = {
        "a": FloatDistribution(0, 1, step=0.1),
        "b": IntDistribution(1, 9, step=2),
        "c": CategoricalDistribution([None, "x"]),
        "d": FloatDistribution(1e-3, 1, log=True),
        "e": IntDistribution(3, 3),
        "f": IntDistribution(1, 64, log=True),
        "g": FloatDistribution(0, 3, step=1),
    }
    assert space_form(given) == {
        "a": {"float": [0.0, 1.0], "log": False, "step": 0.1},
        "b": {"int": [1, 9], "log": False, "step": 2},
        "c": {"choice": [None, "x"]},
        "d": {"float": [0.001, 1.0], "log": True},
        "e": 3,
        "f": {"int": [1, 64], "log": True},
        "g": {"float": [0.0, 3.0], "log": False, "step": 1.0},
    }
    generator = np.random.default_rng(0)
    for _ in range(100):
        config = Space.parse(space_form(given)).sample(generator)
        assert all(given[n]._contains(given[n].to_internal_repr(x)) for n, x in config.items())


def conditional(condition: Any) -> Any:
    """A space of the parents a and f, and the child c."""
    made = cs.ConfigurationSpace()
    a = cs.UniformIntegerHyperparameter("a", 1, 5)
    f = cs.UniformFloatHyperparameter("f", 0, 1)
    c = cs.UniformFloatHyperparameter("c", 0, 1)
    made.add(a, f, c)
    made.add(condition(a, f, c))
    return made


BETA = cs.BetaFloatHyperparameter("z", alpha=2, beta=3, lower=0, upper=1)
LOG = cs.NormalFloatHyperparameter("z", mu=0.1, sigma=1, lower=0.01, upper=1, log=True)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"z": BETA}, "ConfigSpace: 'z' is a BetaFloatHyperparameter; expected uniform, normal,"),
        ({"z": LOG}, "ConfigSpace: 'z' is normal on a logarithm, where ConfigSpace's sigma has no"),
        (
            {"z": cs.CategoricalHyperparameter("z", [1, 2], weights=[0.2, 0.8])},
            "ConfigSpace: 'z' has weights",
        ),
        (
            conditional(
                lambda a, f, c: cs.OrConjunction(
                    cs.EqualsCondition(c, a, 2), cs.EqualsCondition(c, f, 0.5)
                )
            ),
            "ConfigSpace: 'c' depends on a or f, either of them; conditions hold together",
        ),
        (
            conditional(lambda a, f, c: cs.GreaterThanCondition(c, f, 0.5)),
            "ConfigSpace: 'c' depends on 'f', which is no integer and no choice",
        ),
    ],
)
def test_what_configspace_has_and_hpogen_not_is_refused(given: Any, text: str) -> None:
    with pytest.raises(UserError) as error:
        space_form(given)
    assert text in str(error.value) and "\n" not in str(error.value)
