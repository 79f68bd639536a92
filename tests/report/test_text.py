"""Numbers and times as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpogen.errors import UserError
from hpogen.report import text
from hpogen.trial import Value


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.41234, "0.412"),
        (0.4, "0.400"),
        (1.0249, "1.02"),
        (-15.44, "-15.4"),
        (212.6, "213"),
        (12345.6, "12,346"),
        (1.5e7, "1.5e7"),
        (0.00123, "1.2e-3"),
        (2e-5, "2.0e-5"),
        (0.0, "0"),
    ],
)
def test_a_metric_has_three_digits(x: float, expected: str) -> None:
    assert text.number(x) == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0312, "0.031"),
        (0.9061, "0.91"),
        (0.9961, "0.996"),
        (0.6, "0.6"),
        (1.0, "1"),
        (0.0, "0"),
        (7.1e-4, "7.1e-4"),
        (1e-7, "1.0e-7"),
        (12.34, "12.3"),
        (212, "212"),
        (True, "true"),
        (None, "null"),
        ("adamw", "adamw"),
        (123456.7, "123,457"),
    ],
)
def test_a_hyper_parameter_is_short(x: Value, expected: str) -> None:
    assert text.value(x) == expected


@given(st.floats(1e-9, 1e9))
def test_what_is_shown_is_the_number_to_within_its_digits(x: float) -> None:
    assert float(text.value(x).replace(",", "")) == pytest.approx(x, rel=0.06)
    assert float(text.number(x).replace(",", "")) == pytest.approx(x, rel=0.06)
    assert len(text.number(x)) <= 7


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (41.4, "41 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (93600, "1 d 2 h"),
    ],
)
def test_a_time_has_its_two_largest_units(seconds: float, expected: str) -> None:
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("30m", 1800), ("30 min", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)],
)
def test_a_time_is_read(given: str, seconds: float) -> None:
    assert text.seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "6", "h", "6 hours", "-1h", "1h x", "6h,"])
def test_what_is_no_time_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="--for: got"):
        text.seconds_of(given)


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.5, 5), (1, 10), (1.7, 10), (-1, 0)])
def test_a_bar_is_filled_by_its_share(share: float, full: int) -> None:
    assert text.bar(share, 10) == "▕" + "█" * full + " " * (10 - full) + "▏"


def test_a_bar_grows_by_eighths() -> None:
    assert text.bar(0.0125, 10) == "▕▏         ▏"


def test_a_labelled_text_goes_on_below_itself() -> None:
    lines = text.labelled("best", "one two three four five and six", 30)
    assert lines == [" best     one two three four", "          five and six"]


@pytest.mark.parametrize("width", [1, 10, 21, 40])
def test_a_paragraph_breaks_neither_before_a_percent_sign_nor_in_a_narrow_terminal(
    width: int,
) -> None:
    said = "the mean audit error is 12.0 % of meta-overfitting " * 3
    lines = text.paragraph(said, width)
    assert " ".join(line.removeprefix(" ") for line in lines) == said.strip()
    assert not any(line.lstrip().startswith("%") for line in lines)
    assert max(map(len, lines)) <= max(width, 21)
