"""A trial that asks for several GPUs: what its program is told, and who must have them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toys import by_trial, study_file

from hpogen import Study, load_study
from hpogen.errors import UserError
from hpogen.executors import ray_worker
from hpogen.executors.base import Job
from hpogen.executors.choice import Where, executor_for
from hpogen.executors.inline import NVIDIA, InlineExecutor
from hpogen.executors.worker import run_job
from hpogen.record import ledger
from hpogen.tasks.command import Command
from hpogen.trial import Outcome

COMMAND = 'sh -c \'echo "{{\\"val_loss\\": {gpus}, \\"processes\\": {nproc}}}"\' {x}'


def command_study(directory: Path, **keys: Any) -> Path:
    """One trial of one epoch that prints how many GPUs and processes it was told."""
    task = {
        "name": "command",
        "command": COMMAND,
        "metrics": ["val_loss", "processes"],
        "epochs": 1,
        **keys,
    }
    space = {"x": {"float": [0, 1]}}
    return study_file(directory, task=task, stop={"trials": 1}, plugins=[], search_space=space)


def told(path: Path, device: str, gpus: int | None = None) -> dict[str, float]:
    with Study(load_study(path), path.parent / "q") as study:
        trial = study.next()
        assert trial is not None
        log = path.parent / "log"
        job = Job(study.given(trial.id), study.spec.task, frozenset({"val_loss"}), log)
        (outcome,) = (x for x in run_job(job, device, gpus) if isinstance(x, Outcome))
    assert outcome.failure is None
    return dict(outcome.metrics)


@pytest.mark.parametrize(
    ("keys", "device", "gpus", "expected"),
    [
        ({}, "cpu", None, (0, 1)),
        ({"gpus_per_trial": 2}, "cpu", 0, (0, 2)),
        ({"gpus_per_trial": 2}, "cuda:0", None, (2, 2)),
        ({"gpus_per_trial": 2}, "cuda:0", 2, (2, 2)),
        ({}, "cuda:0", 1, (1, 1)),
        ({}, "cuda:0", 4, (4, 4)),
    ],
)
def test_what_a_command_is_told(
    keys: dict[str, int], device: str, gpus: int | None, expected: tuple[int, int], tmp_path: Path
) -> None:
    metrics = told(command_study(tmp_path, **keys), device, gpus)
    assert (metrics["val_loss"], metrics["processes"]) == expected


def test_a_hyper_parameter_may_have_their_names(tmp_path: Path) -> None:
    """As in studies that are older than the placeholders."""
    path = study_file(
        tmp_path,
        task={"name": "command", "command": COMMAND, "metrics": ["val_loss"], "epochs": 1},
        search_space={"x": {"float": [0, 1]}, "gpus": 7, "nproc": {"int": [3, 4]}},
        plugins=[],
    )
    assert {"gpus", "nproc"} <= set(load_study(path).space.names)


def test_it_is_recorded_only_where_it_is_given(tmp_path: Path) -> None:
    spec = load_study(command_study(tmp_path, gpus_per_trial=2))
    assert spec.record()["task"]["gpus_per_trial"] == 2
    assert spec.from_record(spec.record()).task.gpus_per_trial == 2
    assert "gpus_per_trial" not in load_study(command_study(tmp_path)).record()["task"]
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 2, "gpus_per_trial": 3})
    spec = load_study(path)
    assert spec.record()["task"]["gpus_per_trial"] == spec.task.gpus_per_trial == 3
    assert "gpus_per_trial" not in load_study(study_file(tmp_path)).record()["task"]


def test_the_built_in_tasks_refuse_it(tmp_path: Path) -> None:
    task = {"dataset": "digits", "model": "mlp", "epochs": 2, "gpus_per_trial": 2}
    with pytest.raises(UserError) as refused:
        load_study(study_file(tmp_path, task=task, plugins=[], search_space={"lr": 0.1}))
    assert (
        "study.yaml:1:79: task.gpus_per_trial: got 2, but a trial of task 'image-classification' "
        "trains on one GPU at most; several GPUs train several trials: --workers"
    ) in str(refused.value)


def asking(*gpus: int) -> list[Any]:
    return [
        Command(command="x", metrics=["val_loss"], epochs=1, gpus_per_trial=each) for each in gpus
    ]


@pytest.mark.parametrize(
    ("gpus", "where", "said"),
    [
        ([1, 2], Where(workers=2), "task.gpus_per_trial: the studies ask for 1 and 2"),
        (
            [2],
            Where(workers=2, gpus_per_trial=1.0),
            "--gpus-per-trial: got 1, but task.gpus_per_trial is 2: leave the option out",
        ),
        pytest.param(
            [2],
            Where(),
            "task.gpus_per_trial: got 2, but this machine has 0 GPUs; --device cpu trains on",
            marks=pytest.mark.skipif(NVIDIA.exists(), reason="this machine may have two"),
        ),
    ],
)
def test_who_cannot_have_them(gpus: list[int], where: Where, said: str) -> None:
    with pytest.raises(UserError) as refused:
        executor_for(asking(*gpus), where)
    assert str(refused.value).startswith(said)


def test_on_the_cpu_nobody_needs_them() -> None:
    assert isinstance(executor_for(asking(1, 2), Where(device="cpu")), InlineExecutor)


@pytest.mark.slow
@pytest.mark.ray
def test_workers_reserve_them_all_on_one_node() -> None:
    """Ray is told of four GPUs that are not there: it only counts them."""
    import ray

    ray.init(num_cpus=4, num_gpus=4, include_dashboard=False, log_to_driver=False)
    try:
        executor: Any = executor_for(asking(2), Where(workers=2))
        assert (executor.gpus_per_trial, executor.device_type) == (2.0, "cuda")
        executor.stop()
        with pytest.raises(UserError, match="got 8, but no node of the cluster has more than 4"):
            executor_for(asking(8), Where(workers=2))
        count: Any = ray.remote(num_gpus=2)(ray_worker.gpus)
        visible: Any = ray.remote(num_gpus=2)(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
        assert ray.get(count.remote()) == 2
        assert len(ray.get(visible.remote()).split(",")) == 2
        half: Any = ray.remote(num_gpus=0.5)(ray_worker.gpus)
        assert ray.get(half.remote()) == 1
    finally:
        ray.shutdown()


DISTRIBUTED = """
import json, sys
import torch.distributed as dist
dist.init_process_group("gloo")
import torch
total = torch.tensor([float(sys.argv[1])])
for epoch in range(2):
    dist.all_reduce(total)
    if dist.get_rank() == 0:
        metrics = {"val_loss": total.item(), "processes": dist.get_world_size()}
        print(json.dumps(metrics), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_trains_on_as_many_processes(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(DISTRIBUTED)
    run = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node {{nproc}}"
    command = f"{run} {tmp_path}/train.py {{x}}"
    path = command_study(tmp_path, command=command, gpus_per_trial=2, epochs=2)
    words = [sys.executable, "-m", "hpogen", "run", str(path), "--device", "cpu", "--dir", "q"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    events = ledger.read(tmp_path / "q")
    x = by_trial(events, "asked")[0]["config"]["x"]
    metrics = by_trial(events, "told")[0]["metrics"]
    assert metrics["processes"] == 2
    assert metrics["val_loss"] == pytest.approx(4 * x, rel=1e-6)
