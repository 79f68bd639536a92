"""The evidence under the tables of `compare`: contrasts, ranks over tasks, searches, rules."""

from __future__ import annotations

from collections.abc import Iterator

from hpogen.analysis.comparison import Comparison
from hpogen.analysis.contrasts import Contrast
from hpogen.analysis.critical_difference import CriticalDifference
from hpogen.analysis.tables import TaskTable
from hpogen.analysis.validity import TOP, RuleValidity
from hpogen.report.compare_figures import (
    BLANK,
    POINTLESS,
    average_text,
    correlation_text,
    difference,
    grid,
    p_value,
    signed,
    wrapped,
)
from hpogen.report.text import percent

MOST_CONTRASTS = 28  # all of eight arms


def contrast_lines(found: Comparison, width: int) -> list[str]:
    of = str(found.judged_by)
    unit = "" if of == POINTLESS else " in points"
    heading = (
        f"contrasts of {of}{unit}, first minus second, paired by search seed, within tasks; 95 % "
        "bootstrap intervals from five pairs on; p by permutation, with Holm's correction for all "
        "but the primary one; smallest: the least p that so many unequal pairs can give"
    )
    shown = _shown(found)
    if left_out := len(found.contrasts) - len(shown):
        heading += f"; {left_out} more, between other arms than {_reference(found)}, with --json"
    titles = ["contrast", "pairs", "difference", "p", "smallest", "Holm", "d_z", "win/tie/loss"]
    rows = [_contrast_row(c, of) for c in shown]
    more = []
    if any(c.worst_task is not None for c in shown):
        more = ["worst task"]
        for cells, c in zip(rows, shown, strict=True):
            worst = c.worst_difference
            cells.append("" if worst is None else f"{c.worst_task} ({difference(worst, of)})")
    if any(c.wilcoxon_p is not None for c in shown):
        more.append("Wilcoxon p")
        for cells, c in zip(rows, shown, strict=True):
            cells.append("" if c.wilcoxon_p is None else p_value(c.wilcoxon_p))
    optional = ["Holm", "d_z", "win/tie/loss", *more]
    return [*wrapped(heading, width), *grid([*titles, *more], rows, width, optional)]


def _shown(found: Comparison) -> list[Contrast]:
    """All of them, or of a great many those with the reference."""
    if len(found.contrasts) <= MOST_CONTRASTS:
        return list(found.contrasts)
    reference = _reference(found)
    return [c for c in found.contrasts if reference in (c.first, c.second)]


def _reference(found: Comparison) -> str:
    """What the others are set against: the second arm of the primary contrast, else the first."""
    return found.primary[1] if found.primary else found.arms[0]


def _contrast_row(c: Contrast, of: str) -> list[str]:
    interval = ""
    if c.interval is not None:
        interval = f" ({difference(c.interval.low, of)} to {difference(c.interval.high, of)})"
    return [
        f"{c.first} − {c.second}" + (" (primary)" if c.primary else ""),
        str(c.pairs),
        difference(c.difference, of) + interval,
        p_value(c.p),
        p_value(c.smallest_p),
        BLANK if c.p_holm is None else p_value(c.p_holm),
        BLANK if c.effect is None else signed(c.effect),
        f"{c.wins}/{c.ties}/{c.losses}",
    ]


def critical_lines(found: CriticalDifference, width: int) -> list[str]:
    ranks = ", ".join(f"{arm} {rank:.2f}" for arm, rank in found.ranks.items())
    if found.friedman_p > found.alpha:
        apart = "no two are separable"
    elif found.groups:
        groups = "; ".join(" = ".join(group) for group in found.groups)
        apart = f"not separable from one another: {groups}"
    else:
        apart = "all are separable"
    return wrapped(
        f"average ranks over {found.tasks} tasks: {ranks}. Friedman p {p_value(found.friedman_p)}, "
        f"critical difference {found.difference:.2f} (Nemenyi, {found.alpha:g}): {apart}",
        width,
    )


def search_lines(found: Comparison, task: TaskTable, width: int) -> Iterator[str]:
    """Overtuning and regret of the searches, where there is an audit."""
    of = str(found.judged_by)
    if all(row.overtuning is None for row in task.rows):
        return
    yield ""
    unit = "" if of == POINTLESS else " in points"
    yield from wrapped(
        f"{task.task}: did the searches go on too long? The answer's {of}{unit} against the best "
        "earlier incumbent's (overtuning, and its share of what was gained), its validation figure "
        "(meta-overfitting), and the best of all trials (regret); means over search seeds, 95 % "
        "intervals from five on",
        width,
    )
    rows = [
        [
            row.arm,
            average_text(row.overtuning, of),
            BLANK if row.relative_overtuning is None else f"{row.relative_overtuning.mean:.2f}",
            average_text(row.meta_overfitting, of),
            average_text(row.regret, of),
        ]
        for row in task.rows
    ]
    titles = ["arm", "overtuning", "relative", "meta-overfitting", "regret"]
    yield from grid(titles, rows, width, optional=["relative", "meta-overfitting"])


def validity_lines(found: Comparison, task: TaskTable, width: int) -> Iterator[str]:
    if not task.validity:
        return
    of = str(found.judged_by)
    yield ""
    yield from wrapped(
        f"{task.task}: does a rule find what is good? Every objective, then every metric, against "
        f"the {of} of the same trials, by study, averaged over search seeds; ρ Spearman, τ "
        "Kendall (95 % intervals from five seeds on), the share of the best 5 and 10 found, the "
        "regret of its lowest and of its highest trial (both said, because a measure's sign is "
        "not known beforehand)",
        width,
    )
    titles = ["rule", "ρ", "τ", *(f"top {k}" for k in TOP), "regret", "highest's"]
    rows = [_validity_row(rule, of) for rule in task.validity]
    yield from grid(titles, rows, width, optional=["τ", "top 5", "top 10", "highest's"])


def _validity_row(rule: RuleValidity, of: str) -> list[str]:
    overlaps = [rule.overlap[k] for k in TOP]
    return [
        rule.rule,
        correlation_text(rule.spearman),
        correlation_text(rule.kendall),
        *(BLANK if overlap is None else percent(overlap.mean) for overlap in overlaps),
        average_text(rule.regret, of),
        BLANK if rule.objective else average_text(rule.regret_highest, of),
    ]


def transfer_lines(task: TaskTable, width: int) -> list[str]:
    """One sentence, where nets were retrained."""
    if task.transfer is None:
        return []
    texts = [
        f"{name.replace('_', ' ')}: ρ {signed(found.spearman)}, τ {signed(found.kendall)}"
        for name, found in task.transfer.by.items()
        if found.spearman is not None and found.kendall is not None
    ]
    retrained = f"{task.transfer.n} retrained configurations"
    if not texts:
        return []
    return [
        "",
        *wrapped(
            f"{task.task}: does the subset's order hold on all of the data? Of {retrained}, "
            f"figures on the subset against test errors: {'; '.join(texts)}",
            width,
        ),
    ]
