"""What is kept of a chatty notebook, beside papermill in the same process; and what it costs.

Run by hand on a quiet machine, never by the tests::

    python tests/benchmarks/bench_output.py [--quick] [--json]

Two notebooks: one prints flushed lines through ``logging``, one prints 200 MB of plain lines. For each way of
running them: lines kept in order, failures, wall time; and the peak resident memory of the process that runs
the notebook (not of its kernel), each measured in a process of its own (on Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

FLUSHED = """import logging
logging.basicConfig(level="INFO", format="%(message)s")
for number in range({lines}):
    logging.info("step %d loss 0.123", number)
"""
PLAIN = """for number in range({lines}):
    print("step", number, "x" * 88)
"""


def page(path: Path, source: str) -> Path:
    """Write a notebook of one cell."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def by_papermill(source: Path, folder: Path) -> Path:
    """Run a notebook by plain papermill; return the file with its text."""
    import papermill

    target = folder / "papermill.ipynb"
    papermill.execute_notebook(
        str(source), str(target), progress_bar=False, log_output=False, kernel_name="python3"
    )
    return target


def by_workbench(source: Path, folder: Path) -> Path:
    """Run a notebook as a job does; return the file with its text."""
    from workbench.notebooks.execution import Execution

    target = folder / "notebook.ipynb"
    with tempfile.TemporaryDirectory() as runtime:
        Execution(source, target, {}, folder / "log.txt", Path(runtime)).run()
    return target.with_name("output.txt")


WAYS: dict[str, Callable[[Path, Path], Path]] = {"papermill": by_papermill, "workbench": by_workbench}


def kept(file: Path) -> int:
    """Return how many lines a file has, each number once and in order."""
    if not file.is_file():
        return 0
    last = count = 0
    for line in _lines(file):
        if line.startswith("step "):
            number = int(line.split()[1])
            count += number >= last
            last = number + 1
    return count


def _lines(file: Path) -> Any:
    if file.suffix == ".txt":
        with file.open(encoding="utf-8") as text:
            yield from text
    else:
        with file.open(encoding="utf-8") as text:
            cells = json.load(text)["cells"]
        outputs = (output for cell in cells for output in cell.get("outputs", []))
        yield from "".join("".join(output.get("text", "")) for output in outputs).splitlines()


def one(way: str, source: Path) -> dict[str, Any]:
    """Run a notebook once, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        began, problem = time.perf_counter(), ""
        try:
            file = WAYS[way](source, Path(folder))
        except Exception as error:  # a failed run is a result here
            problem = type(error).__name__
            file = Path(folder) / ("output.txt" if way == "workbench" else "papermill.ipynb")
        seconds = time.perf_counter() - began
        return {"way": way, "kept": kept(file), "seconds": round(seconds, 1), "problem": problem}


def memory(way: str, source: Path) -> dict[str, Any]:
    """Run a notebook once, in a process of its own, and return also what memory that process took."""
    command = [sys.executable, __file__, "--one", way, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_mb() -> int:
    """Return the peak resident memory of this process; ``ru_maxrss`` would count its parent's, too."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "NOTEBOOK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        import papermill  # noqa: F401

        base = peak_mb()
        found = one(args.one[0], Path(args.one[1]))
        print(json.dumps({**found, "base_mb": base, "peak_mb": peak_mb()}))
        return
    share = 10 if args.quick else 1
    lines, rounds, plain = 40_000 // share, 1 if args.quick else 5, 2_000_000 // share
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        flushed = page(Path(folder) / "flushed.ipynb", FLUSHED.format(lines=lines))
        large = page(Path(folder) / "plain.ipynb", PLAIN.format(lines=plain))
        # In turn, so that a busy machine is as busy for both.
        turns = [one(way, flushed) for _ in range(rounds) for way in WAYS]
        large_turns = [memory(way, large) for way in WAYS]
    out = {
        "load": [round(value, 1) for value in (*load, *os.getloadavg())],
        "flushed": {"lines": lines, "runs": turns},
        "plain": {"lines": plain, "runs": large_turns},
    }
    if args.json:
        print(json.dumps(out, indent=2))
        return
    print(f"load before and after: {out['load']}")
    for name, runs in (("flushed", turns), ("plain", large_turns)):
        print(f"{name}: {out[name]['lines']:,} lines")  # type: ignore[index]
        for run in runs:
            print("   ", ", ".join(f"{key} {value}" for key, value in run.items()))


if __name__ == "__main__":
    main()
