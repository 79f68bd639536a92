"""Whether a Ray cluster still answers, looked at from a thread of its own.

Where its head or this machine's raylet is gone, Ray's calls may never return: `RayExecutor` makes
each through `Aside`, and gives up when the `Watch` says so.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from hpogen.executors import ray_cluster
from hpogen.executors.base import ExecutorLost
from hpogen.executors.ray_cluster import notices

LOOK_SECONDS = 2.0  # between two looks at the cluster's nodes
SILENT_SECONDS = 10.0  # without an answer, until one is told
LOST_SECONDS = 30.0  # and until it is given up; Ray itself would end this process after 60

T = TypeVar("T")


class Watch:
    """Knows the nodes that are alive, and since when the cluster's head has not answered."""

    def __init__(self) -> None:
        import ray

        context = ray.get_runtime_context()
        self._head, self._here = context.gcs_address, context.get_node_id()
        self.nodes = ray_cluster.nodes()
        self._answered = time.monotonic()
        self._told = False
        self._end = threading.Event()
        threading.Thread(target=self._look, name="hpogen-watch", daemon=True).start()

    def check(self) -> None:
        """Raise ExecutorLost where no trial can run any more; tell of an outage that may pass."""
        if self._here not in self.nodes:
            raise ExecutorLost("the Ray node that this process is connected to died (its raylet)")
        silent = time.monotonic() - self._answered
        if silent > LOST_SECONDS:
            raise ExecutorLost(
                f"the head of the Ray cluster ({self._head}) has not answered for {silent:.0f} s"
            )
        if silent > SILENT_SECONDS and not self._told:
            notices.warning(
                "the head of the Ray cluster (%s) does not answer; the run ends in %.0f s unless "
                "it does",
                self._head,
                LOST_SECONDS - silent,
            )
        elif silent < SILENT_SECONDS and self._told:
            notices.warning("the head of the Ray cluster (%s) answers again", self._head)
        self._told = silent > SILENT_SECONDS

    def end(self) -> None:
        self._end.set()

    def _look(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            try:
                self.nodes = ray_cluster.nodes()
            except Exception as error:  # Ray's are of many classes: no answer is no answer
                ray_cluster.log.info("head=%s error=%r", self._head, str(error)[:200])
            else:
                self._answered = time.monotonic()


class Aside:
    """Makes calls one by one on a thread of its own, which a call that never returns may keep."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="hpogen-ray", daemon=True).start()

    def call(self, function: Callable[[], T], check: Callable[[], None]) -> T:
        """What `function` returns or raises; meanwhile `check` is called, and may raise."""
        future: Future[T] = Future()
        self._calls.put((future, function))
        while True:
            check()
            try:
                return future.result(timeout=1.0)
            except TimeoutError:
                if future.done():  # it is the function's own
                    raise

    def _work(self) -> None:
        while True:
            future, function = self._calls.get()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)


def within(seconds: float, function: Callable[[], object]) -> bool:
    """Call `function` for at most so long; whether it came to its end, with or without an error."""
    thread = threading.Thread(target=_quietly, args=(function,), daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _quietly(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception as error:
        ray_cluster.log.info("while stopping error=%r", str(error)[:200])
