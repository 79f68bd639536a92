"""Where the trials of a study keep their files: in the study's folder, or at `checkpoints.path`."""

from __future__ import annotations

from pathlib import Path

from hpogen.record import folder
from hpogen.record.provenance import digest
from hpogen.record.stores import is_url
from hpogen.spec import StudySpec


def home(spec: StudySpec, directory: Path, trial: int, study: str) -> Path:
    """The own folder, absolute, of a trial of the study of that id."""
    place = _elsewhere(spec, directory, study)
    inside = folder.trial_stem(directory.absolute(), trial)
    return inside if place is None or is_url(place) else Path(place) / inside.name


def checkpoints(spec: StudySpec, directory: Path, trial: int, study: str) -> str:
    """The URL under which the trial keeps its checkpoints; empty: in its folder."""
    place = _elsewhere(spec, directory, study)
    return f"{place}/{trial:05d}" if place is not None and is_url(place) else ""


def _elsewhere(spec: StudySpec, directory: Path, study: str) -> str | None:
    """This study's part of `checkpoints.path`, which other studies may use, too.

    The copy of a folder is another study, from another machine even one of the same path.
    """
    path = spec.checkpoints.path
    whose = {"directory": str(directory.absolute()), **({"study": study} if study else {})}
    mine = digest(whose)
    return None if path is None else f"{path.rstrip('/')}/{spec.name}-{mine}"
