"""What is printed while a study runs, without a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from toys import study_file

from hpogen.report.live import Lines
from hpogen.running import runner
from hpogen.study.open import open_study


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def lines_of(directory: Path, **keys: Any) -> list[str]:
    file = io.StringIO()
    with open_study(study_file(directory, **keys), directory / "q") as study:
        runner.run(study, observer=Lines(study, file))
    return file.getvalue().splitlines()


def test_a_failure_says_why(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, task={"name": "bowl", "epochs": 2, "mood": "nan"})
    assert lines[2].startswith("trial 2  diverged: val_loss is nan after epoch 1  x 0.")


def test_a_duplicate_names_its_twin(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, search_space={"x": {"choice": [0.1, 0.2]}, "y": 7})
    assert any("  duplicate of trial 0" in line for line in lines[1:])
    assert len(lines) == 12


@pytest.mark.parametrize("selection", ["score", "val_loss"])
def test_the_best_so_far_goes_on_after_a_stop(tmp_path: Path, selection: str) -> None:
    lines_of(tmp_path, stop={"trials": 6}, selection=selection)
    later = lines_of(tmp_path, stop={"trials": 30}, selection=selection)
    whole = lines_of(tmp_path / "whole", stop={"trials": 30}, selection=selection)
    assert len(later) == 24
    timeless = [[re.sub(r"  [0-9.]+ s\b", "", text) for text in texts] for texts in (later, whole)]
    assert timeless[0] == timeless[1][6:]


def test_ranks_of_different_cohorts_are_not_compared(tmp_path: Path) -> None:
    objective = {"terms": [{"metric": "val_loss", "scale": "rank"}]}
    searcher = {"name": "cmaes", "population": 4}
    lines = lines_of(tmp_path, objective=objective, searcher=searcher)
    assert len(lines) == 12
    assert not any("best so far" in line for line in lines)


def test_a_terminal_that_has_gone_does_not_stop_a_study(tmp_path: Path) -> None:
    with open_study(study_file(tmp_path), tmp_path / "q") as study:
        assert runner.run(study, observer=Lines(study, Gone())).end == "finished"
        assert len(study.history.told()) == 12
