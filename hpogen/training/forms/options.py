"""Checks what the YAML says of a registered part (model, data set): its name and its options.

Used by `task.py`, for the keys that are not fields of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, create_model
from pydantic_core import InitErrorDetails, PydanticCustomError

from hpogen import plugins
from hpogen.errors import UserError, unknown

STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
OPEN = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)  # for options


class Part(BaseModel):
    """A mapping that names parts: it finds those that the study's own plug-ins have."""

    model_config = STRICT

    _scope: plugins.Scope = PrivateAttr(default_factory=plugins.in_scope)


class Optioned(Part):
    """One whose further keys are options of the part that it names."""

    model_config = OPEN

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def named(value: object) -> object:
    """The short form of a part: `mlp` is `{name: mlp}`."""
    return {"name": value} if isinstance(value, str) else value


def registered(name: str, registry: plugins.Registry[Any]) -> str:
    """The name, if it is in the registry. Raises ValueError with the nearest name."""
    try:
        registry.check(name)
    except UserError as error:
        raise ValueError(str(error)) from None
    return name


def check_options(
    part: BaseModel, name: str, registry: plugins.Registry[Callable[..., Any]]
) -> None:
    """Check the keys of `part` that are not fields against the options of the registered part.

    Raises ValidationError with the place of each. Fills in the defaults of a plug-in's options;
    a built-in model is imported (and torch with it) only when options are given.
    """
    extra = part.__pydantic_extra__
    if extra is None or (not extra and registry.is_builtin(name)):
        return
    fields = {field.alias or name for name, field in type(part).model_fields.items()}
    declared = plugins.options_of(registry.get(name), without=fields)
    errors = [
        InitErrorDetails(
            type=PydanticCustomError(
                "unknown_option", "{text}", {"text": unknown("", key, {*fields, *declared})}
            ),
            loc=(key,),
            input=value,
        )
        for key, value in extra.items()
        if key not in declared
    ]
    if errors:
        raise ValidationError.from_exception_data("options", errors)
    config = ConfigDict(strict=True, protected_namespaces=(), arbitrary_types_allowed=True)
    model = create_model("Options", __config__=config, **declared)
    extra.update(model.model_validate_json(json.dumps(extra)).model_dump())
