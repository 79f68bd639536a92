"""What `hpogen learn` tells: the model, its measures' signs, and its figures on tasks left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpogen.report.table import grid
from hpogen.report.text import BLANK, count, error_text, next_lines, paragraph
from hpogen.report.verdict import command
from hpogen.spec.learned import Boosted, Figure, LearnedObjective, LeftOut, Target

SHOWN = (50, 250, 1000)  # labels, beside all that there are
ALL = "validation loss, all labels"
LEARNED = "the learned objective"
TARGETS: Mapping[Target, str] = {
    "error": "the rank of the audit error",
    "gap": "the gap, audit error − training error",
    "retrained": "the rank of the test error after retraining",
}


def learned_page(
    found: LearnedObjective, out: str, folder: str, width: int, program: str
) -> list[str]:
    """The model; its measures; what it came to on tasks left out; then the next command."""
    trials = sum(one.trials for one in found.studies)
    about = (
        f"Learned {TARGETS[found.target]}, from {count(trials, 'trial')} of "
        f"{count(len(found.studies), 'study')} of {count(len(found.tasks), 'task')}, by "
        f"{model_text(found)}; written to {out}."
    )
    lines = [*paragraph(about, width), "", *_measures(found, width)]
    if turning := [sentence(found, name) for name in found.turning()]:
        lines += ["", *(line for text in turning for line in paragraph(text, width))]
    lines += ["", *_left_out(found, width), "", *paragraph(" ".join(_verdicts(found)), width)]
    if found.dropped:
        lines += ["", *paragraph(_dropped(found.dropped), width)]
    form = f"{{preset: learned, model: {out}}}"
    return [*lines, *next_lines([command(program, "rescore", folder, "--objective", form)])]


def model_text(found: LearnedObjective) -> str:
    """`ridge (penalty 1)`, `60 boosted trees`, …"""
    model = found.model
    if isinstance(model, Boosted):
        return f"{len(model.trees)} boosted trees"
    if model.kind == "ridge":
        return f"ridge (penalty {model.penalty:g})"
    return "the linear model of ζ and κ (eq. 7)"


def sentence(found: LearnedObjective, measure: str) -> str:
    """That a measure turns its sign round between tasks."""
    clear = found.clear(measure)
    rises, falls = (" and ".join(clear[sign]) for sign in "+-")
    return (
        f"{measure} turns round: the target rises with it on {rises}, and falls on {falls}. Do not "
        "trust it on a new task."
    )


def _measures(found: LearnedObjective, width: int) -> list[str]:
    """Sorted by what they weigh; a boosted model has directions, and no coefficients."""
    model = found.model
    boosted = isinstance(model, Boosted)
    weights = model.signs if isinstance(model, Boosted) else model.coefficients
    rows = []
    for name in sorted(found.measures, key=lambda name: -abs(weights.get(name, 0))):
        clear, signs = found.clear(name), [*found.signs[name].values()]
        known = [one.correlation for one in signs if one.correlation is not None]
        ends = (f"{x:+.2f}" for x in (min(known), max(known))) if known else ()
        rows.append(
            {
                "measure": name,
                "made to" if boosted else "coefficient": _weight(weights.get(name, 0), boosted),
                "rises on": f"{len(clear.get('+', []))} of {len(signs)}",
                "falls on": f"{len(clear.get('-', []))} of {len(signs)}",
                "ρ": " to ".join(dict.fromkeys(ends)) or BLANK,
            }
        )
    title = "The measures; on how many tasks the target clearly rises or falls with each"
    return [*paragraph(title, width), *grid(rows, width, ["ρ"])]


def _weight(weight: float, boosted: bool) -> str:
    if not boosted:
        return f"{weight:+.3f}" if weight else BLANK
    return {1: "rise", -1: "fall"}.get(int(weight), BLANK)


def _left_out(found: LearnedObjective, width: int) -> list[str]:
    rows = [
        row for title, figures in by_rule(found).items() for row in [_row(found, title, figures)]
    ]
    title = "On each task, fitted to the others alone; means over the tasks"
    return [*paragraph(title, width), *grid(rows, width, ["tasks"])]


def by_rule(found: LearnedObjective) -> dict[str, list[Figure]]:
    """The figures of each rule on the tasks that have it."""
    tasks = found.left_out
    rules = {LEARNED: [one.learned for one in tasks]}
    for name in tasks[0].others:
        rules[name] = [one.others[name] for one in tasks]
    for labels in SHOWN:
        rules[f"validation loss, {labels:,} labels"] = _at(tasks, labels)
    rules[ALL] = [one.validation[max(one.validation)] for one in tasks if one.validation]
    return {title: figures for title, figures in rules.items() if figures}


def _at(tasks: Sequence[LeftOut], labels: int) -> list[Figure]:
    return [one.validation[labels] for one in tasks if labels in one.validation]


def _row(found: LearnedObjective, title: str, figures: Sequence[Figure]) -> dict[str, str]:
    known = [one.correlation for one in figures if one.correlation is not None]
    errors, regrets = ([getattr(f, name) for f in figures] for name in ("error", "regret"))
    return {
        "chosen by": title,
        "rank correlation": f"{sum(known) / len(known):+.2f}" if known else BLANK,
        found.judged_by: error_text(sum(errors) / len(errors), found.judged_by),
        "above the best": error_text(sum(regrets) / len(regrets), found.judged_by),
        "tasks": str(len(figures)),
    }


def _verdicts(found: LearnedObjective) -> list[str]:
    """With how many labels it chose better than validation loss, and what follows."""
    sizes = sorted({size for one in found.left_out for size in one.validation})
    if not sizes:
        return ["Without validation losses nothing says what the model is worth beside them."]
    better = [f"{size:,}" for size in sizes if found.beats(size)]
    worse = [f"{size:,}" for size in sizes if not found.beats(size)]
    said = []
    if better:
        said.append(f"It chose better than validation loss with {', '.join(better)} labels.")
    if worse:
        said.append(
            f"It did not with {', '.join(worse)}: of a study that has so many it is refused, but "
            "with force: true."
        )
    return said


def _dropped(dropped: Mapping[str, str]) -> str:
    return f"Left out: {', '.join(f'{name} ({why})' for name, why in dropped.items())}."
