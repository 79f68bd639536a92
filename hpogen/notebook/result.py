"""What a study came to, for Python: its answer, its trials, pictures and pages of them.

Everything is read from the study's folder anew, whether it runs or not. In a notebook a result, an
answer and a comparison are tables.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.executors.choice import Where
from hpogen.notebook.pages import answer_page, comparison_page, result_page
from hpogen.record.looks import count_looks
from hpogen.study import status
from hpogen.study.read import Folder, read
from hpogen.study.retrained import SEEDS, results
from hpogen.trial import Config

if TYPE_CHECKING:
    import pandas as pd

    from hpogen.analysis.comparison import Comparison
    from hpogen.study.retrained import Retrained


class Plot(Figure):
    """A picture that notebooks show by themselves."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


@dataclass(frozen=True)
class Answer:
    """A trial: the configuration, and what it came to at its last epoch."""

    trial: int
    config: Config
    score: float | None  # None: by the selection or objective it cannot be compared
    metrics: Mapping[str, float]
    audit: Mapping[str, float]

    def _repr_html_(self) -> str:
        return answer_page(f"trial {self.trial}", self.config, self.metrics, self.audit)


@dataclass(frozen=True)
class Result:
    """A study by its folder. `end` is how the run ended that gave it; empty: nobody ran it here."""

    directory: Path
    end: str = ""
    scope: plugins.Scope = ()

    @property
    def study(self) -> Folder:
        """The study as its folder has it now. Raises UserError."""
        return read(self.directory)

    @property
    def best(self) -> Answer:
        """The answer, by the study's selection. Raises UserError while there is none."""
        study = self.study
        return _answer(study, status.best(study)["trial"])

    def trial(self, number: int) -> Answer:
        """One that has ended. Raises UserError where there is no such trial."""
        return _answer(self.study, number)

    def frame(self) -> pd.DataFrame:
        """A row per trial: what `hpogen export --csv` writes."""
        from hpogen.export.rows import table

        return table([self.study])

    def plot(self) -> Plot:
        """The score of each trial, and the best so far."""
        from hpogen.notebook.plots import scores

        return scores(self.study, Plot(figsize=(6, 3.5), layout="constrained"))

    def report(self, path: str | os.PathLike[str] = "report.html") -> Path:
        """Write the page of `hpogen report`; its path."""
        from hpogen.report.html.page import write_report

        count_looks([self.directory], "report")
        return write_report([self.directory], Path(path))

    def retrain(
        self, seeds: int = SEEDS, workers: int = 1, device: str = "auto"
    ) -> list[Retrained]:
        """Train the answer and the baselines on all data, as `hpogen retrain` does.

        Raises UserError for a function that does not declare `split`.
        """
        from hpogen.cli.drive import retrain

        with plugins.scope(self.scope):
            retrain(self.directory, Where(device, workers), seeds, quiet=True)
        return results(self.directory)

    def _repr_html_(self) -> str:
        return result_page(self.study)


@dataclass(frozen=True)
class Compared:
    """Studies side by side. `found` has every figure, `str` is the page of `hpogen compare`."""

    found: Comparison

    @cached_property
    def verdict(self) -> str:
        """Which arm is better, by how much, and whether that is more than luck."""
        from hpogen.report.compare_verdict import verdict

        return verdict(self.found)

    def __str__(self) -> str:
        from hpogen.report.compare import compare_page
        from hpogen.report.terminal import program, width

        return "\n".join(compare_page(self.found, width(), program()))

    def _repr_html_(self) -> str:
        return comparison_page(self.verdict, self.found)


def compare(*studies: Result | str | os.PathLike[str], primary: str | None = None) -> Compared:
    """Results, or folders of studies and matrices, side by side. Raises UserError.

    `primary` is the contrast that was declared, `"A - B"`. Each look at audit figures is counted in
    the studies' folders.
    """
    from hpogen.analysis.comparison import compare as compared

    folders = [s.directory if isinstance(s, Result) else Path(s) for s in studies]
    found = compared(folders, primary)
    count_looks(found.audited, "compare")
    return Compared(found)


def _answer(study: Folder, number: int) -> Answer:
    record = status.record_of(study, number)
    outcome = record.outcome
    if outcome is None:
        raise UserError(f"{study.directory}: trial {number} has not ended")
    finite = abs(record.score) < float("inf")
    score = record.score if finite else None
    return Answer(number, dict(record.trial.config), score, outcome.metrics, outcome.audit)
