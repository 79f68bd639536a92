"""What `hpogen ensemble` tells, as text and data, and what `hpogen retrain --ensemble` adds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from hpogen.analysis.ensemble import Compared, Found, Worth, tested
from hpogen.record.provenance import version
from hpogen.report.figure import figure_data, value_text
from hpogen.report.table import grid
from hpogen.report.text import BLANK, count, labelled, next_lines, number, paragraph, percent
from hpogen.report.verdict import command
from hpogen.study.ensemble import Ensemble, Member, has_weights, named, read
from hpogen.study.read import Folder
from hpogen.study.retrained import Retrained


def ensemble_data(found: Found) -> dict[str, Any]:
    """All of it, as data that goes through JSON."""
    steps = ("trial", "value")
    return {
        "metric": found.metric,
        "size": found.size,
        "candidates": found.candidates,
        "left_out": [*found.left_out],
        "members": [{"trial": trial, "weight": w} for trial, w in found.weights.items()],
        "path": [dict(zip(steps, step, strict=True)) for step in found.path],
        "single": dict(zip(steps, found.single, strict=True)),
        "ensemble": _worth(found.worth),
        "answer": {"trial": found.answer, **_worth(found.answers)},
        "compared": {
            **asdict(found.compared),
            "better": found.compared.better,
            "said": compared_text(found.compared),
        },
    }


def _worth(worth: Worth) -> dict[str, Any]:
    return {**vars(worth), "figure": figure_data(worth.figure)}


def file_of(found: Found, study: Folder) -> Ensemble:
    """What is written down of it."""
    figures = ensemble_data(found)
    return Ensemble(
        hpogen=version("hpogen"),
        study=study.history.id,
        metric=found.metric,
        size=found.size,
        members=tuple(Member(trial=trial, weight=w) for trial, w in found.weights.items()),
        figures={key: figures[key] for key in ("path", "ensemble", "answer", "compared")},
    )


def ensemble_page(found: Found, study: Folder, width: int, program: str) -> list[str]:
    """Who is in it, what it is worth beside the answer, and what to type next."""
    about = f"{study.directory}: {count(len(found.picks), 'trial')} of {found.candidates} together,"
    lines = paragraph(f"{about} picked by validation {found.metric}", width)
    rows = [
        _row("the ensemble", found.worth, found.audited),
        _row(f"the answer, trial {found.answer}", found.answers, found.audited),
    ]
    lines += ["", *grid(rows, width, ["audit loss", "validation loss"]), ""]
    lines += paragraph(f"{compared_text(found.compared)}.", width)
    lines += ["", *labelled("trials", _members(found), width)]
    steps = ", ".join(_figure(found, value) for _, value in found.path)
    lines += labelled(f"by {found.metric}", f"{steps} after each pick, on validation", width)
    lines += [line for text in _notes(found) for line in paragraph(text, width)]
    return lines + next_lines(_next(found, study, program))


def _row(name: str, worth: Worth, audited: bool) -> dict[str, str]:
    figure, title = worth.figure, "audit error" if audited else "error out of bag"
    loss, error = worth.validation_loss, worth.validation_error
    return {
        "": name,
        title: BLANK if isinstance(figure, str) else value_text(figure),
        "validation error": BLANK if error is None else percent(error),
        "validation loss": BLANK if loss is None else number(loss),
        "audit loss": "" if worth.audit_loss is None else number(worth.audit_loss),
    }


def compared_text(compared: Compared) -> str:
    """Whether the ensemble is better, plainly, and by what that is known."""
    verdict = {True: "better than", False: "worse than", None: "not separable from"}
    error = f"its error is {_by(100 * compared.difference)}"
    if compared.alone is not None and compared.p is not None:
        mine, theirs = compared.alone
        return (
            f"By audit the ensemble is {verdict[compared.better]} the answer: {error}; "
            f"it alone is right on {count(mine, 'sample')}, the answer alone on "
            f"{theirs:,} (McNemar's exact test: p = {number(compared.p)})"
        )
    text = (
        f"Out of bag the ensemble is {verdict[compared.better]} the one trial that the same "
        f"samples choose: {error}"
    )
    if (at := compared.interval) is None:
        return text
    return f"{text} (95 %: {100 * at.low:+.1f} to {100 * at.high:+.1f})"


def _by(points: float) -> str:
    if f"{abs(points):.1f}" == "0.0":
        return "the same"
    return f"{abs(points):.1f} points {'lower' if points < 0 else 'higher'}"


def _members(found: Found) -> str:
    return ", ".join(f"{trial} × {n}" if n > 1 else str(trial) for trial, n in found.picks.items())


def _figure(found: Found, value: float) -> str:
    return number(value) if found.metric == "loss" else percent(value)


def _notes(found: Found) -> Iterator[str]:
    picks, members = len(found.path), len(found.picks)
    if picks < found.size:
        yield f"More than {count(picks, 'pick')} of {found.size} would not lower it."
    if members == 1:
        yield "It is one trial alone: no second one makes it better on the validation samples."
    else:
        yield f"It predicts with {members} networks: that takes {members} times as long as one."
    if not found.audited:
        yield (
            "There is no audit: all of it was repeated in bootstrap samples of the validation "
            "samples, and judged on those outside."
        )
    if found.left_out:
        yield f"Left out, as their probabilities are missing: {named(found.left_out)}."


def _next(found: Found, study: Folder, program: str) -> list[str]:
    directory = str(study.directory)
    if all(has_weights(study, trial) for trial in found.picks):
        predict = command(program, "predict", directory, "FILES", "--ensemble")
        return [predict, command(program, "retrain", directory, "--ensemble")]
    return [command(program, "retrain", directory, "--ensemble", "--subset")]


def retrained_text(study: Folder, found: Sequence[Retrained]) -> Iterator[str]:
    """The test accuracy of the retrained ensemble beside the answer's: means over seeds.

    No claim of significance. Nothing while a member lacks its retraining.
    """
    ensemble = read(study)
    accuracies = tested(study, ensemble)
    answer = next((one for one in found if one.choice.is_answer and one.n), None)
    if not accuracies:
        return
    text = f"On the test set the ensemble of {named(ensemble.trials)} has {_mean(accuracies)}"
    if answer is not None:
        text += f", the answer {_mean([run.accuracy for run in answer.runs])}"
    yield f"{text}."


def _mean(accuracies: Sequence[float]) -> str:
    """`97.31 ± 0.24 % accuracy (3 seeds)`; of one seed without ±."""
    spread = f" ± {100 * statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    seeds = count(len(accuracies), "seed")
    return f"{100 * statistics.fmean(accuracies):.2f}{spread} % accuracy ({seeds})"
