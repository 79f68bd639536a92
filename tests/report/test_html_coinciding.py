"""Which curves a caption says to lie on one another."""

from __future__ import annotations

import numpy as np

from hpogen.report.html.coinciding import Line, coinciding

X = np.arange(1.0, 11.0)
WIDTH = 1.8 / (72 * 0.8 * 3.1)  # of a line, as a share of the axes


def line(name: str, *y: float) -> Line:
    return name, X[: len(y)], np.array(y)


UP = line("up", *X)


def test_within_the_width_of_a_line() -> None:
    shifted = [line("x", *(X + share * WIDTH * 9)) for share in (0.9, 1.2)]
    assert coinciding([UP, shifted[0]], "epochs") == "up and x coincide"
    assert coinciding([UP, shifted[1]], "epochs") == ""
    assert coinciding([UP, line("x", *X[::-1])], "epochs") == ""
    assert coinciding([UP], "epochs") == ""


def test_from_where_on() -> None:
    late = line("x", 9, 9, 9, *X[3:])
    assert coinciding([UP, late], "epochs") == "up and x coincide from 4 epochs on"
    last = line("x", *[9] * 9, 10)
    assert coinciding([UP, last], "epochs") == ""  # all curves that meet at the end do that


def test_lines_with_other_steps() -> None:
    few = ("few", np.array([1.0, 5.0]), np.array([2.0, 7.0]))
    many = ("many", np.array([1.0, 2.0, 5.0, 6.0]), np.array([2.0, 2.0, 7.0, 7.0]))
    assert coinciding([few, many], "s") == "few and many coincide"
    other = ("other", np.array([1.0, 4.0]), np.array([2.0, 7.0]))
    assert coinciding([few, other], "s") == ""


def test_on_a_logarithmic_axis_ratios_count() -> None:
    a, b = line("a", 1e-4, 1.0), line("b", 2e-4, 1.0)
    assert coinciding([a, b], "epochs") == "a and b coincide"
    assert coinciding([a, b], "epochs", scale="log") == ""


def test_all_that_lie_on_one_another_are_one_group() -> None:
    four = [line(name, 1, 2, 3) for name in "abcd"]
    assert coinciding(four, "epochs") == "a, b, c and d coincide"
    other = [line("x", 1, 2, 9), line("y", 1, 2, 9)]
    text = coinciding([*four[:2], *other], "epochs")
    assert text == "a and b coincide; x and y coincide"


def test_of_many_groups_some_are_named() -> None:
    lines = [line(f"{i}{k}", 1, 2 + i, 3) for i in range(8) for k in "ab"]
    text = coinciding(lines, "epochs")
    assert text.count("coincide") == 6 and text.endswith("; so do 2 more groups")


def test_a_group_has_no_two_that_differ() -> None:
    """Each is within a width of the next, and the last not of the first."""
    step = 0.9 * WIDTH * 9
    lines = [UP, line("b", *(X + step)), line("c", *(X + 2 * step))]
    assert coinciding(lines, "epochs") == "up and b coincide"
    between = [UP, line("b", *(X + step)), line("c", *(X - step))]
    assert coinciding(between, "epochs") == "up and b coincide; up and c coincide"
