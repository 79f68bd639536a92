"""The network of a finished trial, from a study's folder alone: `hpogen.load`.

`hpogen predict` and the options of `hpogen best` that write weights begin here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast, overload

import torch

from hpogen import plugins
from hpogen.answer.ensemble import EnsemblePredictor
from hpogen.errors import UserError, explained, quoted
from hpogen.executors.inline import resolve_device
from hpogen.plugins import OWN_TASKS
from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.study import ensemble as ensembles
from hpogen.study import places, status
from hpogen.study.open import loaded, plugin_files, unchanged
from hpogen.study.read import Folder, read
from hpogen.study.retrained import choice_of
from hpogen.study.standing import wanted
from hpogen.training.forms.task import Settings
from hpogen.training.predictor import Predictor, from_checkpoint, predictor
from hpogen.training.weights import header_in
from hpogen.trial import WEIGHTS


@overload
def load(
    directory: Path | str,
    *,
    trial: int | None = None,
    retrained: bool = False,
    ensemble: Literal[False] = False,
    device: str = "cpu",
) -> Predictor: ...


@overload
def load(
    directory: Path | str,
    *,
    trial: int | None = None,
    retrained: bool = False,
    ensemble: bool,
    device: str = "cpu",
) -> Predictor | EnsemblePredictor: ...


def load(
    directory: Path | str,
    *,
    trial: int | None = None,
    retrained: bool = False,
    ensemble: bool = False,
    device: str = "cpu",
) -> Predictor | EnsemblePredictor:
    """The network of a study's answer, or of a trial: `net(inputs)` gives logits, or real numbers.

        net = hpogen.load("runs/quickstart")
        probabilities = net(images).softmax(1)  # images uint8 (N, C, H, W)

    It is in evaluation mode, with all that was fitted to the data inside. Of a table or of lines of
    text `net.encoded("rows.csv")` makes the inputs. `retrained` is what `hpogen retrain`
    trained of the configuration. With `ensemble` it is what `hpogen ensemble` has put together, and
    gives the logarithm of the mean probabilities. A file that `hpogen best --weights` wrote may
    stand for the folder. No code is run but hpogen's and, for a model of a plug-in, that file,
    which must be as it was. Raises UserError where there are no such weights; it says how to train
    them.
    """
    place = torch.device(resolve_device(device))
    path = Path(directory)
    with explained(path, UserError, "read"):
        data = path.read_bytes() if path.is_file() else None
    if data is not None:
        if trial is not None or retrained or ensemble:
            raise UserError(f"{path}: is one network's file: a trial is named of a study's folder")
        return _made(data, path, {}, path.parent, place)
    study = read(path)
    if ensemble:
        if trial is not None:
            raise UserError(f"{path}: got trial {trial} and ensemble, expected one of them")
        return _ensemble(study, retrained, place)
    if retrained:
        answer = status.best(study)["trial"] if trial is None else trial
        study, number = _retrained(study, answer, "" if trial is None else f" --trial {trial}")
    else:
        number = status.network_of(study) if trial is None else trial
    return _of_trial(study, number, place)


def _ensemble(study: Folder, retrained: bool, device: torch.device) -> EnsemblePredictor:
    found = ensembles.read(study)
    if retrained:
        ensembles.check_retrained(study, found)
        whose = [_retrained(study, trial, f" --trial {trial}") for trial in found.trials]
    else:
        ensembles.check_weights(study, found)
        whose = [(study, trial) for trial in found.trials]
    nets = [_of_trial(home, trial, device) for home, trial in whose]
    return EnsemblePredictor(nets, [member.weight for member in found.members])


def _retrained(study: Folder, number: int, option: str) -> tuple[Folder, int]:
    """The study of the `retrain` folder that trained a trial's configuration, and its best seed.

    The best is by the loss in training: the test set chooses nothing. `option` names the trial.
    """
    inner = study.retrainings.get(choice_of(study, number).label)
    if inner is None:
        raise UserError(
            f"{study.directory}: trial {number} has not been trained on the full training set: "
            f"hpogen retrain {study.directory}{option}"
        )
    return inner, status.best(inner)["trial"]


def _of_trial(study: Folder, number: int, device: torch.device) -> Predictor:
    record = _finished(study, number)
    trial, home = record.trial.id, study.directory
    try:
        data = folder.read_kept(home, trial, WEIGHTS, study.history.id)
    except OSError as error:
        return _of_elsewhere(study, record, device, _reason(study, error))
    path = folder.trial_stem(home, trial).with_suffix(f".{WEIGHTS}")
    files = {file.name: file for file in plugin_files(study)}
    return _made(data, path, files, home / "plugins", device)


def _of_elsewhere(study: Folder, record: Record, device: torch.device, reason: str) -> Predictor:
    """Of the trial's repetition, or its checkpoint. Raises UserError where there is neither."""
    trial, directory = record.trial.id, study.directory
    again = study.again(trial)
    if again is not None and again.history.told():
        return _of_trial(again, 0, device)
    kept = study.spec.checkpoints.of_all
    found = _of_checkpoint(study, record, device) if kept else None
    if found is None:
        raise UserError(
            f"{directory}: the weights of trial {trial} {reason}; train them again with: hpogen "
            f"retrain {directory} --trial {trial} --subset"
        )
    return found


