"""What is said of more data than was trained on: the losses by size, and what they predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hpogen.analysis.outlook import Outlook, Seen
from hpogen.report.table import grid
from hpogen.report.text import (
    BLANK,
    configuration,
    folder_and_next,
    number,
    paragraph,
    percent,
    share,
)
from hpogen.report.verdict import command
from hpogen.study.read import RETRAIN

if TYPE_CHECKING:
    from hpogen.analysis.extrapolation import Prediction

CAPTION = (
    "Validation losses, means over the seeds. The prediction is of one training on that share of "
    "the training set; 100 % is all of it, validation and audit among it, as hpogen retrain has "
    "it. A power law goes on as it began: docs/selection.md says when that is not to be trusted."
)


def outlook_page(
    directory: Path, found: Outlook | None, stopped: Sequence[str], width: int, program: str
) -> list[str]:
    """A row per configuration, what it is, the order, what stopped, what to type next."""
    lines = [f"{directory}: trained on parts of the training set, judged by the validation images"]
    if found is not None:
        lines += grid([*_rows(found)], width, [share(x) for x in found.sizes], json=False)
        lines += [""]
        for one in found.seen:
            lines += paragraph(f"{name(one)}: {configuration(one.sized.config)}", width)
        lines += ["", *(line for text in sentences(found) for line in paragraph(text, width)), ""]
        lines += paragraph(CAPTION, width)
    lines += [""] + [line for why in stopped for line in paragraph(why, width)]
    goes_on = command(program, "report", str(directory))
    return ["", *lines, *folder_and_next(directory / RETRAIN, [goes_on])]


def _rows(found: Outlook) -> Iterator[dict[str, str]]:
    for one in found.seen:
        means = {share(x): _mean(one.sized.losses(x)) for x in found.sizes}
        yield {"": name(one), **means, f"at {share(found.data)}": predicted(one.prediction)}


def _mean(losses: Sequence[float]) -> str:
    return number(fmean(losses)) if losses else BLANK


def name(one: Seen) -> str:
    """`the answer, trial 9`, or `trial 4`."""
    return f"{'the answer, ' if one.sized.is_answer else ''}trial {one.sized.trial}"


def predicted(found: Prediction | None) -> str:
    """`0.112 (95 %: 0.071 to 0.190)`."""
    if found is None:
        return BLANK
    interval = found.interval
    return f"{number(found.loss)} (95 %: {number(interval.low)} to {number(interval.high)})"


def sentences(found: Outlook) -> Iterator[str]:
    """What is not predicted and why, and whether the order of the first two holds."""
    if found.lacking:
        yield f"Nothing is predicted: {found.lacking}."
    for one in found.seen:
        if one.lacking:
            yield f"Nothing is predicted of {name(one)}: {one.lacking}."
    if found.order is not None:
        first, second = (f"trial {one.sized.trial}" for one in found.seen[:2])
        yield (
            f"The order of the first two holds at {share(found.data)} of the training set with a "
            f"probability of {percent(found.order)}: that {first} has a lower loss than {second} "
            f"there, each trained once."
        )


def outlook_data(found: Outlook) -> dict[str, Any]:
    """The same for YAML and JSON; `losses` are pairs of the fraction and a loss."""
    rows = [
        {
            "trial": one.sized.trial,
            "losses": [[x, loss] for x in one.sized.runs for loss in one.sized.losses(x)],
            "predicted": one.prediction and one.prediction.loss,
            "low": one.prediction and one.prediction.interval.low,
            "high": one.prediction and one.prediction.interval.high,
            "lacking": one.lacking,
        }
        for one in found.seen
    ]
    return {
        "data": found.data,
        "trials": rows,
        "order_holds": found.order,
        "lacking": found.lacking,
    }
