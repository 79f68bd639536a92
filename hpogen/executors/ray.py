"""Many trials at a time, on long-lived workers of a Ray cluster that may die, come and go.

`hpogen run --workers N` and `--ray` use it; what a worker does is in `ray_worker.py`.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hpogen.errors import UserError
from hpogen.executors import ray_cluster, ray_room
from hpogen.executors.base import Event, ExecutorLost, Job
from hpogen.executors.ray_member import Device, Member, end_jobs, failed, kind_of, told_by
from hpogen.executors.ray_room import equal_share, refuse_many_gpus
from hpogen.executors.ray_watch import Aside, Watch, within
from hpogen.executors.ray_worker import Luggage, Packed, Place, Tail, Worker, append_tails

log = logging.getLogger("hpogen.executors")

SLICE = 0.5  # seconds that a worker trains per call
TEND_SECONDS = 2.0  # between two looks at the cluster's nodes
STOP_SECONDS = 15.0  # for the running trials to write their checkpoints
LEAVE_SECONDS = 15.0  # for Ray to end
MAX_FAILED_STARTS = 5  # of workers, in a row

T = TypeVar("T")


class RayExecutor:
    """`workers` trials at a time (None: as many as the cluster can hold, now and later).

    `address` is "local" (a cluster on this machine, ended by `stop`), "auto" (the one that runs
    here) or "HOST:PORT"; a connection that this process has already is used, and kept. Each worker
    has `cpus_per_trial` CPUs (None: the first job's `task.threads`) and `gpus_per_trial` GPUs, at
    most 1 for the built-in task (None: an equal share of what there is). After `stop` it cannot be
    used again. Raises UserError for a cluster that cannot be reached or has no such node.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str = "local",
        cpus_per_trial: int | None = None,
        gpus_per_trial: float | None = None,
    ) -> None:
        wished = (workers or 1) * (cpus_per_trial or 1)
        self._local = address == "local"
        self._own = ray_cluster.connect(address, max(wished, os.cpu_count() or 1))
        self.workers = workers
        self._cpus: float | None = cpus_per_trial
        self._watch = Watch()
        self._aside = Aside()
        self._waiting = ray_room.Waiting()
        self._lost = False
        self.gpus_per_trial = equal_share(workers) if gpus_per_trial is None else gpus_per_trial
        self.members: list[Member] = []
        self._calls: dict[Any, Member] = {}
        self._queue: deque[Job] = deque()
        self._claimed: Device | None = None  # kept free for a trial that must be alone
        self._luggage = Packed()
        self._failed_starts = 0
        self._tended = 0.0
        try:
            self._check_needs()
        except UserError:
            self.stop()
            raise

    @property
    def slots(self) -> int:
        """The workers that have started; 1 until the first has."""
        return max(1, sum(member.place is not None for member in self.members))

    @property
    def device_type(self) -> str:
        return "cuda" if self.gpus_per_trial else "cpu"

    def submit(self, job: Job) -> None:
        self._call_ray(functools.partial(self._submit, job))

    def wait(self, timeout: float) -> list[Event]:
        return self._call_ray(functools.partial(self._wait, timeout))

    def end(self, job: Job) -> None:
        for member in self.members:
            if member.job is job and not member.ending:
                member.ending = True
                self._call_ray(functools.partial(self._call, member, member.actor.stop))

    def cancel(self) -> None:
        """End the running jobs, each with a checkpoint where it can have one; the workers stay."""
        self._queue.clear()
        within(STOP_SECONDS, self._cancel_jobs)
        within(LEAVE_SECONDS, self._kill_hanging)

    def stop(self) -> None:
        """`cancel`, and free the workers."""
        import ray

        if not ray.is_initialized():
            return
        self._watch.end()
        try:
            self.cancel()
        finally:
            members, self.members, self._calls = self.members, [], {}
            ended = within(LEAVE_SECONDS, functools.partial(self._leave, members))
            if self._own and not ended:
                ray_cluster.abandon()
            self._own = False

    def _call_ray(self, function: Callable[[], T]) -> T:
        """Call what may not return where the cluster has gone. Raises ExecutorLost then."""
        return self._aside.call(function, self._check_cluster)

    def _check_cluster(self) -> None:
        try:
            self._watch.check()
        except ExecutorLost:
            self._lost = True
            raise

    def _submit(self, job: Job) -> None:
        if self._cpus is None:
            self._cpus = float(job.task.threads)
            self._check_needs()
        refuse_many_gpus(job.task, self.gpus_per_trial)
        put = self._queue.appendleft if job.trial.attempt else self._queue.append
        put(job)  # the oldest first
        self._assign()

    def _wait(self, timeout: float) -> list[Event]:
        events = self._tend()
        self._assign()
        for call in self._done(timeout if not events else 0.0):
            if call in self._calls:  # not of a worker that was found dead
                events += self._received(call)
        return events + self._hung()

    def _cancel_jobs(self) -> None:
        end_jobs(self.members)
        for call in [call for call, member in self._calls.items() if member.place]:
            self._received(call)  # of the jobs that ended: nobody asks any more

    def _kill_hanging(self) -> None:
        for member in [member for member in self.members if member.job]:
            self._kill(member, "its trial did not stop")

    def _leave(self, members: Sequence[Member]) -> None:
        import ray

        if not self._lost:  # else nobody is there to kill them; they end with their nodes
            for member in members:
                ray.kill(member.actor)
        if self._own:
            ray.shutdown()

    # The pool.

    def _tend(self) -> list[Event]:
        """Follow the cluster: give up workers on lost nodes, start as many as there should be."""
        now = time.monotonic()
        if now < self._tended + TEND_SECONDS or self._cpus is None:
            return []
        self._tended = now
        nodes = self._watch.nodes
        gone = [(m, m.place.host) for m in self.members if m.place and m.place.node not in nodes]
        events = [e for m, host in gone for e in self._given_up(m, f"node {host} died")]
        needs = self._need(), self.gpus_per_trial
        free = sum(ray_room.room(resources, *needs) for resources in nodes.values())
        while len(self.members) < (self.workers or max(free, 1)):  # one asks an autoscaler
            self._start()
        waits = not any(member.place for member in self.members)
        self._waiting.look(waits, free, *needs)
        return events

    def _need(self) -> float:
        """The CPUs of a worker; on this machine alone, no more than there are for each."""
        cpus = self._cpus or 1.0
        if not (self._own and self._local and self.workers):
            return cpus
        each = sum(node.get("CPU", 0) for node in self._watch.nodes.values()) / self.workers
        return min(cpus, each if each < 1 else int(each))

    def _start(self) -> None:
        import ray

        remote: Any = ray.remote(Worker)
        actor = remote.options(
            num_cpus=self._need(), num_gpus=self.gpus_per_trial, max_restarts=0, max_task_retries=0
        ).remote(os.getcwd(), self.gpus_per_trial)
        member = Member(actor)
        self.members.append(member)
        self._call(member, actor.place)

    def _given_up(self, member: Member, text: str) -> list[Event]:
        """Forget a worker that died; its trial is lost, and another worker is started soon."""
        self.members.remove(member)
        self._calls = {call: m for call, m in self._calls.items() if m is not member}
        self._tended = 0.0
        if member.place is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise UserError(f"--ray: no worker can start: {text}")
        log.warning("worker=%s lost=%r", member.place, text)
        return [(member.job, failed(member.job, kind_of(text), text))] if member.job else []

    # The jobs.

    def _assign(self) -> None:
        jobs = [*self._queue, *(member.job for member in self.members if member.job)]
        if not any(job.alone for job in jobs):
            self._claimed = None
        waiting, self._queue = self._queue, deque()
        for job in waiting:
            free = self._free(job)
            if free is None:
                self._queue.append(job)
            else:
                self._begin(free, job)
        if not self.members:
            self._tended = 0.0

    def _free(self, job: Job) -> Member | None:
        """An idle worker for a job. One that must be alone keeps a device free until it is."""
        started = [member for member in self.members if member.device]
        busy = [member.device for member in started if member.job]
        if job.alone and self._claimed not in {member.device for member in started}:
            self._claimed = min((m.device for m in started), key=busy.count, default=None)
        for member in started:
            mine = member.device == self._claimed
            if member.job is None and mine == job.alone and not (mine and member.device in busy):
                return member
        return None

    def _begin(self, member: Member, job: Job) -> None:
        known, luggage = self._luggage.of(job)
        news = known not in member.known
        member.known.add(known)
        member.job, member.began = job, time.monotonic()
        member.reported = member.began
        self._advance(member, job, luggage if news else None)

    def _advance(self, member: Member, job: Job | None, luggage: Luggage | None = None) -> None:
        seconds = max(SLICE, len(self.members) / 200)  # hundreds of calls a second are enough
        self._call(member, member.actor.advance, job, seconds, luggage)

    def _call(self, member: Member, method: Any, *arguments: Any) -> None:
        self._calls[method.remote(*arguments)] = member
        member.waiting += 1

    def _done(self, timeout: float) -> list[Any]:
        import ray

        if not self._calls:
            time.sleep(timeout)
            return []
        calls = list(self._calls)
        ready, rest = ray.wait(calls, num_returns=1, timeout=timeout)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        order = {call: i for i, call in enumerate(calls)}
        return sorted(ready, key=order.__getitem__)  # of one worker, as they were made

    def _received(self, call: Any) -> list[Event]:
        """What a call brought: where a worker is, or what happened to its job."""
        import ray

        member = self._calls.pop(call)
        member.waiting -= 1
        try:
            found = ray.get(call)
        except ray.exceptions.RayTaskError as error:  # nothing of the trial's: its luggage
            found = [failed(member.job, "error", str(error.cause))] if member.job else []
        except ray.exceptions.RayError as error:
            return self._given_up(member, told_by(error))
        if isinstance(found, Place):
            member.place = found
            self._failed_starts = 0
            return []
        job = member.job
        if job is not None:
            append_tails(job, found)
        if member.ending and not member.waiting:  # the last call was to stop
            member.job, member.ending = None, False
            return [(job, None)] if job else []
        several = len(self._watch.nodes) > 1
        news = [event for event in found if not isinstance(event, Tail)]
        events: list[Event] = [(job, member.noted(event, several)) for event in news] if job else []
        while member.waiting < member.ahead:
            self._advance(member, None)
        return events

    def _hung(self) -> list[Event]:
        """Kill the workers whose trial is far beyond a limit: they no longer look at the clock."""
        events: list[Event] = []
        for member in list(self.members):
            job, text = member.job, member.overtime()
            if job is not None and text:
                self._kill(member, text)
                events.append((job, failed(job, "timeout", text)))
        return events

    def _kill(self, member: Member, text: str) -> None:
        import ray

        if not self._lost:
            ray.kill(member.actor)
        member.job = None
        self._given_up(member, text)

    def _check_needs(self) -> None:
        """Raise UserError when no node could hold a worker, ever."""
        ray_room.check(self._watch.nodes, self._cpus and self._need(), self.gpus_per_trial)
