"""The evidence under the tables of `compare`: contrasts, ranks over tasks, searches, rules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hpogen.analysis.answers import Answer
from hpogen.analysis.comparison import Comparison
from hpogen.analysis.contrasts import Contrast, CriticalDifference
from hpogen.analysis.tables import Row, TaskTable
from hpogen.analysis.validity import TOP, RuleValidity
from hpogen.report.compare_figures import (
    average_text,
    correlation_text,
    difference,
    found_text,
    p_value,
    signed,
    with_interval,
)
from hpogen.report.figure import gap_text, value_text
from hpogen.report.table import grid
from hpogen.report.text import BLANK, number, paragraph, tally
from hpogen.tasks.errors import is_share

MOST_CONTRASTS = 28  # all of eight arms
MOST_ANSWERS = 12
ANSWERS = (
    "Its error as trained on the subset, with a 95 % interval: by audit, or else by validation, "
    "corrected for having been chosen by it (the choice is repeated in bootstrap samples and "
    "judged on the samples outside)"
)


def contrast_lines(found: Comparison, width: int) -> list[str]:
    of = str(found.judged_by)
    unit = " in points" if is_share(of) else ""
    heading = (
        f"contrasts of {of}{unit}, first minus second, paired by search seed, within tasks; 95 % "
        "bootstrap intervals from five pairs on; p by permutation, with Holm's correction for all "
        "but the primary one; smallest: the least p that so many unequal pairs can give"
    )
    shown = _shown(found)
    if left_out := len(found.contrasts) - len(shown):
        heading += f"; {left_out} more, between other arms than {_reference(found)}, with --json"
    rows = contrast_rows(found)
    optional = ["Holm", "d_z", "win/tie/loss", "worst task", "Wilcoxon p"]
    return [*paragraph(heading, width), *grid(rows, width, optional)]


def contrast_rows(found: Comparison) -> list[dict[str, str]]:
    """The cells of the contrasts that a page has room for, by column."""
    return [_contrast_row(c, str(found.judged_by)) for c in _shown(found)]


def _shown(found: Comparison) -> list[Contrast]:
    """All of them, or of a great many those with the reference."""
    if len(found.contrasts) <= MOST_CONTRASTS:
        return list(found.contrasts)
    reference = _reference(found)
    return [c for c in found.contrasts if reference in (c.first, c.second)]


def _reference(found: Comparison) -> str:
    """What the others are set against: the second arm of the primary contrast, else the first."""
    return found.primary[1] if found.primary else found.arms[0]


def _contrast_row(c: Contrast, of: str) -> dict[str, str]:
    worst = c.worst_difference
    return {
        "contrast": f"{c.first} − {c.second}" + (" (primary)" if c.primary else ""),
        "pairs": str(c.pairs),
        "difference": with_interval(c.difference, c.interval, partial(difference, of=of)),
        "p": p_value(c.p),
        "smallest": p_value(c.smallest_p),
        "Holm": BLANK if c.p_holm is None else p_value(c.p_holm),
        "d_z": BLANK if c.effect is None else signed(c.effect),
        "win/tie/loss": f"{c.wins}/{c.ties}/{c.losses}",
        "worst task": "" if worst is None else f"{c.worst_task} ({difference(worst, of)})",
        "Wilcoxon p": "" if c.wilcoxon_p is None else p_value(c.wilcoxon_p),
    }


def critical_lines(found: CriticalDifference, width: int) -> list[str]:
    ranks = ", ".join(f"{arm} {rank:.2f}" for arm, rank in found.ranks.items())
    if found.friedman_p > found.alpha:
        apart = "no two are separable"
    elif found.groups:
        groups = "; ".join(" = ".join(group) for group in found.groups)
        apart = f"not separable from one another: {groups}"
    else:
        apart = "all are separable"
    return paragraph(
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
    unit = " in points" if is_share(of) else ""
    yield from paragraph(
        f"{task.task}: did the searches go on too long? The answer's {of}{unit} against the best "
        "earlier incumbent's (overtuning, and its share of what was gained), its validation figure "
        "(meta-overfitting), and the best of all trials (regret); means over search seeds, 95 % "
        "intervals from five on",
        width,
    )
    rows = [_search_row(row, of) for row in task.rows]
    yield from grid(rows, width, optional=["relative", "meta-overfitting"])


def _search_row(row: Row, of: str) -> dict[str, str]:
    relative = row.relative_overtuning
    return {
        "arm": row.arm,
        "overtuning": average_text(row.overtuning, of),
        "relative": BLANK if relative is None else f"{relative.mean:.2f}",
        "meta-overfitting": average_text(row.meta_overfitting, of),
        "regret": average_text(row.regret, of),
    }


def front_lines(task: TaskTable, width: int) -> Iterator[str]:
    """How large the fronts became, where the arms search for the same scores."""
    if not task.volumes:
        return
    first = task.volumes[0]
    point = ", ".join(map(number, first.reference))
    yield ""
    yield from paragraph(
        f"{task.task}: hypervolume of the Pareto front up to the reference point ({point}), larger "
        "is better; means over search seeds, after so many epochs charged",
        width,
    )
    rows = [
        {"arm": own.arm, "n": str(own.n)}
        | {tally(e): number(v) for e, v in zip(own.epochs, own.volume, strict=True)}
        for own in task.volumes
    ]
    yield from grid(rows, width, optional=[])


def answer_lines(task: TaskTable, width: int) -> Iterator[str]:
    """What each search's answer is worth, and how sure that is."""
    rows = [_answer_row(row.arm, given) for row in task.rows for given in row.answers]
    if not rows:
        return
    yield ""
    more = len(rows) - MOST_ANSWERS
    rest = f"; {more:,} more with --json" if more > 0 else ""
    yield from paragraph(f"{task.task}: how sure is each answer? {ANSWERS}{rest}", width)
    yield from grid(rows[:MOST_ANSWERS], width, optional=["seed", "trial", "by", "samples"])


