"""SIGKILL at random moments of a search of Lightning trainings: it resumes to the same trials."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from integrations.loops import EXAMPLES
from test_kill import Drivers, Story, check_killed

QUIET = """
import warnings
warnings.simplefilter("ignore")
import lightning
"""
STUDY = """
plugins: [net.py]
task: {name: net, epochs: 4}
search_space:
  lr: {float: [0.001, 0.1], log: true, default: 0.01}
searcher: {name: optuna, sampler: TPESampler}
objective: {preset: agn+val, alpha: 0.05, scale: log}
stop: {trials: 6}
"""


def searched(folder: Path) -> Story:
    """The example with dropout, so that every random number counts."""
    folder.mkdir()
    source = (EXAMPLES / "my_lightning.py").read_text()
    (folder / "net.py").write_text(source.replace("nn.ReLU()", "nn.ReLU(), nn.Dropout()"))
    (folder / "study.yaml").write_text(STUDY)
    return Story([["run", str(folder / "study.yaml"), "--dir", "DIR"]])


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, 30])
def test_killed_and_resumed(kills: int, tmp_path: Path) -> None:
    with closing(Drivers(QUIET)) as drivers:
        drivers.call(["--version"])  # once it has imported everything
        check_killed(searched(tmp_path / "given"), kills, tmp_path, drivers)
