"""The pictures of `hpogen rescore`: α, and the number of labels, against what would be chosen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpogen.analysis.rescoring import Rescoring
from hpogen.errors import UserError, explained
from hpogen.record.folder import replace_file
from hpogen.report.compare_figures import shown, unit
from hpogen.report.html.drawing import log_ticks
from hpogen.report.text import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by the colour-blind and in grey; validation alone has the first
COLOURS = ("#000000", "#1265b8", "#be6248", "#9c9506", "#0f591b")
ORACLE = "#767676"
PANEL = (6.4, 4.0)  # inches
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "hpogen", "font.size": 10}


def check_plot_path(path: Path) -> None:
    """Raise UserError unless a picture can be written there."""
    if path.suffix != ".svg":
        raise UserError(f"--plot: got {str(path)!r}, expected a file that ends in .svg")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--plot: {path.parent} is no folder: make it first")


def rescore_svg(found: Rescoring) -> bytes:
    """A panel for α, and one for labels where they were asked; the same bytes for the same data.

    Raises UserError where there is nothing to draw: no audit, or neither of the two.
    """
    if not found.judged_by:
        raise UserError(f"{found.study}: without audit images there is nothing to draw")
    panels = [draw for draw, rows in ((_alpha, found.alphas), (_labels, found.labels)) if rows]
    if not panels:
        raise UserError(
            f"{found.study}: nothing to draw: its objective has no α to vary; name another with "
            "--objective, or numbers of labels with --validation"
        )
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        size = (PANEL[0] * len(panels), PANEL[1])
        figure = Figure(figsize=size, layout="constrained")
        for axes, draw in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            draw(axes, found)
            axes.set_ylabel(f"{found.judged_by} of the choice{unit(found.judged_by)}")
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False)
        figure.suptitle(_caption(found), fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def write_svg(found: Rescoring, path: Path) -> None:
    """Write the pictures, whole or not at all. Raises UserError."""
    data = rescore_svg(found)
    with explained(f"--plot: {path}", UserError):
        replace_file(path, data)


def _alpha(axes: Axes, found: Rescoring) -> None:
    """α (log) against the audit figure; what has no α as lines across."""
    points = [at for at in found.alphas if at.alpha > 0 and at.choice.held_out is not None]
    label = found.weighed.partition(" (")[0]
    values = [shown(at.choice.held_out, found.judged_by) for at in points]
    axes.plot([at.alpha for at in points], values, ".-", color=COLOURS[1], label=label)
    if found.validation is not None and found.validation.held_out is not None:
        alone = shown(found.validation.held_out, found.judged_by)
        axes.axhline(alone, color=COLOURS[0], linewidth=1, label="validation loss alone")
    _draw_oracle(axes, found)
    axes.set_xscale("log")
    axes.set_xlabel("α: weight of the measure")


def _labels(axes: Axes, found: Rescoring) -> None:
    """The number of labels (log) against the mean audit figure, with the middle 95 % shaded."""
    rules = dict.fromkeys(row.rule for row in found.labels)
    alone = found.validation.rule if found.validation else ""
    ordered = sorted(rules, key=lambda rule: (rule != alone, rule != found.weighed))
    for rule, colour in zip(ordered, COLOURS[0 if alone in rules else 1 :], strict=False):
        rows = [row for row in found.labels if row.rule == rule and row.interval]
        sizes = [row.images for row in rows]
        means = [shown(row.held_out, found.judged_by) for row in rows]
        bounds: Sequence[tuple[Any, Any]] = [
            (row.interval.low, row.interval.high) for row in rows if row.interval
        ]
        axes.plot(sizes, means, ".-", color=colour, label=rule)
        low, high = ([shown(pair[k], found.judged_by) for pair in bounds] for k in (0, 1))
        axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0)
    _draw_oracle(axes, found)
    log_ticks(axes, sorted({row.images for row in found.labels}))
    axes.set_xlabel("validation labels")


def _draw_oracle(axes: Axes, found: Rescoring) -> None:
    if found.oracle is not None and found.oracle.held_out is not None:
        least = shown(found.oracle.held_out, found.judged_by)
        axes.axhline(least, color=ORACLE, linewidth=1, linestyle="--", label="oracle")


def _caption(found: Rescoring) -> str:
    about = f"{found.study}: {count(found.trials, 'trial')}, {found.searcher}"
    parts = [f"{about}{', selection only' if found.adaptive else ''}"]
    if found.labels:
        most = max(row.subsamples for row in found.labels)
        parts.append(f"shaded: middle 95 % of {count(most, 'random sub-sample')}")
    return "; ".join([*parts, "y begins where the data do"])
