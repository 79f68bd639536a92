"""The tables of `compare` for programs and papers: `--csv` with all digits, `--latex`.

The command line asks. A comparison's JSON has more than both.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from csv import DictWriter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpogen.analysis.comparison import Comparison
from hpogen.analysis.crossed import Crossed
from hpogen.analysis.statistics import Average, Summary
from hpogen.analysis.tables import Row
from hpogen.analysis.validity import TOP, RuleValidity
from hpogen.errors import UserError, explained
from hpogen.record.folder import replace_file
from hpogen.report.compare import task_rows
from hpogen.report.compare_crossed import MARKED, crossed_rows
from hpogen.report.compare_evidence import contrast_rows

Cells = Mapping[str, Any]

ELSEWHERE = ": give a file in a folder that is there, or - for the terminal"

TEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "–": "--",
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "<": "$<$",
    ">": "$>$",
    **{
        letter: f"$\\{name}$"
        for letter, name in zip("αζκρτ", ("alpha", "zeta", "kappa", "rho", "tau"), strict=True)
    },
}


def write_tables(found: Comparison, csv: str | None, latex: str | None) -> str:
    """Write what was asked for into its file, whole or not at all; the text of what goes to `-`.

    Raises UserError for a file that cannot be written.
    """
    printed = ""
    wanted = {"--csv": (csv, comparison_csv), "--latex": (latex, comparison_latex)}
    for option, (path, made) in wanted.items():
        if path == "-":
            printed += made(found)
        elif path is not None:
            with explained(f"{option}: {path}", UserError, todo=ELSEWHERE):
                replace_file(Path(path), made(found).encode())
    return printed


def comparison_csv(found: Comparison) -> str:
    """One table whose first column, `table`, says what a row is; floats with all their digits.

    `arm`: a row for each arm of each task, with `objective` and `searcher` where arms differ in
    both. `yardstick`: what stands beside them. `contrast`: a pair of arms. `rule`: how well an
    objective or metric picks what is good. Means are `.mean`, standard deviations over search
    seeds `.sd`, ends of 95 % intervals `.low` and `.high`, numbers of search seeds `.n`. Errors are
    shares, not percent; a cell without a figure is empty.
    """
    rows = [*_csv_rows(found)]
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = DictWriter(text, [*names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_rows(found: Comparison) -> Iterator[Cells]:
    for task in found.tasks:
        places = _places(next((c for c in found.crossed if c.task == task.task), None))
        for row in task.rows:
            about = {"table": "arm", "task": task.task, "name": row.arm}
            yield {**about, **places.get(row.arm, {}), **_arm(row, found)}
        for y in task.yardsticks:
            about = {"table": "yardstick", "task": task.task, "name": y.label}
            yield {**about, **_cells({found.audit: y.truth})}
    for c in found.contrasts:
        fields = {name: x for name, x in asdict(c).items() if name != "interval"}
        ends = {} if c.interval is None else {"low": c.interval.low, "high": c.interval.high}
        name = f"{c.first} - {c.second}"
        yield {"table": "contrast", "name": name, **fields, **ends, "separable": c.separable}
    for task in found.tasks:
        for rule in task.validity:
            yield {"table": "rule", "task": task.task, "name": rule.rule, **_rule(rule)}


def _places(table: Crossed | None) -> Mapping[str, Cells]:
    if table is None:
        return {}
    return {
        cell.arm: {"objective": objective, "searcher": searcher}
        for objective, cells in table.rows.items()
        for searcher, cell in zip(table.searchers, cells, strict=True)
        if cell is not None
    }


def _arm(row: Row, found: Comparison) -> Cells:
    figures = {
        found.audit: row.truth,
        found.test: row.test,
        "val_loss": row.val_loss,
        "epochs_charged": row.charged,
        "epochs_trained": row.trained,
        "seconds": row.seconds,
        "overtuning": row.overtuning,
        "relative_overtuning": row.relative_overtuning,
        "meta_overfitting": row.meta_overfitting,
        "regret": row.regret,
    }
    share = {"measures_share": row.measures_share}
    return {"seeds": len(row.answers), **_cells(figures), **share}


def _rule(rule: RuleValidity) -> Cells:
    figures = {"spearman": rule.spearman, "kendall": rule.kendall, "regret": rule.regret}
    figures |= {f"top_{k}": rule.overlap[k] for k in TOP}
    figures |= {f"chance_{k}": rule.chance[k] for k in TOP}
    return _cells(figures)


def _cells(figures: Mapping[str, Summary | Average | None]) -> Cells:
    """A column for each part of each figure that there is."""
    return {
        f"{name}.{part}": value
        for name, x in figures.items()
        if x is not None
        for part, value in _parts(x).items()
    }


def _parts(x: Summary | Average) -> Cells:
    if isinstance(x, Summary):
        return {"mean": x.mean, "sd": x.sd, "n": x.n}
    low, high = (x.interval.low, x.interval.high) if x.interval else (None, None)
    return {"mean": x.mean, "low": low, "high": high, "n": x.n}


def comparison_latex(found: Comparison) -> str:
    r"""The arms of each task, objectives by searchers, and the contrasts, as `table`s of booktabs.

    Everything is escaped; letters that LaTeX has no font for are commands.
    """
    of = str(found.judged_by)
    means = "means over search seeds $\\pm$ standard deviation"
    parts = [
        _tex_table(f"{tex(task.task)}: {means}.", task_rows(found, task))
        for task in found.tasks
        if task.rows
    ]
    for table in found.crossed:
        caption = f"{tex(table.task)}: {tex(of)} by objective and searcher, {means} "
        caption += f"($n$: search seeds). {tex(MARKED)}."
        parts.append(_tex_table(caption, crossed_rows(table, of)))
    if found.contrasts:
        caption = f"Contrasts of {tex(of)}, first minus second, paired by search seed within tasks."
        parts.append(_tex_table(caption, contrast_rows(found)))
    return "\n".join(["% \\usepackage{booktabs}", *parts])


def _tex_table(caption: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Of cells by column; columns in which nothing stands are left out."""
    import pandas as pd

    titles = [title for title in rows[0] if any(row.get(title) for row in rows)]
    cells = [{tex(title): tex(row.get(title, "")) for title in titles} for row in rows]
    style = pd.DataFrame(cells).style.hide(axis="index")
    return str(
        style.to_latex(
            caption=caption,
            column_format="l" + "r" * (len(titles) - 1),
            hrules=True,
            position_float="centering",
        )
    )


def tex(text: str) -> str:
    """A text as LaTeX prints it."""
    return text.translate(str.maketrans(TEX))
