"""Imports plug-in files and what installed packages name in the group `hpogen.plugins`."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from hpogen.errors import UserError
from hpogen.plugins.guest import PREFIX, Raised, described, guest

ENTRY_POINTS = "hpogen.plugins"


def load_file(path: Path) -> None:
    """Import a user's plug-in file, which registers its parts. Its folder is importable then.

    Raises UserError when the file is missing or its import fails.
    """
    if not path.is_file():
        raise UserError(f"plug-in {str(path)!r} does not exist")
    name = f"{PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plug-in {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        with guest():
            spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's module raises is the user's to mend
        where = f" (line {line})" if (line := _line_in(error, path)) else ""
        text = str(error) if isinstance(error, UserError) else described(error)
        raise UserError(f"plug-in {str(path)!r} cannot be imported{where}: {text}") from error


def _line_in(error: BaseException, path: Path) -> int | None:
    cause = error.__cause__ if isinstance(error, Raised) else None
    lines = []
    traceback = (cause or error).__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            lines.append(traceback.tb_lineno)
        traceback = traceback.tb_next
    return lines[-1] if lines else getattr(error, "lineno", None)


@functools.cache
def load_installed() -> None:
    """Import the modules that installed packages name in the group `hpogen.plugins`; once.

    Raises UserError, naming the package, when its import fails.
    """
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            with guest():
                point.load()
        except Exception as error:  # whatever the package raises is its user's to mend
            package = point.dist.name if point.dist else point.value
            raise UserError(
                f"plug-in {point.name!r} of the package {package!r} cannot be imported: "
                f"{described(error)}"
            ) from error
