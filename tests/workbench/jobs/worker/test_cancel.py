"""Cancelling, at any moment: no process of the job survives, and its output is kept."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest

import workbench as wb
from tests.conftest import workspace_in
from tests.waiting import GUARD, until
from workbench.host import processes
from workbench.store import records

# A loop in C that keeps Python's lock and never looks for signals: no handler runs, no thread either.
STUCK = """
import itertools, time
print("begun", flush=True)
time.sleep(0.3)
open("there", "w").close()
sum(itertools.repeat(0))
"""

FAMILY = """
import multiprocessing, os, subprocess, sys, time
kids = [multiprocessing.get_context("fork").Process(target=time.sleep, args=[600])]
kids[0].start()
pids = [kids[0].pid, subprocess.Popen(["sleep", "600"], start_new_session=True).pid]
# One that has no token any more, for whom only his ancestors speak.
pids.append(subprocess.Popen(["env", "-i", "sleep", "600"], start_new_session=True).pid)
open("pids", "w").write(" ".join(map(str, pids)))
print("begun", flush=True)
time.sleep(600)
"""

DEAF = """
import time
print("begun", flush=True)
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        print("never mind", flush=True)
"""

STOPPED = """
import os, signal, time
print("begun", flush=True)
time.sleep(0.3)  # the line leaves by a thread of its own, which stops with the rest
os.kill(os.getpid(), signal.SIGSTOP)
"""

CELLS = {
    "a loop": "print('begun', flush=True)\nwhile True: pass",
    "stuck in C": STUCK,
    "grandchildren": FAMILY,
    "deaf": DEAF,
    "stopped": STOPPED,
    "much output": "print('begun', flush=True)\nwhile True: print('x' * 100_000)",
}

DEAF_TO_INTERRUPTS = {"stuck in C", "deaf", "stopped"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    with workspace_in(tmp_path_factory.mktemp("cancel") / "results") as home:
        yield home


@pytest.fixture
def home(shared: wb.Workspace) -> Iterator[wb.Workspace]:
    """The one workspace; a test that fails half-way leaves no job in the next one's way."""
    yield shared
    for job in shared.jobs(limit=None):
        if job.status in ("queued", "running"):
            job.cancel()
            job.wait(GUARD, check=False)


def submit(home: wb.Workspace, folder: Path, source: str) -> wb.Job:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), folder / "mine.ipynb")
    return home.submit_notebook(folder / "mine.ipynb")


def row(home: wb.Workspace, job: wb.Job) -> records.JobRecord:
    found = home.store.job(job.id)
    assert found is not None
    return found


def is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def gone(home: wb.Workspace, job: wb.Job, folder: Path) -> None:
    """Check that the job is cancelled and that none of its processes survives."""
    assert job.wait(GUARD, check=False).status == "cancelled"
    assert processes.carriers(row(home, job).token) == []
    if (folder / "pids").exists():
        for pid in map(int, (folder / "pids").read_text().split()):
            assert not processes.started(pid), f"{pid} is still there"
    assert job.error is None
    assert not processes.runtime_folder(row(home, job).token).exists()


@pytest.mark.parametrize("name", CELLS)
def test_nothing_of_a_cancelled_job_is_left(home: wb.Workspace, tmp_path: Path, name: str) -> None:
    job = submit(home, tmp_path, CELLS[name])
    until(lambda: "begun" in job.logs())
    assert len(processes.carriers(row(home, job).token)) >= 2  # the runner and the kernel
    if name == "stuck in C":
        until((tmp_path / "there").exists)
    elif name == "stopped":
        until(lambda: any(is_stopped(one) for one in processes.carriers(row(home, job).token)))
    time.sleep(0.6)  # now it is where it will stay
    began = time.monotonic()
    job.cancel()
    job.cancel()  # twice is once
    gone(home, job, tmp_path)
    if name in DEAF_TO_INTERRUPTS:  # it was given its grace, else it is not the case that it is named for
        assert time.monotonic() - began > 4
    assert job.notebook is not None
    cell = nbformat.read(job.notebook, as_version=4).cells[-1]
    if name != "stuck in C":  # its first line is saved within a second; there was none
        assert "begun" in str(cell.outputs)


# At once, and while its kernel starts; the moments between with --long.
@pytest.mark.parametrize(
    "moment", [0.0, 0.3, *(pytest.param(late, marks=pytest.mark.endurance) for late in (0.1, 0.5, 0.7))]
)
def test_a_job_is_cancelled_while_it_starts(home: wb.Workspace, tmp_path: Path, moment: float) -> None:
    job = submit(home, tmp_path, "import time; time.sleep(600)")
    until(lambda: job.refresh().status == "running")
    time.sleep(moment)
    job.cancel()
    gone(home, job, tmp_path)


def test_a_queued_job_is_cancelled_at_once_and_never_runs(home: wb.Workspace, tmp_path: Path) -> None:
    first = submit(home, tmp_path, "import time; time.sleep(600)")
    second = submit(home, tmp_path, "open('ran', 'w')")
    until(lambda: first.refresh().status == "running")
    assert second.cancel().status == "cancelled"
    first.cancel()
    gone(home, first, tmp_path)
    time.sleep(0.3)
    assert not (tmp_path / "ran").exists()
    assert second.attempt == 0


def test_what_has_ended_stays_as_it_ended(home: wb.Workspace, tmp_path: Path) -> None:
    job = submit(home, tmp_path, f"print({os.getpid()})").wait(GUARD)
    assert job.cancel().status == "succeeded"
