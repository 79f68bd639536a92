"""Where the trials of a study keep their files: in the study's folder, or at `checkpoints.path`.

The Study asks here what it gives a task.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.record.provenance import digest
from hpogen.record.stores import is_url
from hpogen.spec import StudySpec
from hpogen.study.read import AnyStudy
from hpogen.trial import RunningTrial, Trial


def given(
    record: Record, spec: StudySpec, directory: Path, study: str, part: int | None = None
) -> RunningTrial:
    """A trial of the study of that id as its task is given it, on the way from its first epoch.

    Its folder's path is absolute. Weights are kept of what may become the answer, which one of a
    trial's trainings, `part`, may not.
    """
    trial, keep = record.trial, spec.checkpoints.keep
    rungs = {spec.ladder[-1], *([spec.final_rung] if spec.finalists else [])}
    again = record.repeat and spec.finalists is None
    if keep == "best" and (trial.rung not in rungs or again or part is not None):
        keep = "none"
    place = _elsewhere(spec, directory, study)
    home = folder.trial_stem(directory.absolute(), trial.id, part)
    url = f"{place}/{home.name}" if is_url(place) else ""
    return RunningTrial(
        **vars(trial),
        start_epoch=0,
        home=Path(place) / home.name if place and not url else home,
        keep=keep,
        checkpoints=url,
        study=study,
        part=part,
    )


def parent(study: AnyStudy, trial: Trial, part: int | None = None) -> RunningTrial | None:
    """The trial whose checkpoint this one goes on from, or whose weights it begins with.

    Of its training `part` that is the parent's of the same number. A duplicate has trained nothing:
    its weights are those of the first.
    """
    if study.spec.rungs != "continue" or trial.parent is None:
        return None
    record = study.history.records[trial.parent]
    if study.spec.warm and record.twin is not None:
        record = study.history.records[record.twin]
    return given(record, study.spec, study.directory, study.history.id, part)


def with_parent(study: AnyStudy, trial: RunningTrial) -> tuple[RunningTrial, RunningTrial | None]:
    """The trial, told where it finds its parent's checkpoints; and that parent, if it needs one.

    Where it is told of no place, its own folder begins as a copy.
    """
    before, warm = parent(study, trial, trial.part), study.spec.warm
    if before is None:
        return trial, None
    place = before.checkpoints or (str(before.home) if warm else "")
    return replace(trial, inherited=place, warm=warm), before


def _elsewhere(spec: StudySpec, directory: Path, study: str) -> str:
    """This study's part of `checkpoints.path`, which other studies may use, too; empty without one.

    The copy of a folder is another study, from another machine even one of the same path.
    """
    path = spec.checkpoints.path
    if path is None:
        return ""
    whose = {"directory": str(directory.absolute()), **({"study": study} if study else {})}
    return f"{path.rstrip('/')}/{spec.name}-{digest(whose)}"
