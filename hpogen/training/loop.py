"""The training loop: a trial from its first to its last epoch, interrupted or not.

`ImageClassification.train` calls it; what an epoch does is in `step.py` and `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from hpogen.tasks.base import Epoch, is_out_of_memory
from hpogen.training.checkpoint import Checkpoints
from hpogen.training.evaluate import evaluate_epoch
from hpogen.training.forms.task import Settings
from hpogen.training.graphs import Tape
from hpogen.training.memory import NoSpace, batch_that_fits, free_memory, peak_memory
from hpogen.training.precision import set_arithmetic
from hpogen.training.random_state import paced
from hpogen.training.recipe import Recipe, begin
from hpogen.training.state import State
from hpogen.training.step import Steps
from hpogen.training.together import Joined, Turn, joined
from hpogen.training.weights import weights_to_keep
from hpogen.trial import RunningTrial


def train(
    settings: Settings, trial: RunningTrial, wanted: frozenset[str]
) -> Iterator[Epoch | None]:
    """An Epoch after each epoch, and None about every quarter of a second.

    Goes on from the furthest checkpoint in the trial's folder. Closing it, also inside an epoch,
    leaves a checkpoint from which another call gives the same numbers bit for bit. Raises Diverged.
    """
    device = torch.device(trial.device)
    torch.set_num_threads(settings.threads)
    set_arithmetic(settings, device)
    steps: Iterator[Epoch | Turn | None] = paced(_epochs(settings, trial, wanted), device)
    for step in steps:
        yield None if isinstance(step, Turn) else step


def _epochs(
    settings: Settings, trial: RunningTrial, wanted: frozenset[str]
) -> Iterator[Epoch | Turn | None]:
    recipe, state = begin(settings, trial, wanted)
    continuable = settings.schedule.anchor == "full"
    checkpoints = Checkpoints(trial, recipe.plan.running, continuable=continuable)
    if (saved := checkpoints.load()) is not None:
        state.restore(saved)
    elif trial.warm:
        state.inherit(checkpoints.parents()["model"])
    over = recipe.over(state.losses)
    done = state.epoch if over else trial.budget
    for epoch in range(min(trial.start_epoch, done - 1), state.epoch):  # not yet received
        yield _told(recipe, state, epoch + 1, {})
    free = free_memory(recipe.device)
    try:
        with _steps(recipe, state) as steps:
            while not over:
                before = dict(state.seconds)
                with state.clock("total", wall=True):
                    with state.clock("train"):
                        for turn in steps.epoch():
                            if checkpoints.due():
                                state.clock.settle()
                                checkpoints.save(state.epoch, state.step, state.snapshot())
                            yield turn
                    state.finish_epoch((yield from evaluate_epoch(recipe, state)))
                    if over := recipe.over(state.losses):
                        checkpoints.save(state.epoch, state.step, state.snapshot())
                seconds = {what: state.seconds[what] - before[what] for what in before}
                told = _told(recipe, state, state.epoch, seconds)
                yield replace(told, memory=peak_memory(recipe.device))
    except GeneratorExit:
        state.clock.settle()
        checkpoints.save(state.epoch, state.step, state.snapshot())
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _no_space(recipe, state, free) from error


def _steps(recipe: Recipe, state: State) -> AbstractContextManager[Steps | Joined]:
    """The trial's steps: its own, or those that it takes with others."""
    on_cpu = recipe.device.type == "cpu"
    if recipe.settings.together > 1 and on_cpu:
        return joined(recipe, state)
    return nullcontext(Steps(recipe, state, None if on_cpu else Tape(recipe.device)))


def _told(recipe: Recipe, state: State, epoch: int, seconds: dict[str, float]) -> Epoch:
    """What the study is told of an epoch done; with the last one come the weights to keep."""
    last = epoch == state.epoch and recipe.over(state.losses)
    told = state.report(epoch, seconds, last)
    if not last:
        return told
    return replace(
        told,
        final=epoch < recipe.trial.budget,
        files={**told.files, **weights_to_keep(recipe, state)},
    )


def _no_space(recipe: Recipe, state: State, free: int) -> NoSpace:
    size = recipe.batch_size
    fits = batch_that_fits(state.model, recipe.data.in_shape, free, size, recipe.data.dtype)
    return NoSpace(
        f"out of memory on {recipe.device}, which had {free / 2**20:,.0f} MiB free, at batch_size "
        f"{size}: about {fits} would fit"
    )
