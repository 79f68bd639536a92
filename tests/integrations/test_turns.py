"""A call as a generator: one turn at a time, closed cleanly, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import ContextVar

import pytest

from hpogen.integrations.turns import turns

Give = Callable[[int], bool]


def test_the_call_stands_still_between_two_turns() -> None:
    steps: list[str] = []

    def call(give: Give) -> None:
        for i in range(3):
            steps.append(f"made {i}")
            assert give(i)
        steps.append("end")

    for i in turns(call):
        steps.append(f"taken {i}")
    assert steps == ["made 0", "taken 0", "made 1", "taken 1", "made 2", "taken 2", "end"]


def test_a_closed_call_is_told_and_comes_to_its_end() -> None:
    steps: list[str] = []

    def call(give: Give) -> None:
        while give(1):
            pass
        steps.append("end")

    with closing(turns(call)) as running:  # type: ignore[type-var]
        assert [next(running), next(running)] == [1, 1]
        assert steps == []
    assert steps == ["end"]


def test_a_call_that_goes_on_is_ended_where_it_gives() -> None:
    steps: list[str] = []

    def call(give: Give) -> None:
        try:
            for i in range(9):
                give(i)
        finally:
            steps.append(f"ended in {i}")

    running = turns(call)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert steps == ["ended in 1"]


def test_what_the_call_raises_is_raised_where_it_is_asked() -> None:
    def call(give: Give) -> None:
        give(1)
        raise ValueError("mine")

    running = turns(call)
    next(running)
    with pytest.raises(ValueError, match="mine"):
        next(running)


def test_a_call_may_take_turns_within_another() -> None:
    def outer(give: Give) -> None:
        for value in turns(lambda give_inner: [give_inner(i) for i in range(3)]):
            give(10 * value)

    assert list(turns(outer)) == [0, 10, 20]


def test_a_call_has_the_context_of_its_first_turn() -> None:
    var: ContextVar[int] = ContextVar("var")
    var.set(3)
    running: Iterator[int] = turns(lambda give: give(var.get()))
    assert list(running) == [3]
