"""Which of the data sets that hpogen can get are on disk already, and where they lie."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.report.doctor.finding import Finding, note, ok
from hpogen.report.doctor.storage import existing


def data() -> Iterator[Finding]:
    """Nothing is read or got: what is on disk is seen by a glance."""
    tasks = dict(_tasks())
    root = next(iter(tasks.values())).dataset.folder()
    there = [name for name, task in tasks.items() if _is_there(task)]
    others = [name for name in tasks if name not in there]
    text = f"{root}: {', '.join(there)}" + (f"; not there: {', '.join(others)}" if others else "")
    if others and not _writable(root):
        todo = "set HPOGEN_DATA to a folder of yours; hpogen downloads what a study names"
        yield note("data sets", f"{text}, and nothing can be written there", todo)
    else:
        yield ok("data sets", text)


def _tasks() -> Iterator[tuple[str, Any]]:
    """Image classification with each built-in data set, as a study would have it.

    Left out are those that lie where a study says, and tables, which come with scikit-learn.
    """
    form = plugins.tasks.get(plugins.DEFAULT_TASK)
    for name in filter(plugins.datasets.is_builtin, plugins.datasets.names()):
        with contextlib.suppress(ValueError):
            yield name, form.model_validate({"dataset": name, "model": "mlp", "epochs": 1})


def _is_there(task: Any) -> bool:
    """As far as this user may see."""
    with contextlib.suppress(UserError):
        return task.missing() is None
    return False


def _writable(root: Path) -> bool:
    return os.access(existing(root), os.W_OK | os.X_OK, effective_ids=True)
