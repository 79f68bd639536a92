"""A study in Weights & Biases: a run per trial, in a group of the study's name.

`tracking.py` writes them while the study runs. Where W&B keeps them is its own affair: on its
server, or, with `WANDB_MODE=offline`, in `wandb/` of the study's folder, for `wandb sync`.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from typing import Any

from hpogen.export.rows import row, told_answer
from hpogen.export.trackers import Rows
from hpogen.record.history import Record
from hpogen.spec.tracking import Track
from hpogen.study.read import Folder

FOLDER, ENDED = "wandb", "ended"  # the trials whose runs are whole, a line each
ANSWER = "answer"  # the run that the verdict is
INIT_SECONDS = 30.0  # that W&B's server may take to answer


class Runs:
    """The runs of a study. The step is the epoch.

    W&B's server takes no step twice. A run that was not ended offline cannot be gone on with: its
    folder is deleted, and it is written from its first epoch. Raises what wandb raises, OSError.
    """

    def __init__(self, project: str, study: Folder) -> None:
        self._project, self._study = project, study
        self._home = study.directory / FOLDER
        self._home.mkdir(exist_ok=True)
        self._ended = self._home / ENDED
        lines = self._ended.read_text().splitlines() if self._ended.exists() else []
        self.ended = {int(line) for line in lines if line.isdecimal()}
        self._runs: dict[int, Any] = {}
        self._last: dict[int, int] = {}  # epoch

    def show(self, record: Record, rows: Rows) -> None:
        trial = record.trial.id
        run = self._begun(record)
        for found in rows:
            if found["epoch"] > self._last[trial]:
                run.log({**found["metrics"]}, step=found["epoch"], commit=True)
                self._last[trial] = found["epoch"]

    def end(self, record: Record) -> None:
        """Score, audit, seconds and what failed are its summary."""
        trial, cells = record.trial.id, row(self._study, record)
        run = self._begun(record)
        run.summary.update({n: x for n, x in cells.items() if x is not None and _is_told(n)})
        run.finish(exit_code=int(record.failure is not None and not record.pruned))
        del self._runs[trial]
        with open(self._ended, "a") as file:
            file.write(f"{trial}\n")

    def answer(self, record: Record) -> None:
        run = self._init(ANSWER, {}, job_type="study")
        score = record.score if math.isfinite(record.score) else None
        said = told_answer(self._study, record)
        run.summary.update({ANSWER: record.trial.id, "score": score, "verdict": said})
        run.finish()

    def close(self) -> None:
        """What has not ended is handed over as it is."""
        while self._runs:
            self._runs.popitem()[1].finish()

    def _begun(self, record: Record) -> Any:
        trial = record.trial
        if trial.id not in self._runs:
            config = {**trial.config, "budget": trial.budget, "seed": trial.seed}
            run = self._init(str(trial.id), config, name=f"trial {trial.id}", job_type="trial")
            self._runs[trial.id], self._last[trial.id] = run, run.starting_step - 1
        return self._runs[trial.id]

    def _init(self, label: str, config: Mapping[str, Any], **more: Any) -> Any:
        import wandb

        number = f"{self._study.history.id or self._study.name}-{label}"
        for left in self._home.glob(f"offline-run-*-{number}"):
            shutil.rmtree(left)
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            init_timeout=INIT_SECONDS,
            x_disable_stats=True,
        )
        return wandb.init(
            project=self._project,
            group=self._study.name,
            id=number,
            dir=self._study.directory,
            config={**config},
            resume="allow",
            reinit="create_new",
            settings=quiet,
            **{"name": f"{self._study.name}: {label}", **more},
        )


def _is_told(name: str) -> bool:
    """Of the cells of a trial what is neither configuration nor curve."""
    return name in ("score", "state", "epochs") or name.startswith(
        ("audit.", "seconds.", "failure.")
    )


def opened(track: Track, study: Folder) -> Runs:
    """The study in the project that `track` names."""
    logging.getLogger("wandb").setLevel(logging.ERROR)
    return Runs(track.wandb or "", study)
