"""What `compare --csv` and `--latex` write, and what the command line says of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from analysis.searches import AGN, Made, matrix, search
from toys import typed

from hpogen.analysis.comparison import Comparison, compare
from hpogen.report.compare_tables import comparison_csv, comparison_latex, tex

ARMS: dict[str, dict[str, Any]] = {
    "cmaes__agn": {"searcher": "cmaes", "objective": AGN},
    "cmaes__val": {"searcher": "cmaes"},
    "random__agn": {"objective": AGN},
    "random__val": {},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrix(tmp_path_factory.mktemp("tables") / "m", 5, ARMS)


@pytest.fixture(scope="module")
def found(home: Path) -> Comparison:
    return compare([home], "random__agn - random__val")


def rows_of(text: str, table: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(text)) if row["table"] == table]


def test_the_csv_has_every_digit(found: Comparison) -> None:
    text = comparison_csv(found)
    [task] = found.tasks
    rows = rows_of(text, "arm")
    assert [row["name"] for row in rows] == [row.arm for row in task.rows]
    for row, arm in zip(rows, task.rows, strict=True):
        assert arm.truth is not None and arm.val_loss is not None and arm.regret is not None
        assert float(row["audit error.mean"]) == arm.truth.mean
        assert float(row["audit error.sd"]) == arm.truth.sd
        assert float(row["val_loss.mean"]) == arm.val_loss.mean
        assert arm.regret.interval is not None
        assert float(row["regret.low"]) == arm.regret.interval.low
        assert (row["seeds"], row["audit error.n"]) == ("5", "5")
        assert row["searcher"] == row["name"].partition("__")[0]
        assert row["objective"] == {"val": "val", "agn": "agn+val (α 0.1)"}[row["name"][-3:]]
    contrasts = rows_of(text, "contrast")
    for row, c in zip(contrasts, found.contrasts, strict=True):
        assert (row["first"], row["second"]) == (c.first, c.second)
        assert (float(row["difference"]), float(row["p"])) == (c.difference, c.p)
        assert row["p_holm"] == ("" if c.p_holm is None else repr(c.p_holm))
        assert row["separable"] == str(c.separable)
    rules = rows_of(text, "rule")
    for row, rule in zip(rules, task.validity, strict=True):
        overlap = rule.overlap[10]
        assert overlap is not None and float(row["top_10.mean"]) == overlap.mean
        assert float(row["chance_10.mean"]) == pytest.approx(10 / 12)
    assert len(rows_of(text, "yardstick")) == len(task.yardsticks)


def test_pandas_reads_it(found: Comparison) -> None:
    frame = pd.read_csv(io.StringIO(comparison_csv(found)))
    arms = frame[frame["table"] == "arm"].dropna(axis=1, how="all")
    assert arms["audit error.mean"].dtype == float and "p_holm" not in arms
    assert len(arms.pivot(index="objective", columns="searcher", values="audit error.mean")) == 2


def lines_of(latex: str) -> Iterator[list[str]]:
    for line in latex.splitlines():
        if line.endswith(r"\\"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def test_the_latex_has_the_tables_of_the_page(found: Comparison) -> None:
    latex = comparison_latex(found)
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 3
    rows = [*lines_of(latex)]
    [task] = found.tasks
    for arm in task.rows:
        assert arm.truth is not None and arm.truth.sd is not None
        mean = rf"{100 * arm.truth.mean:.1f} \% $\pm$ {100 * arm.truth.sd:.1f}"
        [row] = [row for row in rows if row[0] == arm.arm.replace("_", r"\_")]
        assert row[1:3] == ["5", mean]
    assert [row[0] for row in rows].count(r"agn+val ($\alpha$ 0.1)") == 1
    widths = {len(row) for row in rows}
    formats = re.findall(r"\\begin\{tabular\}\{(l r*|lr*)\}", latex)
    assert widths == {len(form) for form in formats}


def test_the_latex_is_plain_letters_and_nothing_in_it_is_a_command(tmp_path: Path) -> None:
    name = "a & b_{c} 50 % #1 $x$ ~ ^"
    for arm, keys in {name: {"objective": AGN}, "B": {}}.items():
        search(tmp_path / arm, [Made(0.5, 0.9), Made(0.4, 0.8)], **keys)
    latex = comparison_latex(compare([tmp_path]))
    assert latex.isascii()
    assert tex(name) in latex and name not in latex
    assert tex(name) == (r"a \& b\_\{c\} 50 \% \#1 \$x\$ \textasciitilde{} \textasciicircum{}")
    assert tex(r"\evil") == r"\textbackslash{}evil"


def test_the_command_prints_or_writes(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("compare", home, "--csv", "-") == 0
    text = capsys.readouterr().out
    assert text == comparison_csv(compare([home]))
    assert typed("compare", home, "--latex", tmp_path / "t.tex", "--csv", tmp_path / "t.csv") == 0
    assert "hpogen report" in capsys.readouterr().out  # the page as ever
    assert (tmp_path / "t.csv").read_text() == text
    assert (tmp_path / "t.tex").read_text() == comparison_latex(compare([home]))
    assert typed("compare", home, "--csv", tmp_path / "no" / "t.csv") == 2
    assert f"--csv: {tmp_path / 'no' / 't.csv'}: cannot be written" in capsys.readouterr().err
    assert typed("compare", home, "--csv", "-", "--json") == 2
    assert "got several, expected one that is printed" in capsys.readouterr().err
