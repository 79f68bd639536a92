"""What `hpogen retrain` found: test accuracy of the answer and the baselines.

`cli/drive.py` prints it when a run ends.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from hpogen.analysis.trials import images_behind
from hpogen.analysis.truth import held_out
from hpogen.record.history import Record
from hpogen.report.table import grid
from hpogen.report.text import (
    BLANK,
    configuration,
    folder_and_next,
    next_lines,
    number,
    paragraph,
    percent,
)
from hpogen.report.verdict import command
from hpogen.study.read import RETRAIN, Folder
from hpogen.study.retrained import Retrained, Run
from hpogen.study.standing import chosen


@dataclass(frozen=True)
class Figure:
    """What the runs are told by: the accuracy in percent, else the error that judges them."""

    title: str
    of: Callable[[Run], float]
    text: Callable[[float], str]
    unit: str
    better: int  # 1: the higher, −1: the lower


ACCURACY = Figure("test accuracy", lambda run: 100 * run.accuracy, lambda x: f"{x:.2f}", " %", 1)


def figure_of(found: Iterable[Retrained]) -> Figure:
    """That of all runs: of one study's, so that they have the same."""
    judged = next((run.judged for one in found for run in one.runs), None)
    if judged is None or judged.metric == "accuracy":
        return ACCURACY
    return Figure(judged.on("test"), attrgetter("error"), number, "", -1)


CAPTION = (
    "n seeds of training each, ± their standard deviation. They do not tell how much the search "
    "itself owes to luck: that takes more searches."
)


def page(
    directory: Path,
    found: Sequence[Retrained],
    width: int,
    subset: float = 1.0,
    notes: Iterable[str] = (),
) -> list[str]:
    """Who does better; a row per configuration: who it is, n, test accuracy (or error) and loss,
    mean ± sd; then what it is.

    `subset` is the share of the training images that the search trained on, `notes` are further
    sentences.
    """
    figure = figure_of(found)
    rows = [
        {
            "": name(one),
            "n": f"{one.n}/{one.asked}" if one.n < one.asked else str(one.n),
            figure.title: _spread(one, figure.of, figure.text, figure.unit),
            "test loss": _spread(one, attrgetter("loss"), number),
            "failed": ", ".join(
                f"{n} {kind}" for kind, n in Counter(one.failures.values()).items()
            ),
        }
        for one in found
    ]
    lines = [f"{directory}: trained on the full training set, tested on the standard test set"]
    told = [*who_wins(found, subset), *notes]
    lines += [line for text in told for line in paragraph(text, width)]
    lines += grid(rows, width, ["test loss", "failed"], json=False)
    lines.append("")
    for one in found:
        lines += paragraph(f"{name(one)}: {configuration(one.choice.config)}", width)
    return ["", *lines, "", *paragraph(CAPTION, width)]


def who_wins(found: Sequence[Retrained], subset: float) -> Iterator[str]:
    """A sentence for each baseline that is not the answer, where both have runs.

    Of the mean test accuracies or errors; no claim of significance.
    """
    answer = next((one for one in found if one.choice.is_answer and one.n), None)
    if answer is None:
        return
    for other in found:
        if other.choice.baselines and other is not answer and other.n:
            yield _who_wins(answer, other, subset, figure_of(found))


def worse_than_before(study: Folder, found: Sequence[Retrained], program: str) -> Iterator[str]:
    """A sentence where the answer does worse on all data than its trial did on the subset.

    That is where its test error is above the trial's audit error by more than two standard errors:
    of both sets of images, which are different ones, and of the seeds.
    """
    answer = next((one for one in found if one.choice.is_answer and one.n), None)
    record = chosen(study)
    if answer is None or record is None or answer.runs[0].judged.metric != "accuracy":
        return
    before = held_out(record, answer.runs[0].judged)
    if before is None:
        return
    after = 1 - statistics.fmean(run.accuracy for run in answer.runs)
    images = (images_behind([1 - before]), images_behind([run.accuracy for run in answer.runs]))
    variances = [e * (1 - e) / n for e, n in zip((before, after), images, strict=True) if n]
    of_seeds = (answer.sd(attrgetter("accuracy")) or 0.0) ** 2 * (1 + 1 / answer.n)
    if after - before <= 2 * math.sqrt(sum(variances) + of_seeds):
        return
    text = (
        f"On all data the answer does worse than on the subset: {percent(after)} test error "
        f"against {percent(before)} audit error; it may not be stable there"
    )
    if study.spec.finalists is None:
        yield f"{text}."
    else:
        next_one = command(program, "retrain", str(study.directory), "--fallback")
        yield f"{text}. The next finalist: {next_one}"


