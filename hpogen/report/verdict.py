"""The last lines of a run: what was chosen, on what evidence, and the next command to type.

The command line prints them. One search never says which of two objectives is better: nor do they.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from hpogen.analysis.truth import held_out, truth_in
from hpogen.record.history import History, Record
from hpogen.report.picture import mishaps, results
from hpogen.report.race import sentences
from hpogen.report.text import (
    configuration,
    count,
    error_text,
    folder_and_next,
    labelled,
    number,
    paragraph,
    sentence,
    tally,
)
from hpogen.spec import StudySpec
from hpogen.study.read import AnyStudy
from hpogen.study.standing import Standing, commonest, nearest, rule, standing
from hpogen.tasks.errors import is_share

LIMIT = "One search does not show which of them is better."
FAR_WORSE = "On the audit images the first of them is far worse."
HARDLY_LEARNED = "A small AGN can also mean that a network has hardly learned: see scale: log."
FAR = 0.1  # of a share, and twice the other's error: no luck of one search


def verdict(
    study: AnyStudy,
    ended: str,
    next_commands: Sequence[str],
    width: int,
) -> list[str]:
    """How it `ended`, the choice with its evidence, the best trial, what to type next."""
    history, now = study.history, standing(study)
    lines = ["", *paragraph(f"{ended}: {_counted(history, now)}", width)]
    if now.best is not None:
        lines += ["", *paragraph(choice(study.spec, now), width), ""]
        lines += labelled("best", f"trial {now.best.trial.id}: {results(now.best)}", width)
        lines += labelled("", configuration(now.best.trial.config), width)
        lines += labelled("worth", _worth(study, now.best), width)
        for text in untrusted(study):
            lines += ["", *paragraph(text, width)]
    elif why := _unanswered(study, now, width):
        lines += ["", *why]
    return lines + folder_and_next(study.directory, next_commands)


def _worth(study: AnyStudy, answer: Record) -> str:
    from hpogen.analysis.figure import figure  # scipy
    from hpogen.report.figure import figure_text

    return figure_text(figure(study, answer))


def _unanswered(study: AnyStudy, now: Standing, width: int) -> list[str]:
    """Why there is no answer, as far as that is known."""
    reason = commonest(study.history)
    far = nearest(study.history, study.spec.ladder[-1])
    texts = [*(sentences(now.race) if now.race else ()), far, str(reason or "")]
    texts = [text for text in texts if text]
    return labelled("why", "; ".join(texts), width) if texts else []


def ending(spec: StudySpec, end: str, trials: int, text: str) -> str:
    """How a run of `runner.run` ended, in words. `text` is what stopped it, where something did."""
    if end == "finished":
        return f"{spec.name} finished" if trials else f"{spec.name} had finished, nothing changed"
    if end == "errors":
        limit = spec.limits.max_consecutive_errors
        return f"{spec.name} stopped itself after {count(limit, 'error')} in a row, {text}"
    if end == "lost":
        return f"{spec.name} stopped itself: its worker died too often, {text}"
    if end in ("broken", "cluster"):
        return f"{spec.name} stopped itself: {text}"
    return f"{spec.name} stopped" + (" in time" if end == "time" else "")


def next_commands(history: History, directory: str, end: str, program: str) -> list[str]:
    """What to type next."""
    goes_on = [command(program, "resume", directory)] * (end != "finished")
    reason = commonest(history)
    if reason is not None and (reason.every or end == "errors"):
        return [command(program, "show", directory, str(reason.trial)), *goes_on]
    return goes_on or [command(program, "best", directory)]


def choice(spec: StudySpec, now: Standing) -> str:
    """The choice, what validation loss alone would have chosen, the baselines; the race."""
    race = [f"{text}." for text in sentences(now.race)] if now.race else []
    return " ".join(["; ".join(_clauses(spec, now)) + ".", *race, *_comment(spec, now)])


def untrusted(study: AnyStudy) -> list[str]:
    """The sentences of `analysis.cautions.cautions` about one study."""
    from hpogen.analysis.cautions import cautions  # scipy

    return [sentence(text) for text in cautions([study])]


def _comment(spec: StudySpec, now: Standing) -> list[str]:
    """What follows from the choice and its rival, and what does not."""
    if now.best is None or now.by_validation is None or now.best is now.by_validation:
        return []
    truth = truth_in(spec, now.best)
    ours, other = (held_out(r, truth) for r in (now.best, now.by_validation))
    least = FAR if truth and is_share(truth.text) else 0.0
    if ours is None or other is None or ours < max(other + least, 2 * other):
        return [LIMIT]
    raw = any(t.metric.startswith("agn") and t.scale == "raw" for t in spec.objective.terms)
    return [FAR_WORSE, *([HARDLY_LEARNED] if raw else [])]


def _clauses(spec: StudySpec, now: Standing) -> Iterator[str]:
    best, rival = now.best, now.by_validation
    if best is None:
        return
    yield f"{rule(spec)} chose {_named(spec, best, now)}"
    if now.alpha is not None:
        yield f"α came to {number(now.alpha)}"
    if now.front is not None:
        yield f"the front has {count(now.front, 'trial')}"
    if rival is best:
        yield "validation loss alone would have chosen the same"
    elif rival is not None:
        yield f"validation loss alone would have chosen {_named(spec, rival, now)}"
    for name, record in now.baselines.items():
        if record is not best and record is not rival:
            yield f"the baseline {name!r} is trial {record.trial.id} ({evidence(spec, record)})"


def _named(spec: StudySpec, record: Record, now: Standing) -> str:
    names = [repr(name) for name, other in now.baselines.items() if other is record]
    baseline = f", the baseline {' and '.join(names)}" if names else ""
    return f"trial {record.trial.id}{baseline} ({evidence(spec, record)})"


def evidence(spec: StudySpec, record: Record) -> str:
    """`val loss 0.398, audit error 8.9 %`; without these numbers, the score."""
    metrics = record.outcome.metrics if record.outcome else {}
    truth = truth_in(spec, record)
    parts = [f"val loss {number(metrics['val_loss'])}"] if "val_loss" in metrics else []
    if truth is not None and (error := held_out(record, truth)) is not None:
        of = truth.on("audit")
        parts.append(f"{of} {error_text(error, of)}")
    return ", ".join(parts) or f"score {number(record.score)}"


def command(program: str, *words: str) -> str:
    """A command as it is typed."""
    return f"{program} {shlex.join(words)}"


def _counted(history: History, now: Standing) -> str:
    epochs = f"{_of(history.charged, history.stop['epochs'], 'epoch')} charged"
    trials = _of(now.told, history.stop["trials"], "trial")
    done = f"{trials}{mishaps(now)}, {epochs}, {tally(history.trained)} trained"
    if hours := history.stop.get("hours"):
        done += f", {history.hours:.2g} of {hours:g} hours"
    if history.ended == "duplicates":
        done += "; nothing new was proposed any more"
    return done


def _of(done: float, limit: int | None, what: str) -> str:
    """`5 trials`, or `5 of 32 trials` where that is not all."""
    if limit is None or done >= limit:
        return count(done, what)
    return f"{tally(done)} of {limit:,} {what}s"
