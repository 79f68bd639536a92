"""What became of the old configurations, as `hpogen fork` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from hpogen.report.text import count, folder_and_next, paragraph
from hpogen.report.verdict import command
from hpogen.running.fork import Fork


def page(found: Fork, study: str, program: str, width: int) -> list[str]:
    """Sentences, the folder, and the command that goes on with the study of the YAML `study`."""
    text = " ".join(f"{sentence}." for sentence in _sentences(found))
    goes_on = command(program, "run", study, "--dir", str(found.directory))
    return [*paragraph(text, width), *folder_and_next(found.directory, [goes_on])]


def _sentences(found: Fork) -> Iterator[str]:
    reused = f"{count(found.reused, 'outcome')} reused without training"
    yield f"{count(found.enqueued, 'configuration')} enqueued, {reused}"
    if found.task:
        yield f"The task is another ({found.task} differs): all of them are to be trained"
    elif found.to_train:
        yield f"{count(found.to_train, 'trial')} to be trained: no outcome that serves"
    if found.outside:
        yield f"Left out: {found.outside} outside the new search space"
    if found.other_budgets:
        yield f"Left out: {found.other_budgets} that were trained for other budgets only"
    if found.no_room:
        yield f"stop leaves no room for {found.no_room} of them: raise it"
