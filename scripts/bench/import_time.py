"""How long `import hpogen` takes in a fresh interpreter, beside one that imports nothing.

.venv/bin/python scripts/bench/import_time.py [--rounds 11]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version


def seconds(statement: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    versions = f"hpogen {version('hpogen')}, Python {platform.python_version()}"
    print(f"{versions}, {os.cpu_count()} cores, {rounds} rounds interleaved")
    seconds("import hpogen")  # byte code
    pairs = [(seconds("pass"), seconds("import hpogen")) for _ in range(rounds)]
    cost = [after - before for before, after in pairs]
    print(f"import hpogen: median {statistics.median(cost):.3f} s, least {min(cost):.3f} s")


if __name__ == "__main__":
    main()
