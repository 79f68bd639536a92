"""What the scripts of the papers share: their options, their tables and pictures, their figures.

    python scripts/papers/NAME.py [--scale small|paper] [--out FOLDER] [--data FOLDER] [--device …]

Each writes `FOLDER/NAME….csv` and `….png`, and `FOLDER/NAME.json` with its figures beside the
paper's, the sizes, the seconds and the versions. `tiny` is for the tests: it shows that a script
runs, and nothing else.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from hpogen.errors import UserError
from hpogen.executors.choice import Where
from hpogen.executors.inline import resolve_device

STUDIES = Path(__file__).resolve().parents[2] / "studies" / "papers"
INTERRUPTED = 130  # the exit status, as a shell has it for SIGINT
FEWEST = 3  # points, for a correlation

Scale = Literal["tiny", "small", "paper"]
PACKAGES = ("torch", "numpy", "cma", "optuna", "pyswarms", "hpbandster")


@dataclass(frozen=True)
class Beside:
    """One figure of ours beside the paper's; `theirs` is None where the paper gives none."""

    what: str
    ours: float | None
    theirs: float | None
    note: str = ""


@dataclass
class Run:
    """One run of a script: its options, and what it has found so far."""

    name: str
    scale: Scale
    out: Path
    device: str
    workers: int | None = None  # trainings at a time, where that was asked for
    began: float = field(default_factory=time.monotonic)
    sizes: dict[str, Any] = field(default_factory=dict)  # data set, images, epochs, seeds, …
    figures: list[Beside] = field(default_factory=list)

    def pick(self, **by_scale: Any) -> Any:
        """The value for the scale: `run.pick(tiny=2, small=20, paper=160)`."""
        return by_scale[self.scale]

    def where(self) -> Where:
        """One training at a time on the device, or by workers of a local Ray: two for `small`."""
        workers = self.workers or self.pick(tiny=1, small=2, paper=1)
        if workers == 1:
            return Where(self.device)
        return Where("cpu" if self.device == "cpu" else "auto", workers)  # Ray deals out GPUs

    def table(self, rows: Sequence[Mapping[str, Any]], suffix: str = "") -> None:
        """Write rows with the same keys as a CSV file."""
        with open(self.out / f"{self.name}{suffix}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def picture(self, figure: Figure, suffix: str = "") -> None:
        """Write a picture; what it shows stands in its title."""
        figure.tight_layout()
        figure.savefig(self.out / f"{self.name}{suffix}.png", dpi=80)
        pyplot.close(figure)

    def finish(self) -> None:
        """Print our figures beside the paper's, and write them with what they were taken with."""
        seconds = time.monotonic() - self.began
        versions = {package: version(package) for package in PACKAGES}
        (self.out / f"{self.name}.json").write_text(
            json.dumps(
                {
                    "scale": self.scale,
                    "sizes": self.sizes,
                    "figures": [asdict(figure) for figure in self.figures],
                    "seconds": round(seconds, 1),
                    "device": self.device,
                    "cores": os.cpu_count(),
                    "versions": {"python": platform.python_version(), **versions},
                },
                indent=1,
            )
        )
        print(f"{self.name}, scale {self.scale}, {self.sizes}, {seconds:.0f} s")
        for line in lines(self.figures):
            print(line)


def lines(figures: Iterable[Beside]) -> Iterable[str]:
    yield f"  {'':<56}{'ours':>10}{'paper':>10}"
    for figure in figures:
        ours, theirs = (
            "–" if value is None else f"{value:.4g}" for value in (figure.ours, figure.theirs)
        )
        yield f"  {figure.what:<56}{ours:>10}{theirs:>10}  {figure.note}".rstrip()


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's r; None where it is not defined: fewer than three points, or a constant."""
    if np.size(x) < FEWEST or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's τ-b, which a single large value cannot rule; None where it is not defined."""
    return None if pearson(x, y) is None else float(stats.kendalltau(x, y).statistic)


def shown(r: float | None) -> str:
    return "not defined" if r is None else f"{r:+.3f}"


def call(main: Callable[[], None]) -> None:
    """Run a script; what its user can mend, or has stopped, is one line."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it is written, and each option's default."""


def _workers(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected 1 or more")
    return number


def options(description: str | None, *, workers: bool = False) -> argparse.ArgumentParser:
    """The options that all scripts have, or all that train by workers; a script adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=_Help)
    add = parser.add_argument
    scales = "minutes on two cores, or the paper's own for a GPU; tiny is for the tests"
    add("--scale", default="small", choices=["tiny", "small", "paper"], help=scales)
    folder = "where its files, and the studies that it runs, are kept"
    add("--out", type=Path, default=Path("runs/papers"), metavar="FOLDER", help=folder)
    cache = "HPOGEN_DATA, else the cache folder"
    data = f"where the data sets are, or will be, if any (default: {cache})"
    add("--data", metavar="FOLDER", help=data, default=argparse.SUPPRESS)
    add("--device", default="auto", help="cpu, cuda, cuda:1, or auto")
    if workers:
        at_a_time = "trainings at a time (default: 2 for small, else 1, if nothing else is said)"
        add("--workers", type=_workers, metavar="N", help=at_a_time, default=argparse.SUPPRESS)
    return parser


def begin(name: str, given: argparse.Namespace) -> Run:
    """The run that the command line asks for; its folder is there.

    Raises UserError for a folder that cannot be made, or a device that is not there.
    """
    if "data" in given:
        os.environ["HPOGEN_DATA"] = given.data
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {given.out}: {error.strerror}") from error
    device, workers = resolve_device(given.device), getattr(given, "workers", None)
    return Run(name, given.scale, given.out, device, workers)
