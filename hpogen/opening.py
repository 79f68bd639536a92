"""From a YAML file, or from a study's folder alone, to a study that is open and ready to run.

The command line and Python users begin here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hpogen import history
from hpogen.errors import UserError
from hpogen.history import History
from hpogen.ledger import Event
from hpogen.spec import StudySpec, load_study
from hpogen.study import Study

RUNS = Path("runs")


def open_study(
    study: StudySpec | Path | str,
    directory: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Study:
    """The study of a YAML file (with `key.path=value` overrides) or of a spec, ready to run.

    Its data are fetched first; it goes on where the folder (default: `runs/NAME`) has it. Raises
    UserError, and has written nothing then.
    """
    spec = study if isinstance(study, StudySpec) else load_study(study, overrides)
    prepare(spec)
    return Study(spec, Path(directory) if directory is not None else RUNS / spec.name)


def prepare(spec: StudySpec) -> None:
    """Get what training needs. Raises UserError beginning with where the YAML asks for it."""
    try:
        spec.task.prepare()
    except UserError as error:
        raise UserError(f"{spec.where('task.dataset')}: {error}") from error


def read_study(directory: Path) -> tuple[StudySpec, History]:
    """A folder's spec, with `stop` as it was raised, and its history. Nothing is written.

    The plug-ins are those files that the study began with, where they are unchanged, else the
    folder's copies. Raises UserError beginning with the folder.
    """
    past = history.read(directory)
    record = {**past.header["spec"], "stop": past.stop}
    try:
        return StudySpec.from_record(record, plugins=_plugins(directory, past.header)), past
    except UserError as error:
        raise UserError(f"{directory}: {error}") from error


def _plugins(directory: Path, header: Event) -> list[Path]:
    files = []
    for original in map(Path, header["spec"]["plugins"]):
        kept = directory / "plugins" / original.name
        same = _unchanged(original, header["plugins"].get(original.name))
        files.append(original if same else kept)
    return files


def _unchanged(path: Path, sha256: str | None) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
