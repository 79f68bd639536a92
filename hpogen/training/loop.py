"""The training loop: a trial from its first to its last epoch, interrupted or not.

`settings.ImageClassification.train` calls it; what an epoch does is in `step.py` and `evaluate.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import torch

from hpogen.task import Epoch
from hpogen.training.checkpoint import Checkpoints
from hpogen.training.evaluate import evaluate_epoch
from hpogen.training.memory import peak_memory
from hpogen.training.random_state import paced
from hpogen.training.recipe import begin, timed
from hpogen.training.settings import ImageClassification
from hpogen.training.step import train_epoch
from hpogen.trial import RunningTrial


def train(
    settings: ImageClassification, trial: RunningTrial, wanted: frozenset[str]
) -> Iterator[Epoch | None]:
    """An Epoch after each epoch, and None about every quarter of a second.

    Goes on from the furthest checkpoint in the trial's folder. Closing it, also inside an epoch,
    leaves a checkpoint from which another call gives the same numbers bit for bit. Raises Diverged.
    """
    torch.set_num_threads(settings.threads)
    _set_determinism(settings.deterministic)
    yield from paced(_epochs(settings, trial, wanted), torch.device(trial.device))


def _epochs(
    settings: ImageClassification, trial: RunningTrial, wanted: frozenset[str]
) -> Iterator[Epoch | None]:
    recipe, state = begin(settings, trial, wanted)
    continuable = settings.schedule.anchor == "full"
    checkpoints = Checkpoints(trial, recipe.plan.running, continuable=continuable)
    if (saved := checkpoints.load()) is not None:
        state.restore(saved)
    for epoch in range(min(trial.start_epoch, trial.budget - 1), state.epoch):  # not yet received
        yield state.report(epoch + 1, trial.budget, {})
    memory: dict[str, int] = {}  # after the first step
    try:
        while state.epoch < trial.budget:
            before = dict(state.seconds)
            with timed(state.seconds, "total"):
                with timed(state.seconds, "train"):
                    for _ in train_epoch(recipe, state):
                        memory = memory or peak_memory(recipe.device)
                        if checkpoints.due():
                            checkpoints.save(state.epoch, state.step, state.snapshot())
                        yield None
                state.finish_epoch((yield from evaluate_epoch(recipe, state)))
                if state.epoch == trial.budget:
                    checkpoints.save(state.epoch, state.step, state.snapshot())
            seconds = {what: state.seconds[what] - before[what] for what in before}
            yield replace(state.report(state.epoch, trial.budget, seconds), memory=memory)
    except GeneratorExit:
        checkpoints.save(state.epoch, state.step, state.snapshot())
        raise


def _set_determinism(deterministic: bool) -> None:
    """Only kernels that repeat bit for bit; needed on a GPU, where the others are faster."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it takes 3 s
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