def _reason(study: Folder, error: OSError) -> str:
    """Why a trial's file of weights is not to be had."""
    if not isinstance(error, FileNotFoundError):
        return f"cannot be read: {error.strerror}"
    if error.errno is None:  # a file is there
        return "are damaged, or another study's"
    return {
        "best": "are gone: those of the best trials are kept",
        "none": "are gone: keep: none keeps no trial's",
    }.get(study.spec.checkpoints.keep, "are gone: it has no checkpoint that this hpogen reads")


def _finished(study: Folder, number: int) -> Record:
    """The trial, or the one whose duplicate it is. Raises UserError where it has no network."""
    record = status.record_of(study, number)
    if record.twin is not None:
        record = status.record_of(study, record.twin)
    if (parts := study.history.parts).number > 1:
        raise UserError(
            f"{study.directory}: trial {number} was trained in {parts.number} {parts.word}s: no "
            f"network is the trial's: hpogen retrain {study.directory} trains one on all data"
        )
    if study.spec.task.name not in OWN_TASKS:
        raise UserError(
            f"{study.directory}: the task {study.spec.task.name!r} keeps no weights that hpogen "
            f"knows of: expected {' or '.join(map(repr, OWN_TASKS))}"
        )
    if record.outcome is None:
        raise UserError(f"{study.directory}: trial {number} has not finished")
    if (failure := record.failure) is not None:
        how = "was pruned" if record.pruned else f"failed ({failure.kind})"
        raise UserError(
            f"{study.directory}: trial {number} {how}, it has no weights: take "
            f"one that finished, such as hpogen best {study.directory} names"
        )
    return record


def _of_checkpoint(study: Folder, record: Record, device: torch.device) -> Predictor | None:
    """From the last checkpoint, which the data set and the plug-ins must be there for."""
    spec = loaded(study)
    settings = cast(Settings, spec.task)  # `_finished` has looked
    given = places.given(record, spec, study.directory, study.history.id)
    with plugins.scope(spec.scope):
        return from_checkpoint(settings, replace(given, device=str(device)), wanted(spec))


def _made(
    data: bytes, path: Path, files: Mapping[str, Path], home: Path, device: torch.device
) -> Predictor:
    """The network of a file of weights; plug-ins are at `files`, by name, or in the folder `home`.

    Raises UserError for a plug-in that is gone, or not as it was.
    """
    header = header_in(data, str(path))
    scope = []
    if not plugins.models.is_builtin(header.model):
        plugins.load_installed()
    for name, sha256 in header.plugins.items():
        file = files.get(name, home / name)
        if not file.is_file():
            raise UserError(
                f"{path}: the model {quoted(header.model)} is of the plug-in {name}, and {file} "
                "does not exist: put the file there"
            )
        if not unchanged(file, sha256):
            raise UserError(
                f"{path}: the model {quoted(header.model)} is of the plug-in {name}, and {file} "
                "has changed since it was trained: put the file of then there"
            )
        scope.append(plugins.bind_file(file))
    with plugins.scope(tuple(scope)):
        return predictor(data, str(path), device)
