"""Imports plug-in files and what installed packages name in the group `hpogen.plugins`."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hpogen.errors import UserError
from hpogen.plugins.binding import FILES, File
from hpogen.plugins.guest import PREFIX, Raised, described, guest

ENTRY_POINTS = "hpogen.plugins"
DIGITS = 12  # of a file's digest in its module's name


def load_file(path: Path) -> None:
    """Import a user's plug-in file, which registers its parts, for every study of this process.

    Its folder is importable then. Raises UserError when the file is missing or its import fails.
    """
    name = f"{PREFIX}{path.stem}"
    _import(name, path, _source(path))


def bind_file(path: Path) -> str:
    """Import a user's plug-in file as `load_file` does, for the studies in whose scope it will be.

    What comes back is its name for a scope, which its content decides, wherever the file lies.
    """
    source = _source(path)
    plain = f"{PREFIX}{path.stem}"
    name = f"{plain}_{hashlib.sha256(source).hexdigest()[:DIGITS]}"
    FILES[name] = File(path, source)
    sys.modules[plain] = _import(name, path, source)  # checkpoints of earlier versions name it so
    return name


def _source(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"plug-in {str(path)!r} does not exist")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"plug-in {str(path)!r} cannot be read: {error.strerror}") from error


def _import(name: str, path: Path, source: bytes) -> ModuleType:
    """The module of that source: not of bytecode, which one edited within a second outlives."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UserError(f"plug-in {str(path)!r} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        with guest():
            exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except Exception as error:  # whatever the user's module raises is the user's to mend
        where = f" (line {line})" if (line := _line_in(error, path)) else ""
        text = str(error) if isinstance(error, UserError) else described(error)
        raise UserError(f"plug-in {str(path)!r} cannot be imported{where}: {text}") from error
    return module


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
    from importlib.metadata import entry_points  # with the standard library's e-mail

    for point in entry_points(group=ENTRY_POINTS):
        try:
            with guest():
                point.load()
        except Exception as error:  # whatever the package raises is its user's to mend
            package = point.dist.name if point.dist else point.value
            raise UserError(
                f"plug-in {point.name!r} of the package {package!r} cannot be imported: "
                f"{described(error)}"
            ) from error
