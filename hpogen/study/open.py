"""From a YAML file, or from a study's folder alone, to a study that is open and ready to run.

The command line and Python users begin here.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import resource
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpogen import plugins
from hpogen.errors import UserError, explained, quoted
from hpogen.record.ledger import LEDGER
from hpogen.record.stores import check_writable
from hpogen.spec import StudySpec, load_studies, load_study
from hpogen.spec.checks import extremes
from hpogen.study.read import RUNS, Folder, is_matrix, studies_in
from hpogen.study.replay import as_begun
from hpogen.study.study import Study

FILES_PER_STUDY, OTHER_FILES = 4, 256

log = logging.getLogger(__name__)


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
    folder = Path(directory) if directory is not None else RUNS / spec.name
    if inner := studies_in(folder):
        raise is_matrix(folder, inner)
    prepare(spec)
    return Study(as_begun(spec, folder), folder)


def run_folder(path: Path) -> Path:
    """Where `hpogen run` puts the study of a YAML file by default; a folder is itself."""
    with explained(path, UserError, "read"):
        is_file = path.is_file()
    return RUNS / load_studies(path).name if is_file else path


def check_is_file(path: Path) -> None:
    """Raise UserError for the folder of a study or a matrix: `hpogen resume` goes on with that."""
    with explained(path, UserError, "read"):
        is_study = path.is_dir() and ((path / LEDGER).exists() or bool(studies_in(path)))
    if is_study:
        raise UserError(f"{path}: is a study's folder: go on with: hpogen resume {path}")


def open_studies(specs: Mapping[Path, StudySpec]) -> list[Study]:
    """The studies of a matrix by their folders, all of them open.

    Raises UserError, and has left none open then. What was written are headers at most.
    """
    for path in specs:
        with explained(path.parent, UserError, "read"):
            is_study = (path.parent / LEDGER).exists()
        if is_study:
            raise UserError(f"{path.parent}: here is a study, not a matrix: use another --dir")
    _allow_files(len(specs))
    for spec in specs.values():
        prepare(spec)
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(Study(as_begun(spec, path), path)) for path, spec in specs.items()
        ]
        stack.pop_all()
    return opened


def _allow_files(studies: int) -> None:
    """Raise the limit of open files of this process to what so many studies need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = FILES_PER_STUDY * studies + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= need:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    except (ValueError, OSError):  # above `hard`; on macOS there may be a limit below that
        raise UserError(
            f"{studies} studies at a time need {need} open files, and this system does not allow "
            f"them (ulimit -Hn says {_limit(hard)}): raise that, or run them in parts"
        ) from None


def _limit(files: int) -> str:
    return "unlimited" if files == resource.RLIM_INFINITY else str(files)


def warnings(spec: StudySpec, samples: int | None = None) -> Iterator[str]:
    """What a study may be told about its search space, in a line each.

    `samples` is what `task.prepare` gave. Raises UserError, beginning with the place in the YAML,
    where no trial makes sense.
    """
    if samples is None and spec.data is not None:
        samples = spec.task.check_data(float(spec.data.min))
    for name, parameter in spec.space.parameters.items():
        where = spec.where(f"search_space.{name}")
        try:
            text = spec.task.check_range(name, extremes(parameter), samples)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        if text is not None:
            yield f"{where}: {text}"


def prepare(spec: StudySpec) -> None:
    """Get what training needs. Raises UserError beginning with where the YAML asks for it."""
    try:
        samples = spec.task.prepare()
    except UserError as error:
        raise UserError(f"{spec.where('task.dataset')}: {error}") from error
    for rung in spec.ladder if spec.data is not None else ():
        try:
            fewer = spec.task.prepare(rung.data)
        except UserError as error:
            raise UserError(f"{spec.where('budgets')}: {error}") from error
        samples = min(samples, fewer) if samples and fewer else samples
    for warning in warnings(spec, samples):
        log.warning(warning)
    if (place := spec.checkpoints.path) is not None:
        try:
            check_writable(place)
        except UserError as error:
            where = spec.where("checkpoints.path")
            raise UserError(f"{where}: checkpoints.path: {quoted(place)} {error}") from error


def loaded(study: Folder) -> StudySpec:
    """The spec of a study that was read, its plug-ins imported: to go on with it.

    Raises UserError beginning with the folder.
    """
    record = {**study.history.header["spec"], "stop": study.history.stop}
    check_files(study)
    try:
        return StudySpec.from_record(record, plugins=plugin_files(study))
    except UserError as error:
        raise UserError(f"{study.directory}: {error}") from error


def check_files(study: Folder) -> None:
    """Raise UserError where its task is no file's, but a function that a program gave."""
    known = {path.name for path in study.spec.plugins}
    if {*study.history.header.get("plugins", {})} - known and not plugins.in_scope():
        raise UserError(
            f"{study.directory}: the task {study.spec.task.name!r} is a function of a Python "
            "program: it goes on there, by the same hpogen.search(…)"
        )


def plugin_files(study: Folder) -> list[Path]:
    """The plug-in files to load for it: those that it began with, else the folder's copies."""
    digests = study.history.header.get("plugins", {})
    kept = study.directory / "plugins"
    return [
        path if unchanged(path, digests.get(path.name)) else kept / path.name
        for path in study.spec.plugins
    ]


def unchanged(path: Path, sha256: str | None) -> bool:
    """Whether a file holds what that digest is of."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
