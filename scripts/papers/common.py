"""What the scripts of the papers share: their options, their tables and pictures, their figures.

    scripts/papers/NAME.py [--scale small|paper] [--out FOLDER] [--data FOLDER] [--device auto]

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

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from hpogen.errors import UserError
from hpogen.executors.choice import Where
from hpogen.executors.inline import resolve_device

STUDIES = Path(__file__).resolve().parents[2] / "studies" / "papers"
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


def call(main: Callable[[], None]) -> None:
    """Run a script; what its user can mend is one line."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")


def options(description: str | None, *, workers: bool = False) -> argparse.ArgumentParser:
    """The options that all scripts have, or all that train by workers; a script adds its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", default="small", choices=["tiny", "small", "paper"])
    parser.add_argument("--out", type=Path, default=Path("runs/papers"))
    parser.add_argument("--data", metavar="FOLDER", help="where the data sets are, or will be")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto")
    if workers:
        parser.add_argument("--workers", type=int, metavar="N", help="trainings at a time")
    return parser


def begin(name: str, given: argparse.Namespace) -> Run:
    """The run that the command line asks for; its folder is there."""
    if given.data:
        os.environ["HPOGEN_DATA"] = given.data
    given.out.mkdir(parents=True, exist_ok=True)
    device, workers = resolve_device(given.device), getattr(given, "workers", None)
    return Run(name, given.scale, given.out, device, workers)
