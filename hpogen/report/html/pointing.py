"""What a point of a picture says under the pointer, and when it is reached by keyboard.

A point has the key of its trial. The page has the text of each key once; `assets/page.js` shows it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator

from markupsafe import Markup

from hpogen.record.history import Record
from hpogen.report.html.blocks import Section, render
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.text import configuration, number
from hpogen.study.read import Folder


def pointing(tasks: Iterable[TaskMaterial], sections: Iterable[Section]) -> Markup:
    """The texts of the points that these sections have."""
    svgs = (svg for one in sections for figure in one.figures for _, svg in figure.panes)
    used = {key for svg in svgs for key in re.findall(r'data-p="([^"]*)"', svg)}
    texts = {key: text for task in tasks for key, text in _texts(task) if key in used}
    return render("points.html.j2", texts=json.dumps(texts, ensure_ascii=False))


def _texts(task: TaskMaterial) -> Iterator[tuple[str, str]]:
    for arm in task.arms:
        for study in arm.studies:
            for record in study.history.records:
                yield arm.key(study, record.trial.id), _text(arm, study, record)


def _text(arm: ArmOfTask, study: Folder, record: Record) -> str:
    """Three lines: the trial, its configuration, its score as the study has it."""
    score = number(record.score) if math.isfinite(record.score) else "none"
    trial = f"trial {record.trial.id} of {arm.label}, search seed {study.seed}"
    return f"{trial}\n{configuration(record.trial.config)}\nscore {score}"
