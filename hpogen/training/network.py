"""Which network a task trains: the YAML's `model:`, without torch.

Part of `settings.py`; `build.py` builds what it says.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, field_validator, model_validator

from hpogen import plugins
from hpogen.training.options import OPEN, check_options, registered


class Model(BaseModel):
    """Which network; further keys are options of its builder."""

    model_config = OPEN

    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, plugins.models)

    @model_validator(mode="after")
    def _checked(self) -> Model:
        check_options(self, self.name, plugins.models)
        return self

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})
