"""How long the command line takes to say something, beside an interpreter that does nothing.

::

    python tests/benchmarks/bench_start.py [--runs 10]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "workbench")


def seconds(command: list[str], runs: int) -> list[float]:
    """Return the wall time of each run, after one that warms the file cache."""
    took = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took.append(time.perf_counter() - start)
    return took[1:]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "workbench --help": [COMMAND, "--help"],
            "workbench jobs submit --help": [COMMAND, "jobs", "submit", "--help"],
            "workbench jobs list --json": [COMMAND, "jobs", "list", "--json", "--workspace", folder],
        }
        print(f"{'':<30} {'median':>8} {'least':>8} {'most':>8}   ({runs} runs, ms)")
        for name, command in cases.items():
            took = [1000 * one for one in seconds(command, runs)]
            print(f"{name:<30} {statistics.median(took):8.0f} {min(took):8.0f} {max(took):8.0f}")


if __name__ == "__main__":
    main()
