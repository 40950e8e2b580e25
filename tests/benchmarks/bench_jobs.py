"""What jobs cost, beside papermill's own command line on the same notebook in the same run.

Run by hand on a quiet machine, never by the tests::

    python tests/benchmarks/bench_jobs.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

import workbench as wb
from workbench.host import processes
from workbench.store import records

TRIVIAL = "k: int = 1\nprint(k)"
FOREVER = {
    "a loop": "print('begun', flush=True)\nwhile True: pass",
    "asleep with grandchildren": (
        "import subprocess, time\n"
        "[subprocess.Popen(['sleep', '600'], start_new_session=True) for _ in range(3)]\n"
        "print('begun', flush=True)\ntime.sleep(600)"
    ),
    "stuck in C": (
        "import itertools, time\nprint('begun', flush=True)\ntime.sleep(0.3)\nsum(itertools.repeat(0))"
    ),
    "deaf to interrupts": (
        "import time\nprint('begun', flush=True)\nwhile True:\n"
        "    try: time.sleep(600)\n    except KeyboardInterrupt: pass"
    ),
}


def page(folder: Path, source: str, name: str = "mine.ipynb") -> Path:
    """Write a notebook of one cell, tagged ``parameters``."""
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / name)
    return folder / name


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def spread(values: list[float], unit: float = 1.0) -> dict[str, float]:
    """Return median, 95th percentile and maximum of durations, in ``unit`` seconds."""
    scaled = sorted(value / unit for value in values)
    return {
        "p50": statistics.median(scaled),
        "p95": scaled[min(int(len(scaled) * 0.95), len(scaled) - 1)],
        "max": scaled[-1],
        "n": len(scaled),
    }


def overhead(home: wb.Workspace, folder: Path, times: int) -> dict[str, Any]:
    """Time a trivial job, submit to succeeded, and papermill's command line on the same notebook."""
    source = page(folder, TRIVIAL)
    cold = seconds(lambda: home.submit_notebook(source).wait(60))  # the worker has to start
    command = [str(Path(sys.executable).with_name("papermill")), str(source), str(folder / "out.ipynb")]
    command.append("--no-progress-bar")
    jobs, peers, visible = [], [], []
    for _ in range(times):
        began = time.perf_counter()
        job = home.submit_notebook(source)
        assert home.jobs(limit=1)[0].id == job.id
        visible.append(time.perf_counter() - began)
        job.wait(60)
        jobs.append(time.perf_counter() - began)
        peers.append(seconds(lambda: subprocess.run(command, check=True, capture_output=True)))
        time.sleep(1.5)  # the next runner imports ahead of its work, as between two clicks of a person
    return {
        "with a worker running": spread(jobs),
        "papermill's command line": spread(peers),
        "with the worker to start": cold,
        "visible after submit": spread(visible),
    }


def back_to_back(home: wb.Workspace, folder: Path, times: int) -> dict[str, float]:
    """Time jobs that wait in line: each has its runner started while the one before runs."""
    source = page(folder, TRIVIAL)

    def all_of_them() -> None:
        for job in [home.submit_notebook(source) for _ in range(times)]:
            job.wait(120)

    return {"seconds a job": seconds(all_of_them) / times}


def cancels(home: wb.Workspace, folder: Path, times: int) -> dict[str, Any]:
    """Time cancelling what runs, from the call to the state, and count what is left afterwards."""
    out: dict[str, Any] = {}
    survivors = 0
    for name, source in FOREVER.items():
        took = []
        for _ in range(times):
            job = home.submit_notebook(page(folder, source))
            while "begun" not in job.logs():
                time.sleep(0.02)
            time.sleep(0.6)  # where it will stay: in the loop, not on the way to it
            row = home.store.job(job.id)
            assert row is not None
            took.append(seconds(lambda job=job: job.cancel().wait(30, check=False)))
            assert job.status == "cancelled"
            survivors += len(processes.carriers(row.token))
        out[name] = spread(took)
    return {**out, "survivors": survivors}


def lists(home: wb.Workspace, times: int) -> dict[str, Any]:
    """Time listing 1,000 jobs, and one page of the panel."""
    from workbench.panels.jobs.panel import JobsPanel

    missing = 1000 - home.count_jobs()
    options = {f"option_{number}": number for number in range(20)}
    for _ in range(missing):
        home.store.add_job(
            records.JobRecord(type="eval", status="succeeded", summary="R 0.43", options=options)
        )
    panel = JobsPanel(home)
    panel.close()
    return {
        "25 of 1,000": spread([seconds(lambda: home.jobs(limit=25)) for _ in range(times)], 1e-3),
        "25 from the 500th on": spread(
            [seconds(lambda: home.jobs(limit=25, offset=500)) for _ in range(times)], 1e-3
        ),
        "all 1,000": spread([seconds(lambda: home.jobs(limit=None)) for _ in range(times // 5)], 1e-3),
        "a look of the panel": spread([seconds(panel.look) for _ in range(times)], 1e-3),
    }


def progress(home: wb.Workspace, calls: int) -> dict[str, Any]:
    """Time ``job.progress``, plain and in nested stages, and reading it from outside."""
    from workbench.scope import job_scope

    adapter = wb.get_adapter("plain")
    with job_scope("eval", adapter, workspace=home) as job:
        one = seconds(lambda: [job.progress(n, calls, "counting") for n in range(calls)]) / calls
        with job.stage("outer", 0.5), job.stage("inner", 0.5):
            two = seconds(lambda: [job.progress(n, calls, "counting") for n in range(calls)]) / calls
        read = [seconds(lambda: home.job(job.id).progress) for _ in range(200)]
        job.finish(wb.Result(summary="counted"))
    return {"call, µs": one * 1e6, "call in two stages, µs": two * 1e6, "read, ms": spread(read, 1e-3)}


PLAIN = """
import workbench as wb
class Plain(wb.BaseAdapter):
    name, title = "plain", "Does nothing"
    def options(self, task):
        return wb.Options if task == "eval" else super().options(task)
    def evaluate(self, options, job):
        return wb.Result(summary="nothing")
adapter = Plain()
"""


def install_plain(folder: Path) -> None:
    """Make an adapter that does nothing importable, here and in what is started from here."""
    (folder / "plain_adapter.py").write_text(PLAIN)
    info = folder / "plain_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[workbench.adapters]\nplain = plain_adapter:adapter\n")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions, to see that it runs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    times = 3 if given.quick else 15
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["WORKBENCH_WORKER_IDLE"] = "20"
    try:
        (folder / "package").mkdir()
        install_plain(folder / "package")
        with wb.Workspace(folder / "results") as home:
            found = {
                "trivial job, s": overhead(home, folder, times),
                "in line, s": back_to_back(home, folder, times),
                "cancel, s": cancels(home, folder, 2 if given.quick else 8),
                "progress": progress(home, 20_000),
                "lists, ms": lists(home, 20 if given.quick else 200),
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, rows in found.items():
        print(name)
        for what, value in rows.items():
            said = (
                "  ".join(f"{key} {number:.3f}" for key, number in value.items() if key != "n")
                if isinstance(value, dict)
                else f"{value:.3f}"
            )
            print(f"    {what:<28} {said}")


if __name__ == "__main__":
    main()
