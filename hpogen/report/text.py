"""Numbers, times and configurations as people read them: rounded to what can be believed.

Everything that is printed for people is written with these; `--json` never is.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from hpogen.errors import UserError
from hpogen.tasks.errors import is_share
from hpogen.trial import Config, Rung, Trial, Value

BLANK = "–"  # where a figure is not known
WARM = "a promoted trial begins anew, with the weights of the rung below"
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
INDENT = 10  # the labels at the left: " running  "
LEAST_WIDTH = 20  # of a text, in columns
NARROW = "\N{NO-BREAK SPACE}"
UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}


def number(x: float) -> str:
    """A metric or score: three digits, two below 0.01: `0.412`, `1.02`, `12,346`, `2.0e-5`."""
    if x == 0 or 1000 <= abs(x) < 1e6:
        return f"{x:,.0f}"
    if 0.01 <= abs(x) < 1000:
        return f"{x:#.3g}".rstrip(".")
    return _scientific(f"{x:.1e}")


def value(x: Value) -> str:
    """A hyper-parameter: a float with two digits, or as many as it takes not to look whole."""
    if x is None:
        return "null"
    if isinstance(x, bool):
        return str(x).lower()
    if not isinstance(x, float):
        return str(x)
    if abs(x) >= 100:
        return f"{x:,.0f}" if abs(x) < 1e6 else _scientific(f"{x:.1e}")
    if 0 < abs(x) < 1e-3:
        return _scientific(f"{x:.1e}")
    texts = (f"{x:.{digits}g}" for digits in (2, 3, 4, 5))
    return next((text for text in texts if x == int(x) or "." in text), f"{x:.5g}")


def _scientific(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def error_text(x: float, of: str) -> str:
    """An error that is a share as `8.9 %`, else a number, `0.412`. `of` is what it is called."""
    return percent(x) if is_share(of) else number(x)


def configuration(config: Config) -> str:
    """`lr 0.031, batch size 212`: in the order of the search space."""
    return ", ".join(f"{words(name)} {value(x)}" for name, x in config.items())


def words(name: str) -> str:
    """`weight_decay` as two words."""
    return name.replace("_", " ")


def sentence(clause: str) -> str:
    """`a clause` as `A clause.`"""
    return f"{clause[:1].upper()}{clause[1:]}."


def count(n: float, what: str) -> str:
    """`1 trial`, `1,920 epochs`, `6 studies`, `12.5 epochs`."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{tally(n)} {what if n == 1 else plural}"


def tally(n: float) -> str:
    """A number of things, or of epochs on parts of the data: `1,920`, `12.5`."""
    return f"{n:,}" if isinstance(n, int) else f"{n:,.1f}".removesuffix(".0")


def rung(of: Rung) -> str:
    """`20 epochs`, `20 epochs on 5 % of the data`."""
    epochs = count(of.epochs, "epoch")
    return epochs if of.data is None else f"{epochs} on {share(of.data)} of the data"


def rung_cell(of: Rung) -> str:
    """The same in a table: `20`, `20 on 5 %`."""
    return f"{of.epochs}" if of.data is None else f"{of.epochs} on {share(of.data)}"


def share(data: float) -> str:
    """A fraction of the training set: `5 %`."""
    return f"{100 * data:.3g} %"


def again(trial: Trial, finalist: bool) -> str:
    """What a trial is that the study itself trains once more."""
    if finalist:
        return f"finalist, seed {trial.replicate}"
    return f"trained again, replicate {trial.replicate}"


def size_of(nbytes: int) -> str:
    """`2.70 kB`, `0.247 MB`, `44.9 MB`, `1.46 GB`, of a number of bytes."""
    unit, name = next(pair for pair in SIZES if nbytes >= pair[0] / 10 or pair is SIZES[-1])
    return f"{number(nbytes / unit)} {name}"


def duration(seconds: float) -> str:
    """The two largest units: `2 h 10 min`, `3 min 5 s`, `41 s`; `0.4 s` below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def seconds_of(text: str) -> float:
    """The seconds of `90s`, `30m`, `6h`, `1h30m` or `2d`. Raises UserError."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*(d|h|min|m|s)\s*", text.strip())
    if not parts or re.sub(r"\s", "", text) != "".join(n + unit for n, unit in parts):
        raise UserError(f"--for: got {text!r}, expected a time such as 90s, 30m, 6h or 1h30m")
    return sum(float(n) * UNITS[unit] for n, unit in parts)


def labelled(label: str, text: str, width: int | None = None) -> list[str]:
    """A label at the left and a text beside it, broken between words where a width is given."""
    if width is None:
        return [f" {label}".ljust(INDENT) + text]
    parts = textwrap.wrap(text, max(width - INDENT, LEAST_WIDTH), break_on_hyphens=False)
    return [f" {label if i == 0 else ''}".ljust(INDENT) + part for i, part in enumerate(parts)]


def paragraph(text: str, width: int) -> list[str]:
    """A text broken between words, but not before a `%`; a space before each line."""
    whole = text.replace(" %", f"{NARROW}%")
    lines = textwrap.wrap(whole, max(width - 1, LEAST_WIDTH), break_on_hyphens=False)
    return [f" {line}".replace(NARROW, " ") for line in lines]


def folder_and_next(folder: Path, commands: Sequence[str]) -> list[str]:
    """Where everything is, and what to type next."""
    return [*labelled("folder", str(folder)), *next_lines(commands)]


def next_lines(commands: Sequence[str]) -> list[str]:
    """What to type next: the first two of the commands."""
    pairs = zip(["next", ""], commands, strict=False)
    return [line for label, text in pairs for line in labelled(label, text)]


def bar(share: float, width: int) -> str:
    """A bar of `width` characters between two edges, in eighths: `▕███▌    ▏`."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return f"▕{('█' * full + ' ▏▎▍▌▋▊▉'[rest] * (rest > 0)).ljust(width)}▏"
