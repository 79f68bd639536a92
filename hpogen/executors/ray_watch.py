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
    """Knows which nodes are alive, and since when the head or our own has not answered."""

    def __init__(self) -> None:
        import ray

        context = ray.get_runtime_context()
        self._here = context.get_node_id()
        self._raylet = ray_cluster.raylet(self._here)
        self.nodes = ray_cluster.nodes()
        now = time.monotonic()
        self._answered = {
            f"the head of the Ray cluster ({context.gcs_address})": now,
            f"the Ray node that this process is connected to ({self._here[:8]})": now,
        }
        self._told = ""  # who does not answer
        self._end = threading.Event()
        threading.Thread(target=self._look, name="hpogen-watch", daemon=True).start()

    def check(self) -> None:
        """Raise ExecutorLost where no trial can run any more; tell of an outage that may pass."""
        if self._here not in self.nodes:
            raise ExecutorLost("the Ray node that this process is connected to died (its raylet)")
        who, answered = min(self._answered.items(), key=lambda item: item[1])
        silent = time.monotonic() - answered
        if silent > LOST_SECONDS:
            raise ExecutorLost(f"{who} has not answered for {silent:.0f} s")
        if silent > SILENT_SECONDS and not self._told:
            self._told = who
            notices.warning(
                "%s does not answer; the run ends in %.0f s unless it does",
                who,
                LOST_SECONDS - silent,
            )
        elif silent < SILENT_SECONDS and self._told:
            notices.warning("%s answers again", self._told)
            self._told = ""

    def end(self) -> None:
        self._end.set()

    def _look(self) -> None:
        """The head is asked first: of two that are silent, it is named."""
        head, node = self._answered
        while not self._end.wait(LOOK_SECONDS):
            self._ask(head, self._ask_head)
            self._ask(node, lambda: ray_cluster.answers(*self._raylet))

    def _ask_head(self) -> None:
        self.nodes = ray_cluster.nodes()

    def _ask(self, who: str, question: Callable[[], object]) -> None:
        try:
            question()
        except Exception as error:  # Ray's are of many classes: no answer is no answer
            ray_cluster.log.info("silent=%r error=%r", who, str(error)[:200])
        else:
            self._answered[who] = time.monotonic()


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
