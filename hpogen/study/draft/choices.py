"""From the choices of `hpogen init` to a study that loads, and to the files that are written.

What is not chosen follows from what is: the model from the data set, the search space from the
optimizer, rungs and the end from the searcher.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.errors import UserError, explained
from hpogen.spec import StudySpec
from hpogen.spec.described import first_line
from hpogen.spec.form import USUAL
from hpogen.study.draft.tasks import Choices, Record, Sizes, Start, start
from hpogen.study.draft.text import commented

TRIALS = 32  # trained in full, or what costs as much
OPTIONS: Mapping[str, Record] = {  # of searchers, where no default fits the first study
    "cmaes": {"population": 8},
    "grid": {"points": 3},
    "hyperband": {"brackets": 12},
    "bohb": {"brackets": 12},
}


@dataclass(frozen=True)
class Known:
    """What is known of data sets (training images, (C, H, W), classes) and of models, by name.

    A model's row has `definition`, and `options` with their defaults. `parameters` are what the
    hyper-parameters of images mean.
    """

    sizes: Sizes
    models: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, str]


def draft(file: Path, chosen: Choices, known: Known) -> dict[Path, str]:
    """The files to write: the study, which is to stand in `file`, and the program that it names.

    Raises UserError where the study would not load, in the words in which loading says so.
    """
    plugins.load_installed()
    begun = start(file, chosen, known.sizes)
    searcher = chosen.searcher or USUAL
    record = {
        "name": file.stem,
        **begun.keys,
        "searcher": {"name": searcher, **OPTIONS.get(searcher, {})},
        "objective": _objective(chosen.objective or begun.objective),
    }
    part = plugins.searchers.get(searcher) if searcher in plugins.searchers else None
    record |= _end(record, bool(getattr(part, "multi_fidelity", False)))
    model = known.models.get(record["task"].get("model", {}).get("name"), {})
    notes = _notes(record["task"], known, model)
    with plugins.scope(_checked(record, begun).scope):
        if not plugins.searchers.is_builtin(searcher):
            notes["searcher.name"] = first_line(part)
        text = commented(record, _head(file), model.get("options", {}), notes)
    return {file: text, **begun.files}


def _objective(preset: str) -> Record:
    """Where AGN is weighed, on the scale that any number of rungs allows."""
    return {"preset": preset, **({"alpha": 0.1, "scale": "log"} if "+" in preset else {})}


def _end(record: Record, rungs: bool) -> Record:
    """When the study ends, and what else the searcher needs beside its options."""
    epochs, space = record["task"]["epochs"], record["search_space"]
    name = record["searcher"]["name"]
    if rungs:
        budgets = {"min": epochs // 4, "max": epochs, "eta": 2}
        goes_on = {"rungs": "continue"} if "model" in record["task"] else {}
        return {"stop": {"epochs": TRIALS * epochs}, "budgets": budgets, **goes_on}
    if name == "grid":
        return {"stop": {"trials": OPTIONS["grid"]["points"] ** len(space)}}
    if name == "listed":
        another = {"lr": 3 * space["lr"]["default"]}
        return {"stop": {"trials": 6}, "enqueue": ["default", another]}
    return {"stop": {"trials": TRIALS}}


def _checked(record: Record, begun: Start) -> StudySpec:
    """The study, loaded from here while nothing is written yet."""
    with tempfile.TemporaryDirectory() as folder:
        copies = {path.name: Path(folder, path.name) for path in begun.files}
        for path, text in begun.files.items():
            copies[path.name].write_text(text)
        return StudySpec.from_record(record, [copies[name] for name in record.get("plugins", [])])


def _head(file: Path) -> list[str]:
    return [
        f"hpogen check {shlex.quote(str(file))}   finds mistakes and counts what the study costs",
        f"hpogen run {shlex.quote(str(file))}     trains; called again, it goes on",
        "A key behind a # has the value that stands there, unless its comment says otherwise.",
    ]


def _notes(task: Record, known: Known, model: Mapping[str, Any]) -> dict[str, str]:
    """What is known of images, by the path of the key that it is said of."""
    if "dataset" not in task:
        return {}
    notes = {f"search_space.{name}": text for name, text in known.parameters.items()}
    option = "an option of the model; the search space may have it instead"
    notes |= {f"task.model.{name}": option for name in model.get("options", {})}
    if model.get("definition"):
        notes["task.model.name"] = model["definition"]
    if (name := task["dataset"]["name"]) in known.sizes:
        images, (channels, height, width), classes = known.sizes[name]
        text = f"{images:,} images of {height}×{width}×{channels} to train on, {classes} classes"
        notes["task.dataset.name"] = text
    return notes


def write(files: Mapping[Path, str]) -> None:
    """Write new files. Raises UserError where one of them is there, and has written none then."""
    for path in files:
        if os.path.lexists(path):
            raise UserError(f"{path}: is there already: give another FILE, or move it away")
    for path, text in files.items():
        with explained(path, UserError), open(path, "x", encoding="utf-8") as file:
            file.write(text)
