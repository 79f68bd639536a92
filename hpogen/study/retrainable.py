"""Which studies can be retrained: those whose task can train on all of its data, and be tested."""

from __future__ import annotations

from pathlib import Path

from hpogen.errors import NoTestImages, UserError
from hpogen.plugins import OWN_TASKS
from hpogen.spec import StudySpec
from hpogen.study import status
from hpogen.study.open import unchanged
from hpogen.study.read import Folder


def check_test_images(study: Folder, spec: StudySpec, trial: int | None = None) -> None:
    """Raises UserError, with what to do, where the data of a study of `plan` have no test images.

    `trial` is that which `plan` was given. Opening the study tells other mistakes in the data.
    """
    try:
        spec.task.prepare()
    except NoTestImages as error:
        directory, mend = study.directory, f"{error.mend}; " if error.mend else ""
        number = status.best(study)["trial"] if trial is None else trial
        raise UserError(
            f"{directory}: the data set {error.dataset!r} has no test {error.noun}, and retrain "
            f"tests on them: {mend}`hpogen retrain {directory} --trial {number} --subset` trains "
            f"{'the answer' if trial is None else 'that trial'} again as it was"
        ) from error
    except UserError:
        return


def check_task(study: Folder) -> None:
    """Raise UserError for a task that cannot be retrained, or whose files are not as they were."""
    if not study.spec.task.retrains:
        raise UserError(
            f"{study.directory}: the task {study.spec.task.name!r} cannot be retrained: it does "
            "not say that it can train on all of its data. A @task function declares split=True "
            "and heeds trial.split; a command has the placeholder {split}"
        )
    task = study.spec.record()["task"]
    for key, sha256 in study.history.header.get("files", {}).items():
        path = task[key.removeprefix("task.")]
        if not unchanged(Path(path).expanduser(), sha256):
            raise UserError(
                f"{study.directory}: {key}: {path} has changed since the study was begun: put the "
                "file of then there"
            )


def check_known(study: Folder, option: str) -> None:
    """Raise UserError for a task of one's own, whose data and network hpogen does not know."""
    if (name := study.spec.task.name) not in OWN_TASKS:
        raise UserError(
            f"{study.directory}: {option}: got the task {name!r}, expected one whose data and "
            f"network hpogen knows: {' or '.join(map(repr, OWN_TASKS))}"
        )


def check_one_training(study: Folder, option: str) -> None:
    """Raise UserError where a trial is several trainings, which that option cannot repeat."""
    parts = study.history.parts
    if parts.number > 1:
        raise UserError(
            f"{study.directory}: {option}: a trial of {parts.number} {parts.word}s has no one "
            f"network that could be trained again: hpogen retrain {study.directory} trains on all "
            "data"
        )
