"""Adds measures to the finished trials of a study whose final weights were kept.

`hpogen measure` calls it; what a measure is computed from is the task's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hpogen import plugins
from hpogen.errors import UserError, unknown
from hpogen.plugins import Measured
from hpogen.record import folder
from hpogen.record.history import History, Record
from hpogen.spec import StudySpec
from hpogen.study.study import Study
from hpogen.tasks.base import Diverged


def add_measures(
    spec: StudySpec, directory: Path, names: Sequence[str], device: str
) -> Iterator[tuple[Record, Measured | str]]:
    """Measure trial after trial, write down what is found, and yield it, or why there is nothing.

    A trial that has a measure already is passed over. Raises UserError for measures that the task
    or the model cannot give, and where no trial's weights were kept.
    """
    if (parts := spec.task.parts).number > 1:
        raise UserError(
            f"{directory}: a trial of {parts.number} {parts.word}s keeps no weights to measure: "
            "list the measures under task.measures, and run the study in another folder"
        )
    if not spec.task.keeps_weights:
        raise UserError(f"{directory}: the task {spec.task.name!r} keeps no weights to measure")
    spec.task.prepare()
    with plugins.scope(spec.scope):
        gives = {name: {*plugins.measures.get(name).metrics} for name in names}
    with Study(spec, directory) as study:
        lacking = False
        for record in candidates(study.history):
            known = record.outcome.metrics.keys() if record.outcome else set()
            missing = [name for name in names if not gives[name] <= known]
            if not missing:
                continue
            try:
                trial = replace(study.given(record.trial.id), keep="final", device=device)
                found = spec.task.measure(trial, study.wanted, missing)
            except UserError as error:
                raise UserError(f"{directory}: {error}") from error
            except Diverged as error:
                yield record, str(error)
                continue
            if found is None:
                lacking = True
                yield record, "its final weights were not kept"
                continue
            folder.keep_files(directory, record.trial.id, found.files, study.history.id)
            study.add_metrics(record.trial.id, found.metrics)
            yield record, found
    if lacking:
        raise UserError(
            f"{directory}: final weights were not kept: train with checkpoints: {{keep: final}}"
        )


def measures_named(names: Sequence[str]) -> list[str]:
    """The measures of those names, or that give metrics of those names. Raises UserError."""
    measures = plugins.measures.parts()
    known = {metric: measure.name for measure in measures for metric in measure.metrics}
    known |= {measure.name: measure.name for measure in measures}
    for name in names:
        if name not in known:
            raise UserError(f"--add: {unknown('measure', name, known)}")
    return list(dict.fromkeys(known[name] for name in names))


def candidates(history: History) -> list[Record]:
    """The finished trials that have metrics and were trained themselves."""
    told = history.told()
    return [record for record in told if record.failure is None and record.twin is None]
