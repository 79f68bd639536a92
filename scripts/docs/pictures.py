"""The pictures of the README, from the real thing: python scripts/docs/pictures.py [CHROMIUM]

Runs studies/quickstart.yaml and studies/matrix.yaml, and writes docs/pictures/terminal.svg (what a
terminal shows) and report.png (the page of `hpogen report`, by a Chromium).
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

import hpogen
from hpogen.executors.inline import InlineExecutor
from hpogen.report.html.page import write_report
from hpogen.report.live import Screen, Table
from hpogen.report.verdict import ending, next_commands, verdict
from hpogen.study.open import open_studies

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
WIDTH, PIXELS = 92, (1100, 2040)
SHOWN = 20  # the trial at which the live table is taken


class Camera(Screen):
    """A screen that keeps what the table shows."""

    def __init__(self) -> None:
        self.taken: list[Text] = []

    def draw(self, make: Callable[[int, str], Text], stopping: bool) -> None:
        self.taken.append(make(WIDTH, ""))


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    chromium = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium")
    if not chromium:
        sys.exit("there is no chromium here: name one, or apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        terminal()
        report(chromium)
    for path in sorted(PICTURES.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def terminal() -> None:
    """The live table in the middle of the quickstart, and what is said at its end."""
    camera = Camera()
    directory = "runs/quickstart"
    with hpogen.open_study(ROOT / "studies/quickstart.yaml", directory) as study:
        table = Table(study, camera)
        result = hpogen.run(study, observer=table)
        middle = next(t for t in camera.taken if f"{SHOWN} / 32" in t.plain)
        commands = next_commands(study.history, directory, result.end, "hpogen")
        end = ending(study.spec, result.end, result.trials, result.text)
        lines = [*verdict(study, end, commands, WIDTH)]
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print("[bold green]$[/] hpogen run studies/quickstart.yaml\n")
    console.print(middle)
    console.print("[dim]…[/]")
    for line in lines:
        console.print(Text(line))
    svg = console.export_svg(title="hpogen")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # they would be fetched
    (PICTURES / "terminal.svg").write_text(svg.replace("Fira Code, ", ""))


def report(chromium: str) -> None:
    """The top of the page that compares the arms of studies/matrix.yaml."""
    found = hpogen.load_studies(ROOT / "studies/matrix.yaml")
    runs = Path("runs/matrix")
    studies = open_studies({runs / spec.name: spec for spec in found.specs})
    hpogen.run_all(studies, InlineExecutor())
    for study in studies:
        study.close()
    page = write_report([runs], Path("report.html"), "cmaes__agn+val-log - cmaes__val").absolute()
    shot = page.with_suffix(".png")
    size = ",".join(map(str, PIXELS))
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
    subprocess.run([chromium, *options, f"--screenshot={shot}", page.as_uri()], check=True)
    colours = Image.open(shot).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    colours.save(PICTURES / "report.png", optimize=True)


if __name__ == "__main__":
    main()
