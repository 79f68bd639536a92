"""Puts the page together and writes it: `hpogen report`.

Reads study folders only. A picture that would answer nothing is named, with what to run for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hpogen.errors import UserError, explained
from hpogen.record.folder import replace_file
from hpogen.record.provenance import version
from hpogen.report.compare import missing
from hpogen.report.compare_verdict import verdict
from hpogen.report.figure import looks_text
from hpogen.report.html.again import again
from hpogen.report.html.anytime import anytime
from hpogen.report.html.blocks import Missing, Part, Section, asset, render
from hpogen.report.html.cards import cards, crossing
from hpogen.report.html.choosing import choosing
from hpogen.report.html.files import write_figures
from hpogen.report.html.fronts import fronts
from hpogen.report.html.material import Material, TaskMaterial, read_material
from hpogen.report.html.measures import measures
from hpogen.report.html.pointing import pointing
from hpogen.report.html.racing import racing
from hpogen.report.html.scores import rungs, scores
from hpogen.report.html.space import hyperparameters
from hpogen.report.html.sureness import sureness
from hpogen.report.html.training import curves, time
from hpogen.report.html.trials import trials
from hpogen.report.text import count, sentence
from hpogen.report.verdict import choice
from hpogen.study.standing import standing

MOST_TASKS = 3  # that are drawn
SECTIONS: tuple[Callable[[TaskMaterial], Part | list[Part]], ...] = (
    cards,
    sureness,
    crossing,
    anytime,
    scores,
    fronts,
    racing,
    measures,
    choosing,
    curves,
    time,
    hyperparameters,
    rungs,
)


def write_report(
    directories: Sequence[Path],
    out: Path,
    primary: str | None = None,
    program: str = "hpogen",
    figures: Path | None = None,
) -> Path:
    """Write the report of studies (folders of studies or of matrices) to `out`; the path.

    `figures` is a folder for its pictures, each as `.svg` and `.pdf`. Studies may be running.
    Raises UserError for a folder without a study, studies that have nothing in common, a contrast
    of unknown arms, and a file that cannot be written.
    """
    material = read_material(directories, primary)
    drawn = [*material.tasks()][:MOST_TASKS]
    tasks = [_task(task) for task in drawn]
    sections = {task["name"]: task["sections"] for task in tasks}
    points = pointing(drawn, chain.from_iterable(sections.values()))
    text = str(_page(material, tasks, points, program))
    with explained(f"--out: {out}", UserError):
        replace_file(out, text.encode(errors="replace"))  # of a folder that is no UTF-8
    if figures is not None:
        write_figures(sections, figures)
    return out


def _page(
    material: Material, tasks: Sequence[dict[str, Any]], points: Markup, program: str
) -> Markup:
    """The page, which needs no other file and no network."""
    found = material.comparison
    return render(
        "page.html.j2",
        css=asset("page.css"),
        script=asset("page.js"),
        title=_title(material),
        about=_about(material),
        verdict=_verdict(material),
        notes=_notes(material),
        next=missing(found, found.unfinished, program),
        tasks=tasks,
        several=len(tasks) > 1,
        points=points,
        ending=[trials(material), again(material, program)],
    )


def _task(task: TaskMaterial) -> dict[str, Any]:
    made = [make(task) for make in SECTIONS]
    parts = [part for one in made for part in (one if isinstance(one, list) else [one])]
    return {
        "name": task.table.task,
        "sections": [part for part in parts if isinstance(part, Section)],
        "missing": [part for part in parts if isinstance(part, Missing)],
    }


def _title(material: Material) -> str:
    if len(material.studies) == 1:
        return material.studies[0].name
    return ", ".join(path.resolve().name for path in material.comparison.given)


def _about(material: Material) -> str:
    told = sum(len(study.history.told()) for study in material.studies)
    charged = sum(study.history.charged for study in material.studies)
    arms = count(len(material.comparison.arms), "arm")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{count(len(material.studies), 'study')}, {arms}, {count(told, 'trial')} told, "
        f"{count(charged, 'epoch')} charged. Made by hpogen {version('hpogen')} on {now}."
    )


def _verdict(material: Material) -> list[str]:
    """What can be acted on; of a single study what it chose and on what evidence."""
    if len(material.studies) == 1:
        study = material.studies[0]
        now = standing(study)
        if now.best is not None:
            return [choice(study.spec, now)]
    return [verdict(material.comparison)]


def _notes(material: Material) -> list[str]:
    found = material.comparison
    notes = []
    studies = count(len(found.studies), "study")
    if found.unanswered:
        n = f"{len(found.unanswered)} of {studies}"
        notes.append(f"Without an answer: {n}. No trial of the largest budget has finished there.")
    if found.unfinished:
        n = f"{len(found.unfinished)} of {studies}"
        notes.append(f"Not finished: {n}. These are the figures so far.")
    if len(found.tasks) > MOST_TASKS:
        notes.append(f"Pictures are of the first {MOST_TASKS} of {len(found.tasks)} tasks.")
    said = filter(None, [*found.notes, looks_text(found.looks)])
    return [*notes, *map(sentence, said)]
