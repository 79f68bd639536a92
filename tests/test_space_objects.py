"""Search spaces that a Python program writes are those of the YAML."""

from __future__ import annotations

import numpy as np
import pytest

import hpogen
from hpogen.errors import UserError
from hpogen.space import Space, space_form

YAML = {
    "lr": {"float": [1e-4, 1.0], "log": True, "default": 0.01},
    "width": {"int": [8, 512]},
    "optimizer": {"choice": ["sgd", "adam"]},
    "momentum": {"float": [0, 0.99], "when": {"optimizer": "sgd"}},
    "decay": {"float": [0, 0.1], "default": 0.0, "when": {"optimizer": ["sgd", "adam"]}},
    "classes": 10,
}
PYTHON = {
    "lr": hpogen.Float(1e-4, 1.0, log=True, default=0.01),
    "width": hpogen.Int(8, 512),
    "optimizer": hpogen.Choice(("sgd", "adam")),
    "momentum": hpogen.Float(0, 0.99, when={"optimizer": "sgd"}),
    "decay": hpogen.Float(0, 0.1, default=0.0, when={"optimizer": ("sgd", "adam")}),
    "classes": hpogen.Constant(10),
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
