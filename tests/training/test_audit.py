"""The audit after each epoch: where it goes, and that it changes nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from training.runs import epochs, task, trial

from hpogen.training.checkpoint import Checkpoints
from hpogen.training.data import load
from hpogen.training.recipe import begin
from hpogen.training.task import ImageClassification

EACH = {"audit": "test-each-epoch"}


def test_it_is_evaluated_after_each_epoch_and_changes_nothing_else(tmp_path: Path) -> None:
    each = epochs(task(EACH), trial(tmp_path / "a"), "val_loss", "agn")
    last = epochs(task({"audit": "test"}), trial(tmp_path / "b"), "val_loss", "agn")
    assert [epoch.metrics for epoch in each] == [epoch.metrics for epoch in last]
    assert [bool(epoch.audit) for epoch in last] == [False, False, True]
    assert each[-1].audit == last[-1].audit
    assert len({epoch.audit["loss"] for epoch in each}) == 3


def test_it_is_the_loss_on_the_standard_test_set(tmp_path: Path) -> None:
    """Of the kept weights, computed without any of the evaluation's code."""
    settings = task(EACH)
    running = trial(tmp_path, budget=1, keep="final")
    audit = epochs(settings, running)[-1].audit
    recipe, state = begin(settings, running, frozenset())
    saved = Checkpoints(running, recipe.plan.running, continuable=False).load()
    assert saved is not None
    state.restore(saved)
    data = load(settings.dataset)
    images = torch.from_numpy(data.train.inputs).double()
    x = (torch.from_numpy(data.test.inputs).double() - images.mean()) / images.std(correction=0)
    labels = torch.from_numpy(data.test.targets)
    logits = state.model.double().eval()(x)
    assert audit["loss"] == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert audit["accuracy"] == (logits.argmax(1) == labels).double().mean().item()


def test_an_interrupted_trial_has_it_for_every_epoch(tmp_path: Path) -> None:
    whole = epochs(task(EACH), trial(tmp_path / "a"))
    settings, running = task(EACH), trial(tmp_path / "b")
    steps = settings.train(running, frozenset({"val_loss"}))
    received = [next(step for step in steps if step is not None) for _ in range(2)]
    assert [epoch.audit for epoch in received] == [epoch.audit for epoch in whole[:2]]
    steps.close()  # type: ignore[attr-defined]
    for start in (0, 1, 2):  # how many of them the study has received
        again = epochs(settings, dataclasses.replace(running, start_epoch=start, attempt=1))
        assert [epoch.audit for epoch in again] == [epoch.audit for epoch in whole[start:]]


def test_what_audit_may_be() -> None:
    for audit in ("test", "test-each-epoch", 0, 100, None):
        dataset = task({"audit": audit, "subset": 0.5, "validation": 100}).dataset
        assert dataset.counts(1297)[2] == {None: 549, 0: 0, 100: 100}.get(audit, 0)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="test-each-epoch"):
        ImageClassification.model_validate({"dataset": {"name": "digits", "audit": "tests"}})
