"""A study as Optuna keeps it, in any database that Optuna knows; and Optuna's dashboard on it.

`exporting.py` writes with it. One Optuna trial per trial of the ledger, under the same number.
"""

from __future__ import annotations

import datetime
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import DuplicatedStudyError, OptunaError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from hpogen.errors import UserError
from hpogen.export.rows import curve, row, shown
from hpogen.record.history import Record
from hpogen.space.parameters import Choice, Constant, Parameter
from hpogen.study.read import Folder, read_all
from hpogen.study.standing import rule

OPTUNAS = {"study", "trial", "score"}  # columns that an Optuna trial has itself


def write(studies: Sequence[Folder], url: str) -> None:
    """Add an Optuna study for each to a database, of its name; all of them or none.

    Raises UserError for a name that is taken, and a database that cannot be written. Optuna adds
    some twenty trials a second.
    """
    try:
        storage = optuna.storages.get_storage(url)
    except (ImportError, RuntimeError, SQLAlchemyError, OptunaError) as error:
        raise _unusable(url, error) from error
    try:
        _add(studies, storage)
    except DuplicatedStudyError as error:
        text = f"has a study {error.args[0]!r} already: delete it there, or name another database"
        raise UserError(f"--to: {shown(url)} {text}") from error
    except (SQLAlchemyError, OptunaError) as error:
        raise _unusable(url, error) from error


def _unusable(url: str, error: Exception) -> UserError:
    cause = error.__cause__ or error
    text = str(cause).strip().partition("\n")[0]
    if isinstance(cause, ImportError):
        text += f": pip install {cause.name}"
    return UserError(f"--to: {shown(url)} cannot be used: {text}")


def _add(studies: Sequence[Folder], storage: BaseStorage) -> None:
    logging.getLogger("optuna").setLevel(logging.WARNING)
    made: list[str] = []
    try:
        for study in studies:
            try:
                copy = optuna.create_study(
                    storage=storage,
                    study_name=study.name,
                    directions=[StudyDirection.MINIMIZE] * study.spec.objective.count,
                )
            except DuplicatedStudyError:
                raise DuplicatedStudyError(study.name) from None  # its own text has three lines
            made.append(study.name)
            copy.set_user_attr("objective", rule(study.spec))
            copy.add_trials([_trial(study, record) for record in study.history.records])
    except BaseException:
        for name in made:
            optuna.delete_study(study_name=name, storage=storage)
        raise


def dashboard(directory: Path, port: int = 8080) -> None:
    """Show the study, or the studies of a matrix, as they are now in optuna-dashboard.

    Serves this machine alone, until Ctrl-C; writes nothing. Raises UserError where the package is
    missing or the port is taken.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise UserError("hpogen dashboard needs a package: pip install 'hpogen[dashboard]'")
    import optuna_dashboard

    storage = InMemoryStorage()
    _add(read_all([directory]), storage)
    try:
        optuna_dashboard.run_server(storage, host="127.0.0.1", port=port)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port: {port} cannot be used: {error}") from error


def _trial(study: Folder, record: Record) -> FrozenTrial:
    """Its times are those of the export, as far apart as training took: the ledger has none."""
    state = TrialState.RUNNING
    if record.state == "told":
        failed = TrialState.PRUNED if record.pruned else TrialState.FAIL
        state = failed if record.failure else TrialState.COMPLETE
    seconds = record.outcome.seconds.get("total", 0.0) if record.outcome else 0.0
    now = datetime.datetime.now()
    config = record.trial.config
    return FrozenTrial(
        number=record.trial.id,
        state=state,
        value=None,
        values=[*(record.scores or (record.score,))] if state == TrialState.COMPLETE else None,
        datetime_start=now - datetime.timedelta(seconds=seconds),
        datetime_complete=now if state.is_finished() else None,
        params=dict(config),
        distributions={name: _distribution(study.spec.space.parameters[name]) for name in config},
        user_attrs=_attributes(study, record),
        system_attrs={},
        intermediate_values=_validation_losses(study, record),
        trial_id=record.trial.id,
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    """A constant is a choice of one; Optuna has no ordered choices, priors, forbidden ones."""
    if isinstance(parameter, Constant):
        return CategoricalDistribution((parameter.default,))
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if parameter.integer:
        step = 1 if parameter.step is None else int(parameter.step)
        low, high = int(parameter.low), int(parameter.high)
        return IntDistribution(low, high, log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)


def _attributes(study: Folder, record: Record) -> dict[str, Any]:
    """The columns of the table that are no parameters and not missing."""
    found = row(study, record)
    return {
        name: x
        for name, x in found.items()
        if x is not None and name not in OPTUNAS and not name.startswith("config.")
    }


def _validation_losses(study: Folder, record: Record) -> dict[int, float]:
    """By epoch."""
    rows = curve(study, record)
    return {r["epoch"]: r["metrics"]["val_loss"] for r in rows if "val_loss" in r["metrics"]}
