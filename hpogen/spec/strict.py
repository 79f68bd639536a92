"""What all forms of a study's YAML have in common: strict types, no unknown keys."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
Count = Annotated[int, Ge(1)]


class Form(BaseModel):
    """A mapping of the YAML: strict types, no unknown keys."""

    model_config = STRICT
