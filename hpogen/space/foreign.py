"""Search spaces of ConfigSpace and distributions of Optuna, as the YAML has them.

`objects.py` asks. Neither package is imported but for what comes from it; what the YAML has no
words for is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpogen.errors import UserError, quoted
from hpogen.space.forbid import mentioned

MOST = 1000  # values of an integer that a condition may list

Wanted = dict[str, list[Any]]  # by parent: the values with which the child exists


def package_of(given: object) -> str:
    """The package that a value's class is from."""
    return type(given).__module__.partition(".")[0]


def from_configspace(space: Any) -> dict[str, Any]:
    """The `search_space` mapping for a ConfigSpace, with its conditions and forbidden clauses.

    Uniform, normal, categorical, ordinal and constant hyper-parameters have forms; a normal one is
    a range with a prior. Raises UserError, naming what has none: beta distributions, normal ones on
    a logarithm, weighted categories, a condition that holds for one parent or another.
    """
    forms: dict[str, Any] = {name: of_hyperparameter(space[name]) for name in space}
    for condition in space.conditions:
        child = condition.child.name if hasattr(condition, "child") else _child(condition)
        forms[child] = _with_condition(child, forms[child], _wanted(condition, child))
    forbid = [_clause(clause) for clause in space.forbidden_clauses]
    return forms | ({"forbid": forbid} if forbid else {})


def of_hyperparameter(given: Any) -> Any:
    """The form of one hyper-parameter of ConfigSpace, without conditions. Raises UserError."""
    import ConfigSpace as cs

    match given:
        case cs.UniformFloatHyperparameter() | cs.NormalFloatHyperparameter():
            return _number("float", given, isinstance(given, cs.NormalFloatHyperparameter))
        case cs.UniformIntegerHyperparameter() | cs.NormalIntegerHyperparameter():
            return _number("int", given, isinstance(given, cs.NormalIntegerHyperparameter))
        case cs.CategoricalHyperparameter():
            if given.weights is not None and len({*given.weights}) > 1:
                raise _wordless(given.name, "has weights, and choices are equally likely")
            return {"choice": [*given.choices], "default": given.default_value}
        case cs.OrdinalHyperparameter():
            values = [*given.sequence]
            form = {"choice": values, "ordered": True, "default": given.default_value}
            return form if len(values) > 1 else values[0]
        case cs.Constant():
            return given.value
    name, kind = getattr(given, "name", ""), type(given).__name__
    raise _wordless(name, f"is a {kind}; expected uniform, normal, categorical, ordinal, constant")


def _number(kind: str, given: Any, normal: bool) -> dict[str, Any]:
    form = {kind: [given.lower, given.upper], "log": given.log, "default": given.default_value}
    if not normal:
        return form
    if given.log:  # ConfigSpace 1.2 makes log(lower + sigma)/(width) of it
        raise _wordless(
            given.name,
            "is normal on a logarithm, where ConfigSpace's sigma has no fixed meaning; write "
            'hpogen.Float(…, log=True, prior={"center": …, "width": …})',
        )
    return form | {"prior": {"center": given.mu, "width": given.sigma}}


def _child(conjunction: Any) -> str:
    """The one parameter that all parts of a conjunction are about."""
    name: str = conjunction.get_descendant_literal_conditions()[0].child.name
    return name


def _with_condition(child: str, form: Any, wanted: Wanted) -> dict[str, Any]:
    if not isinstance(form, dict):
        raise _wordless(child, "is a constant with a condition; constants are always there")
    return form | {"when": wanted}


def _wanted(condition: Any, child: str) -> Wanted:
    import ConfigSpace as cs

    if isinstance(condition, cs.AndConjunction | cs.OrConjunction):
        parts = [_wanted(part, child) for part in condition.components]
        both = isinstance(condition, cs.AndConjunction)
        return _together(parts) if both else _either(parts, child)
    parent = condition.parent
    match condition:
        case cs.EqualsCondition():
            return {parent.name: [condition.value]}
        case cs.InCondition():
            return {parent.name: [*condition.values]}
        case cs.NotEqualsCondition():
            return {parent.name: [x for x in _values(parent, child) if x != condition.value]}
    values = _values(parent, child)
    if condition.value not in values:
        raise _wordless(child, f"depends on {parent.name} by {quoted(condition.value)}")
    place = values.index(condition.value)
    above = isinstance(condition, cs.GreaterThanCondition)
    return {parent.name: values[place + 1 :] if above else values[:place]}


def _values(parent: Any, child: str) -> list[Any]:
    """All that a parent can be, in order."""
    if hasattr(parent, "choices"):
        return [*parent.choices]
    if hasattr(parent, "sequence"):
        return [*parent.sequence]
    if hasattr(parent, "lower") and isinstance(parent.default_value, int):
        if parent.upper - parent.lower < MOST:
            return [*range(parent.lower, parent.upper + 1)]
        raise _wordless(child, f"depends on {parent.name!r}, of more than {MOST} values")
    raise _wordless(child, f"depends on {parent.name!r}, which is no integer and no choice")


def _together(parts: Sequence[Wanted]) -> Wanted:
    """What all of them want."""
    together: Wanted = {}
    for part in parts:
        for parent, values in part.items():
            known = together.get(parent, values)
            together[parent] = [value for value in known if value in values]
    return together


def _either(parts: Sequence[Wanted], child: str) -> Wanted:
    parents = {parent for part in parts for parent in part}
    if len(parents) > 1:
        names = " or ".join(sorted(parents))
        raise _wordless(child, f"depends on {names}, either of them; conditions hold together")
    parent = parents.pop()
    return {parent: [*dict.fromkeys(value for part in parts for value in part[parent])]}


def _clause(clause: Any) -> str:
    """A forbidden clause as a line of `forbid`."""
    import ConfigSpace as cs

    if hasattr(clause, "components"):
        word = " and " if isinstance(clause, cs.ForbiddenAndConjunction) else " or "
        return word.join(f"({_clause(part)})" for part in clause.components)
    kind = type(clause).__name__.removeprefix("Forbidden")
    operation = OPERATIONS.get(kind.removesuffix("Clause").removesuffix("Relation"))
    if operation is None:
        raise UserError(f"ConfigSpace: hpogen has no word for the forbidden {kind} {clause}")
    if hasattr(clause, "left"):
        return f"{mentioned(clause.left.name)} {operation} {mentioned(clause.right.name)}"
    value = [*clause.values] if operation == "in" else clause.value
    return f"{mentioned(clause.hyperparameter.name)} {operation} {value!r}"


OPERATIONS: Mapping[str, str] = {
    "Equals": "==",
    "In": "in",
    "LessThan": "<",
    "LessThanEquals": "<=",
    "GreaterThan": ">",
    "GreaterThanEquals": ">=",
}


def of_distribution(given: Any) -> Any:
    """The form of a distribution of Optuna; of one with a single value a constant."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(given, CategoricalDistribution):
        return {"choice": [*given.choices]}
    if not isinstance(given, FloatDistribution | IntDistribution):
        raise UserError(
            f"Optuna: got {type(given).__name__}, expected a FloatDistribution, an "
            "IntDistribution or a CategoricalDistribution"
        )
    if given.low == given.high:
        return given.low
    integer = isinstance(given, IntDistribution)
    form = {"int" if integer else "float": [given.low, given.high], "log": given.log}
    stepped = given.step not in (None, 1) or (given.step == 1 and not integer)
    return form | ({"step": given.step} if stepped else {})


def _wordless(name: str, why: str) -> UserError:
    return UserError(f"ConfigSpace: {name!r} {why}")