def _answer_row(arm: str, given: Answer) -> dict[str, str]:
    found = given.figure
    row = {"arm": arm, "seed": str(given.seed), "trial": str(given.trial)}
    if isinstance(found, str):
        return {**row, "worth": "not known", "by": BLANK, "samples": BLANK, "validation is": BLANK}
    samples = BLANK if found.samples is None else f"{found.samples:,}"
    worth = {"worth": value_text(found, ""), "by": found.by, "samples": samples}
    return {**row, **worth, "validation is": gap_text(found) or BLANK}


def validity_lines(found: Comparison, task: TaskTable, width: int) -> Iterator[str]:
    if not task.validity:
        return
    of = str(found.judged_by)
    yield ""
    yield from paragraph(
        f"{task.task}: does a rule find what is good? Every objective, then every metric, against "
        f"the {of} of the same trials, by study, averaged over search seeds; ρ Spearman, τ "
        "Kendall (95 % intervals from five seeds on), the share of the best 5 and 10 found (in "
        "brackets what as many trials drawn at random would find in the mean), the "
        "regret of its lowest and of its highest trial (both said, because a measure's sign is "
        "not known beforehand)",
        width,
    )
    rows = [_validity_row(rule, of) for rule in task.validity]
    yield from grid(rows, width, optional=["τ", "top 5", "top 10", "highest's"])


def _validity_row(rule: RuleValidity, of: str) -> dict[str, str]:
    return {
        "rule": rule.rule,
        "ρ": correlation_text(rule.spearman),
        "τ": correlation_text(rule.kendall),
        **{f"top {k}": found_text(rule, k) or BLANK for k in TOP},
        "regret": average_text(rule.regret, of),
        "highest's": BLANK if rule.objective else average_text(rule.regret_highest, of),
    }


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
        *paragraph(
            f"{task.task}: does the subset's order hold on all of the data? Of {retrained}, "
            f"figures on the subset against test errors: {'; '.join(texts)}",
            width,
        ),
    ]
