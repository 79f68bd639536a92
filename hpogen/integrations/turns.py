"""A call that gives its values one by one, as the generator that a task of one's own is.

`trainer.fit(…)` is one call, which callbacks hear of each epoch from; hpogen takes an epoch when
it asks for one. So the call runs as a coroutine of this thread (a greenlet), which stands still
between two turns: what is killed or closed there has begun nothing after the epoch that was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
Give = Callable[[T], bool]


class Ended(BaseException):
    """Raised in a call that goes on after it was told to stop."""


def turns(run: Callable[[Give[T]], object]) -> Iterator[T]:
    """What `run(give)` gives, each time that it calls give(value).

    That returns when the next value is asked for: True, or False where the generator is closed and
    the call is to come to its end. If it gives once more then, Ended is raised there. What the call
    raises, the generator raises.
    """
    call: Any = greenlet(run)
    call.gr_context = copy_context()

    def switched(value: Any) -> Any:
        call.parent = getcurrent()
        return call.switch(value)

    value = switched(lambda given: call.parent.switch(given))
    try:
        while not call.dead:
            yield value
            value = switched(True)
    finally:
        if not call.dead:
            switched(False)
        if not call.dead:
            with suppress(Ended):
                call.throw(Ended)
