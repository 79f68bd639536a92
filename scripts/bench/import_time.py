"""Processor time of what trains nothing: `import hpogen`, `hpogen --help`, `hpogen check`.

.venv/bin/python scripts/bench/import_time.py [--rounds 11]

In fresh interpreters, whose own start is included.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

STUDY = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
COMMANDS = {
    "an empty program": ["-c", "pass"],
    "import hpogen": ["-c", "import hpogen"],
    "hpogen --help": ["-m", "hpogen", "--help"],
    "hpogen check studies/quickstart.yaml": ["-m", "hpogen", "check", str(STUDY)],
}


def seconds(arguments: list[str]) -> float:
    """Of processor time, of the user and of the system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    versions = f"hpogen {version('hpogen')}, Python {platform.python_version()}"
    print(f"{versions}, {os.cpu_count()} cores, {rounds} rounds interleaved")
    for arguments in COMMANDS.values():
        seconds(arguments)  # byte code
    taken = [[seconds(arguments) for arguments in COMMANDS.values()] for _ in range(rounds)]
    for name, column in zip(COMMANDS, zip(*taken, strict=True), strict=True):
        print(f"{name}: median {statistics.median(column):.2f} s, least {min(column):.2f} s")


if __name__ == "__main__":
    main()
