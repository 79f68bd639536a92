"""Which executor the options of the command line ask for, and which GPUs it leaves idle.

Nothing of Ray is imported where one trial at a time runs in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpogen.errors import UserError, quoted
from hpogen.executors.base import Executor
from hpogen.executors.inline import NVIDIA, InlineExecutor
from hpogen.tasks.base import Task, trials_together


@dataclass(frozen=True)
class Where:
    """The options that say where to train; None and "" are those not given."""

    device: str = "auto"
    workers: int | None = None
    ray: str = ""
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None


def executor_for(tasks: Sequence[Task], where: Where) -> Executor:
    """Inline, or on Ray where more than one worker or Ray is asked for. Raises UserError.

    It will be given trials of all the `tasks`.
    """
    _check(where)
    needed, together = _gpus_needed(tasks, where), trials_together(tasks)
    if not where.ray and (where.workers or 1) == 1:
        for option in ("cpus_per_trial", "gpus_per_trial"):
            if getattr(where, option) is not None:
                name = option.replace("_", "-")
                raise UserError(f"--{name}: needs --workers N, N > 1, or --ray")
        _check_here(needed)
        return InlineExecutor(where.device, together=together)
    if together > 1:
        option = "--ray" if where.ray else f"--workers {where.workers}"
        raise UserError(
            f"task.together: {together} trains so many trials in one process, and {option} each in "
            "one of its own: drop one of the two"
        )
    gpus = where.gpus_per_trial if needed == 1 else float(needed)
    gpus = 0.0 if where.device == "cpu" else gpus
    if where.device not in ("auto", "cpu"):
        raise UserError(f"--device: got {quoted(where.device)}, but Ray gives each worker its GPU")
    from hpogen.executors.ray import RayExecutor
    from hpogen.executors.ray_room import refuse_many_gpus

    for task in tasks:
        refuse_many_gpus(task, gpus or 0)
    return RayExecutor(
        where.workers,
        address=where.ray or "local",
        cpus_per_trial=where.cpus_per_trial
        or max(task.threads * task.gpus_per_trial for task in tasks),
        gpus_per_trial=gpus,
    )


def _check(where: Where) -> None:
    for name, value in (("workers", where.workers), ("cpus-per-trial", where.cpus_per_trial)):
        if value is not None and value < 1:
            raise UserError(f"--{name}: got {value}, expected 1 or more")
    gpus = where.gpus_per_trial
    if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
        raise UserError(f"--gpus-per-trial: got {gpus:g}, expected 0 to 1, or a whole number")


def _gpus_needed(tasks: Sequence[Task], where: Where) -> int:
    """What `task.gpus_per_trial` asks for; 1 on the CPU. Raises UserError for an option beside it,
    and for tasks that ask for different numbers.
    """
    asked = sorted({task.gpus_per_trial for task in tasks})
    if where.device == "cpu" or asked == [1]:
        return 1
    if asked[1:]:
        raise UserError(
            f"task.gpus_per_trial: the studies ask for {asked[0]} and {asked[-1]}, but all trials "
            f"of a run have as many GPUs: run the studies one by one"
        )
    if where.gpus_per_trial not in (None, asked[0]):
        raise UserError(
            f"--gpus-per-trial: got {where.gpus_per_trial:g}, but task.gpus_per_trial is "
            f"{asked[0]}: leave the option out"
        )
    return asked[0]


def _check_here(needed: int) -> None:
    """Raise UserError where this process has fewer GPUs."""
    if needed == 1:
        return
    found = 0
    if NVIDIA.exists():
        import torch

        found = torch.cuda.device_count()
    if found < needed:
        raise UserError(
            f"task.gpus_per_trial: got {needed}, but this machine has {found} "
            f"GPU{'s' * (found != 1)}; --device cpu trains on the CPU"
        )


def idle_gpus(executor: Executor) -> str:
    """`7 GPUs idle: --workers 8`, or nothing."""
    if isinstance(executor, InlineExecutor):
        if not executor.device.startswith("cuda"):
            return ""
        import torch

        return _idle(torch.cuda.device_count(), 1.0, 1)
    from hpogen.executors import ray_cluster
    from hpogen.executors.ray import RayExecutor

    if not isinstance(executor, RayExecutor) or executor.workers is None:
        return ""
    return _idle(ray_cluster.gpus(), executor.gpus_per_trial, executor.workers)


def _idle(gpus: int, per_trial: float, workers: int) -> str:
    idle = int(gpus - per_trial * workers) if per_trial else 0
    if idle <= 0:
        return ""
    return f"{idle} GPU{'s' * (idle > 1)} idle: --workers {int(gpus / per_trial)}"
