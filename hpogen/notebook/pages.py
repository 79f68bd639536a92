"""How notebooks show a study, a trial and a comparison: small tables, in HTML without style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from hpogen.report.text import configuration, number, value
from hpogen.report.verdict import choice, untrusted
from hpogen.selection import best_first
from hpogen.study.read import Folder
from hpogen.study.standing import standing
from hpogen.trial import Config

if TYPE_CHECKING:
    from hpogen.analysis.comparison import Comparison

MOST = 10  # trials


def answer_page(
    title: str, config: Config, metrics: Mapping[str, float], audit: Mapping[str, float]
) -> str:
    """A trial: its configuration, metrics and audit figures."""
    rows = [
        *((name, value(x)) for name, x in config.items()),
        *((name, number(x)) for name, x in metrics.items()),
        *((f"audit {name}", number(x)) for name, x in audit.items()),
    ]
    return f"<b>{escape(title)}</b>{_table((), rows)}"


def result_page(study: Folder) -> str:
    """How far the study is, what it chose on what evidence, and its first trials."""
    now, history, spec = standing(study), study.history, study.spec
    told = f"{now.told} of {len(history.records)} trials told" + ", running" * bool(study.process)
    head = f"<b>{escape(spec.name)}</b>: {told}, in {escape(str(study.directory))}"
    if now.best is None:
        return f"<p>{head}</p>"
    names = [*spec.objective.shown_first]
    records = best_first(history, study.finished, spec.objective, spec.selection, study.directory)
    rows = [
        [
            str(record.trial.id),
            number(record.score),
            *(_figure(record.outcome.metrics if record.outcome else {}, name) for name in names),
            configuration(record.trial.config),
        ]
        for record in records[:MOST]
    ]
    table = _table(("trial", "score", *names, "configuration"), rows)
    texts = [choice(spec, now), *untrusted(study)]
    return f"<p>{head}</p>{''.join(f'<p>{escape(text)}</p>' for text in texts)}{table}"


def comparison_page(verdict: str, found: Comparison) -> str:
    """What is better, and the arms of each task."""
    from hpogen.report.compare_figures import mean_text

    of = found.judged_by or "audit"
    parts = [f"<p>{escape(verdict)}</p>"]
    for task in found.tasks:
        rows = [
            [
                row.arm,
                str(len(row.answers)),
                mean_text(row.truth, of) if row.truth else "–",
                mean_text(row.test, f"test {found.error}") if row.test else "–",
            ]
            for row in task.rows
        ]
        parts += [f"<b>{escape(task.task)}</b>", _table(("arm", "searches", of, "test"), rows)]
    return "".join(parts)


def _figure(metrics: Mapping[str, float], name: str) -> str:
    return number(metrics[name]) if name in metrics else "–"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )
