"""torchvision, imported when data or a model needs it: its build must be one for torch's build."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

from hpogen.errors import UserError, text_of
from hpogen.record.provenance import version

GET = "pip install --force-reinstall torch torchvision, both from one index (docs/install.md)"


@functools.cache
def torchvision() -> ModuleType:
    """The package. Raises UserError where it cannot be imported, with both versions."""
    try:
        return importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"torchvision {version('torchvision')} does not fit torch {version('torch')} "
            f"({text_of(error)}): {GET}"
        ) from error
