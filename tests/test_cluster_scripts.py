"""The cluster scripts: the SLURM job with stubs for SLURM and a real study, the cluster's YAML."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from toys import essence, study_file

from hpogen.record import ledger

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "scripts" / "cluster"
SLURM = CLUSTER / "slurm.sh"
STUB = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$LOG"
"""
DRIVER = (
    STUB
    + """
trap 'exit 130' TERM
for ((i = 0; i < ${STEPS:-0}; i++)); do sleep 0.05; done
exit "${CODE:-0}"
"""
)
HEAD = (
    STUB
    + f"""
[[ $2 != --head ]] || exec {sys.executable} -c '
import socket, time
server = socket.create_server(("127.0.0.1", int("'"${{4#--port=}}"'")))
time.sleep(60)'
"""
)


class Job:
    """`slurm.sh` in a folder of its own, with stubs that write down how they were called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "calls"
        (directory / "bin").mkdir()
        for name, text in {"hpogen": DRIVER, "ray": HEAD, "srun": STUB, "scontrol": STUB}.items():
            self.program(name, text)
        self.environment = {
            "PATH": f"{directory / 'bin'}:/usr/bin:/bin",
            "LOG": str(self.log),
            "SLURM_SUBMIT_DIR": str(directory),
            "SLURM_JOB_ID": "4711",
            "HPOGEN": "hpogen",
            "RAY": "ray",
        }

    def program(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", SLURM, *arguments],
            env=self.environment | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, call: str) -> None:
        deadline = time.monotonic() + 20
        while not any(line.startswith(call) for line in self.calls()):
            assert time.monotonic() < deadline, self.calls()
            time.sleep(0.02)
        time.sleep(0.2)  # for the traps, which are set after the start


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_study_that_ends_ends_the_job_with_its_exit_code(job: Job, code: int) -> None:
    with job.start("a study.yaml", "--workers", "8", CODE=str(code)) as process:
        assert process.wait(20) == code
    assert job.calls() == ["hpogen run a study.yaml --workers 8"]


ENDINGS = [
    (signal.SIGUSR1, {"STEPS": "2000"}, 0, True),  # warned: it goes on later
    (signal.SIGTERM, {"STEPS": "2000"}, 130, False),  # cancelled, or requeued by SLURM itself
    (signal.SIGUSR1, {"STEPS": "2000", "IGNORES": "1", "CODE": "0"}, 0, False),
    (signal.SIGUSR1, {"STEPS": "2000", "IGNORES": "1", "CODE": "1"}, 1, False),
]


@pytest.mark.parametrize(("number", "variables", "code", "again"), ENDINGS)
def test_only_a_warned_job_with_an_unfinished_study_is_requeued(
    job: Job, number: signal.Signals, variables: dict[str, str], code: int, again: bool
) -> None:
    if "IGNORES" in variables:  # it ends by itself just when it is asked to stop
        job.program("hpogen", DRIVER.replace("exit 130", 'exit "$CODE"'))
    with job.start("a.yaml", **variables) as process:
        job.wait_for("hpogen run")
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stderr is not None
        assert ("requeued" in process.stderr.read()) == again
    assert ("scontrol requeue 4711" in job.calls()) == again


def free_job_number() -> int:
    """A job whose port, 20000 + number % 20000, nobody listens on."""
    for number in range(1000, 19000, 77):
        if not listens(20000 + number):
            return number
    raise AssertionError("every port is taken")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_several_nodes_are_one_ray_cluster_behind_a_token(job: Job) -> None:
    number = free_job_number()
    address = f"127.0.0.1:{20000 + number}"
    variables = {
        "SLURM_JOB_NUM_NODES": "4",
        "SLURM_JOB_ID": str(number),
        "SLURMD_NODENAME": "127.0.0.1",
        "SLURM_CPUS_PER_TASK": "16",
    }
    job.program("hpogen", STUB + 'echo "token: $RAY_AUTH_MODE" >> "$LOG"; sleep 0.5\n')
    with job.start("a.yaml", "--workers", "32", **variables) as process:
        assert process.wait(30) == 0
    calls = job.calls()
    port = f"--port={20000 + number}"
    assert calls[0] == "ray get-auth-token --generate"
    assert calls[1] == f"ray start --head --block {port} --dashboard-host=127.0.0.1 --num-cpus=16"
    assert f"hpogen run a.yaml --workers 32 --ray {address}" in calls
    assert "token: token" in calls
    srun = next(call for call in calls if call.startswith("srun"))
    assert srun.startswith("srun --nodes=3 --ntasks=3 --cpus-per-task=16 --exclude=127.0.0.1 ray")
    assert srun.endswith(f"start --block --address={address} --num-cpus=16")
    assert not listens(20000 + number)  # the head is gone with the job


def test_ray_that_does_not_start_ends_the_job(job: Job) -> None:
    job.program("ray", STUB + "[[ $1 != start ]] || exit 1\n")
    number = str(free_job_number())
    variables = {"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": number, "SLURMD_NODENAME": "127.0.0.1"}
    with job.start("a.yaml", **variables) as process:
        assert process.wait(20) == 2
        assert process.stderr is not None
        assert "Ray did not start: see ray-" in process.stderr.read()
    assert not any(call.startswith("hpogen") for call in job.calls())


def test_a_requeued_study_is_the_undisturbed_one(job: Job) -> None:
    keys = {"stop": {"trials": 40}, "searcher": {"name": "pso", "population": 5}}
    task = {"name": "bowl", "epochs": 2, "pause": 0.05}
    path = study_file(job.directory, task=task, **keys)
    hpogen = f'exec {shlex.quote(sys.executable)} -m hpogen "$@"\n'
    job.program("hpogen", STUB + hpogen)
    python = {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = ("study.yaml", "--dir", "runs/a")
    with job.start(*arguments, **python) as process:
        record = job.directory / "runs" / "a" / "ledger.jsonl"
        deadline = time.monotonic() + 60
        while not record.exists() or record.read_bytes().count(b'"told"') < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 0
    assert job.calls()[-1] == "scontrol requeue 4711"
    assert 5 <= record.read_bytes().count(b'"told"') < 40
    with job.start(*arguments, **python) as process:
        assert process.wait(60) == 0
    whole = job.directory / "whole"
    subprocess.run(
        [sys.executable, "-m", "hpogen", "run", path, "--dir", whole, "--set", "task.pause=0"],
        env=os.environ | python,
        check=True,
        capture_output=True,
    )
    events, undisturbed = (essence(ledger.read(d))[1:] for d in (record.parent, whole))
    assert events == undisturbed and len(events) == 80


def directives() -> dict[str, str]:
    """The options that SLURM reads from the script: those before its first command."""
    found: dict[str, str] = {}
    for line in SLURM.read_text().splitlines():
        if match := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line):
            found[match[1]] = match[2] or ""
        elif not line.startswith("#"):
            return found
    raise AssertionError("the script has no command")


def test_slurm_is_asked_to_warn_early_and_to_requeue() -> None:
    found = directives()
    assert re.fullmatch(r"B:USR1@[1-9]\d\d", found["signal"])
    assert {"requeue", "time", "open-mode"} <= set(found)
    assert SLURM.read_text().count("#SBATCH --") == len(found)


def test_the_script_can_be_called() -> None:
    assert os.access(SLURM, os.X_OK)
    assert subprocess.run(["bash", "-n", SLURM]).returncode == 0


def aws() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    return config


def test_the_clusters_yaml_is_what_ray_up_expects() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(aws(), schema)
    for wrong in ({"head_node_typ": "head"}, {"max_workers": "8"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(aws() | wrong, schema)


def test_the_head_stays_and_the_gpus_are_spot() -> None:
    config = aws()
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert [t["node_config"]["InstanceMarketOptions"]["MarketType"] for t in types.values()] == [
        "spot"
    ]
    assert all(t["resources"]["GPU"] and t["min_workers"] for t in types.values())


def test_nothing_but_ssh_is_open() -> None:
    config = aws()
    assert "IpPermissions" not in config["provider"]["security_group"]
    (head,) = (line for line in config["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head
    everything = "".join(path.read_text() for path in CLUSTER.iterdir())
    assert not re.search(r"host[= ]0\.0\.0\.0", everything)


def test_every_flag_of_ray_in_the_readme_exists() -> None:
    from ray.dashboard.modules.job.cli import job_cli_group
    from ray.scripts.scripts import cli

    text = (CLUSTER / "README.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^(?:\S*/)?ray ((?:job )?[a-z-]+)(.*)$", text, re.MULTILINE)
    assert {name for name, _ in found} >= {"up", "down", "start", "job submit", "job stop"}
    for name, rest in found:
        group, word = (job_cli_group, name[4:]) if name.startswith("job ") else (cli, name)
        known = {option for p in group.commands[word].params for option in p.opts}
        given = re.findall(r"(?<= )--[a-z-]+", rest.partition(" -- ")[0].partition("#")[0])
        assert set(given) <= known, name