def _who_wins(answer: Retrained, baseline: Retrained, subset: float, figure: Figure) -> str:
    named = f"the baseline {' and '.join(map(repr, baseline.choice.baselines))}"
    ours, theirs = (statistics.fmean(map(figure.of, one.runs)) for one in (answer, baseline))
    of = "" if figure is ACCURACY else f"{figure.title} "

    def said(x: float) -> str:
        return f"{figure.text(x)}{figure.unit}"

    if said(ours) == said(theirs):
        text = f"On the test set the answer does no better and no worse than {named}: {of}"
        return f"{text}{said(ours)}."
    pair = [("the answer", ours), (named, theirs)]
    (better, first), (worse, other) = sorted(pair, key=lambda who: -figure.better * who[1])
    text = f"On the test set {better} does better than {worse}: {of}{said(first)} against "
    text += said(other)
    text += _by_how_much(abs(first - other), [one.sd(figure.of) for one in (answer, baseline)])
    if better != "the answer" and subset < 1:
        text += (
            f" (the search trained on {percent(subset)} of the training images; its choice need "
            "not be right for all of them)"
        )
    return f"{text}."


def _by_how_much(difference: float, sds: Sequence[float | None]) -> str:
    """Whether the means lie within one standard deviation of each; of one seed nobody knows."""
    known = [sd for sd in sds if sd is not None]
    if len(known) < len(sds):
        return ", which may be less than the seeds' own spread: that takes two seeds of each"
    return ", by less than the seeds' own spread" if difference <= sum(known) else ""


def name(one: Retrained) -> str:
    """`the answer, baseline practice`, or `trial-9, not the answer now`."""
    baselines = [f"baseline {name}" for name in one.choice.baselines]
    names = [*(["the answer"] if one.choice.is_answer else []), *baselines]
    return ", ".join(names) or f"{one.choice.label}, not the answer now"


def _spread(
    one: Retrained,
    value: Callable[[Run], float | None],
    text: Callable[[float], str],
    unit: str = "",
) -> str:
    """`97.31 ± 0.24 %`, both with the mean's digits; of one run without ±."""
    mean, sd = one.mean(value), one.sd(value)
    if mean is None:
        return "" if one.n else BLANK
    shown = text(mean)
    if sd is None:
        return shown + unit
    places = len(shown.partition(".")[2])
    return f"{shown} ± {number(sd) if 'e' in shown else f'{sd:.{places}f}'}{unit}"


def last_lines(
    directory: Path, stopped: Sequence[str], program: str, width: int, several: bool = False
) -> list[str]:
    """What stopped whom, the folder, and what to type next: of several studies, to compare them."""
    lines = [line for why in stopped for line in paragraph(why, width)]
    verb = "retrain" if stopped else "compare" if several else "report"
    goes_on = command(program, verb, str(directory))
    return ["", *lines, *folder_and_next(directory / RETRAIN, [goes_on])]


def again_lines(
    study: Folder,
    runs: Sequence[tuple[int, Sequence[Record], str]],
    program: str,
    *,
    ensemble: bool = False,
) -> list[str]:
    """Whether trials that were trained once more have come out the same, and what to type next.

    `runs` are the trial, the records of the study that trained it again, and how that ended;
    `ensemble`: whether they are the ensemble's.
    """
    directory, lines, ended = str(study.directory), [""], True
    for trial, records, text in runs:
        now = records[0].outcome if records else None
        ended = ended and now is not None and bool(now.metrics)
        lines.append(f" {_again(study, trial, now.metrics) if now and now.metrics else text}")
    which = ["--ensemble"] if ensemble else ["--trial", str(runs[0][0])]
    predict = command(program, "predict", directory, "FILES", *which)
    again = command(program, "retrain", directory, *which, "--subset")
    return [*lines, *next_lines([predict if ended else again])]


def _again(study: Folder, trial: int, now: Mapping[str, float]) -> str:
    before = study.history.records[trial].outcome
    metrics = before.metrics if before else {}
    other = [name for name in sorted(now) if metrics.get(name, now[name]) != now[name]]
    same = f"other numbers: {', '.join(other)}" if other else "the same numbers"
    return f"trial {trial} was trained once more, with {same}"
