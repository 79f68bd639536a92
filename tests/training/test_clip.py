"""Gradients that are clipped: beside torch's own clipping in a loop written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.features import resumed, same, steps_of, written_out
from training.runs import CONFIG, epochs, task, trial

from hpogen.training.forms.hyperparameters import check_value

CLIP = 0.8  # of norms from 0.64 to 0.97 in the first steps


def test_a_clipped_step_is_torchs(tmp_path: Path) -> None:
    config = {**CONFIG, "clip": CLIP}
    trained = steps_of(task(), trial(tmp_path, config))
    norms = []
    for run in written_out(task(), trial(tmp_path, config)):
        run.loss().backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(run.model.parameters(), CLIP)))
        run.optimizer.step()
    assert min(norms) < CLIP < max(norms)
    same(trained.model, run.model)


def test_without_a_limit_nothing_changes(tmp_path: Path) -> None:
    plain, wide = ({**CONFIG, **more} for more in ({}, {"clip": 1e9}))
    same(
        steps_of(task(), trial(tmp_path, plain)).model,
        steps_of(task(), trial(tmp_path, wide)).model,
    )


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = resumed(task(), tmp_path, {**CONFIG, "clip": CLIP, "optimizer": "adam"})
    assert whole == parts


def test_a_limit_is_not_below_zero() -> None:
    with pytest.raises(ValueError, match=r"clip may come to be -1\.0, expected greater than or"):
        check_value("clip", -1.0)


def test_a_study_may_search_it(tmp_path: Path) -> None:
    found = {
        clip: epochs(task(), trial(tmp_path / str(clip), {**CONFIG, "clip": clip}))[-1].metrics
        for clip in (0.0, 0.1)
    }
    assert found[0.0] != found[0.1]
    assert "clip" in task().parameters()
