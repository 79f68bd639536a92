"""The studies that a YAML file stands for: one, or each combination of its matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpogen.errors import Several, UserError, mistaken
from hpogen.spec.form import is_folder_name
from hpogen.spec.loading import StudySpec, build
from hpogen.spec.matrix import MATRIX, cells
from hpogen.spec.source import Source, load

ENOUGH = 20  # studies of a matrix with mistakes: what is wrong with more is hardly new


@dataclass(frozen=True)
class Studies:
    """What a YAML file stands for: one study, or one for each combination of its matrix.

    The studies of a matrix have the name of their folder, `LABEL__LABEL`, within that of `name`.
    """

    name: str
    specs: tuple[StudySpec, ...]
    is_matrix: bool


def load_studies(path: Path | str, overrides: Sequence[str] = ()) -> Studies:
    """The study in a YAML file, or all of its matrix. Raises UserError as `load_study` does."""
    path = Path(path)
    source = load(path, overrides)
    if source.data.get(MATRIX) is None:
        spec = build(source, path, None)
        return Studies(spec.name, (spec,), is_matrix=False)
    name = source.data.get("name") or path.stem
    if not isinstance(name, str) or not is_folder_name(name):
        raise UserError(f"{source.where(('name',))}: name: got {name!r}, expected a folder's name")
    return Studies(name, _built(cells(source, path.parent), path), is_matrix=True)


def _built(sources: Iterator[Source], path: Path) -> tuple[StudySpec, ...]:
    """The studies of a matrix. Raises UserError with what is wrong in any of them, or in many."""
    specs: list[StudySpec] = []
    lines: list[str] = []
    wrong = 0
    for source in sources:
        try:
            specs.append(build(source, path, None))
        except UserError as error:
            lines += error.lines if isinstance(error, Several) else [str(error)]
            wrong += 1
        if wrong == ENOUGH:
            break
    if lines:
        raise mistaken([*dict.fromkeys(lines)])
    return tuple(specs)
