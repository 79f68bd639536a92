"""What docs/use-the-answer.md shows, runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from kept import TASK, finished
from test_before import call, called
from training.pictures_on_disk import picture

PAGE = (Path(__file__).parents[1] / "docs" / "use-the-answer.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path).rename(tmp_path / "quickstart")
    (tmp_path / "runs").mkdir()
    (tmp_path / "quickstart").rename(tmp_path / "runs" / "quickstart")
    (tmp_path / "photos").mkdir()
    for path in ("photos/two.png", "one.png"):
        picture(1, "L", (8, 8)).save(path)
    np.savez("more.npz", np.zeros((2, 8, 8), np.uint8))
    predict, best, again, _ = blocks("sh")
    load, read, _ = blocks("python")
    found: dict[str, object] = {}
    exec(load, found)
    assert np.shape(found["probabilities"]) == (5, 10)  # type: ignore[arg-type]
    for line in [
        predict,
        *best.splitlines()[:1],
        *again.replace("--trial 7", "--trial 3").splitlines(),
    ]:
        called(*line.partition("#")[0].split()[1:])
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 5
    exec(read, found)
    assert found["header"]["model"] == "mlp"  # type: ignore[index]


def test_the_ensembles_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    done = finished(tmp_path, task={**TASK, "keep": "probabilities"})
    done.rename(tmp_path / "runs" / "together")
    picture(1, "L", (8, 8)).save("photo.png")
    (tmp_path / "photos").mkdir()
    Path("photo.png").rename("photos/photo.png")
    code, shell = blocks("python")[-1], blocks("sh")[-1]
    _, ensemble, again, predict, whole = (line.partition("#")[0] for line in shell.splitlines())
    called(*ensemble.split()[1:])
    again_code, _, err = call(*again.split()[1:])
    assert again_code == 0 or "the weights of all members are kept" in err
    called(*predict.split()[1:])
    called(*whole.split()[1:], "--seeds", "1")
    found: dict[str, object] = {}
    exec(code, found)
    assert np.shape(found["probabilities"]) == (5, 10)  # type: ignore[arg-type]
