"""What the papers' scripts share: their options, how they end, their correlations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

from common import INTERRUPTED, begin, call, kendall, options, pearson, shown


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


def test_a_stopped_script_ends_as_a_shell_expects(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(raising(KeyboardInterrupt()))
    assert caught.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    given = options("").parse_args(["--out", str(taken), "--device", "cpu"])
    with pytest.raises(SystemExit) as caught:
        call(lambda: begin("x", given) and None)
    assert caught.value.code == f"error: --out {taken}: File exists"


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_number_of_workers_is_checked(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("", workers=True).parse_args([f"--workers={number}"])
    assert "--workers" in capsys.readouterr().err


def test_correlations_are_not_claimed_where_they_are_not_defined() -> None:
    two, same, x = np.array([1.0, 2.0]), np.ones(3), np.array([1.0, 2.0, 4.0])
    assert pearson(two, two) is None and kendall([1, 2], [1, 2]) is None
    assert pearson(same, x) is None and shown(pearson(same, x)) == "not defined"
    assert pearson(x, -x) == pytest.approx(-1) and shown(-1.0) == "-1.000"
    y = [3.0, 1.0, 2.0, 5.0]
    assert kendall([1, 2, 3, 4], y) == pytest.approx(stats.kendalltau([1, 2, 3, 4], y)[0])
