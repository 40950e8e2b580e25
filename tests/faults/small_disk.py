"""What happens to jobs on a file system that fills up; ``test_disk`` runs it and says what has to hold."""

from __future__ import annotations

import contextlib
import io
import subprocess
import threading
import time
from pathlib import Path

import nbformat

import workbench as wb
from tests.faults.stack import FINAL, Stack, stack, until
from workbench import cli
from workbench.errors import StoreError

#: Size of the file system, how long it is full, and how long afterwards jobs go on that outlast that.
SIZE, FULL_SECONDS, AFTER_SECONDS = "24m", 5.0, 3.0

#: It ends a second after a file is there.
TALK = """
import pathlib, time
number, left = 0, 50
while left:
    print(f"line {{number}} " + "word " * 60, flush=True)
    number += 1
    left -= pathlib.Path({enough!r}).exists()
    time.sleep(0.02)
print("all said")
"""


class Reader(threading.Thread):
    """Reads every executed notebook all the time, as a panel might, and notes what was no notebook."""

    def __init__(self, jobs_dir: Path) -> None:
        super().__init__(daemon=True)
        self.jobs_dir = jobs_dir
        self.broken: list[str] = []
        self.reads = 0
        self.stopping = False

    def run(self) -> None:
        while not self.stopping:
            for path in self.jobs_dir.glob("*/notebook.ipynb"):
                try:
                    nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
                    self.reads += 1
                except FileNotFoundError:
                    continue
                except Exception as error:
                    self.broken.append(f"{path}: {error!r}")
            time.sleep(0.05)


def fill(path: Path) -> None:
    """Take what room there is, to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def refused(broken: Stack) -> list[str]:
    """Submit until it is refused, and a notebook too; return what was said."""
    said = []
    for _ in range(50):
        before = broken.home.store.count_jobs()
        try:
            broken.submit(steps=1, padding="x" * 2**19)
        except StoreError as error:
            said.append(str(error))
            assert broken.home.store.count_jobs() == before, "a job was refused and is queued all the same"
            break
        assert broken.home.store.count_jobs() == before + 1, "a job was taken and is not there"
    before = broken.home.store.count_jobs()
    try:
        broken.submit_notebook("refused", "# " + "x" * 2**20)
    except StoreError as error:
        said.append(str(error))
    assert broken.home.store.count_jobs() == before, "a notebook was refused and is queued all the same"
    return said


def read_by_others(broken: Stack, job: wb.Job) -> dict[str, object]:
    """Wait until the end of a job is seen that cannot be written; then read what there is."""
    seen = {}

    def over() -> bool:
        fill(broken.home.path / "filler2")  # what was let go of meanwhile
        with wb.Workspace(broken.home.path) as reader:  # another process would see the same
            found = reader.job(job.id)
            seen.update(status=found.status, error=found.error)
        return seen["status"] in FINAL

    until(over, "the end is seen")
    said = {}
    for words in ("runs", "jobs list", f"jobs show {job.id}", f"jobs logs {job.id}"):
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            code = cli.run([*words.split(), "--workspace", str(broken.home.path)])
        said[words.rpartition(" ")[0] or words] = [code, out.getvalue(), err.getvalue()]
    return {"status": seen["status"], "error": seen["error"], "read": said}


def scenario(folder: Path) -> dict[str, object]:
    """Fill the disk while jobs run, free it again, and wait for the end of everything."""
    disk = folder / "results"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
    with stack(folder) as broken:
        broken.reasons = ("full", "No space left", "disk I/O error", "could not be saved")
        broken.start_worker(slots=3)
        is_full, is_free = folder / "is-full", folder / "is-free"
        logs = broken.submit(steps=100_000, pause=0.05, enough=str(is_free))
        talks = broken.submit_notebook("talks", TALK.format(enough=str(is_free)))
        ends = broken.submit_notebook("ends", TALK.format(enough=str(is_full)))  # while the disk is full
        until(lambda: "line 1 " in talks.logs(), "a notebook prints")
        until(lambda: "line 1 " in ends.logs(), "another notebook prints")
        until(lambda: logs.refresh().progress.done > 1, "a job goes on")
        worker = broken.workers[0]
        reader = Reader(broken.home.jobs_dir)
        reader.start()
        filler = disk / "filler"
        fill(filler)
        is_full.touch()
        began = time.monotonic()
        said = refused(broken)
        read = read_by_others(broken, ends)
        while time.monotonic() - began < FULL_SECONDS:
            broken.look()
            fill(disk / "filler2")  # what was let go of meanwhile
            time.sleep(0.2)
        assert worker.poll() is None, f"the worker left: {broken.worker_log()}"
        filler.unlink()
        (disk / "filler2").unlink()
        time.sleep(AFTER_SECONDS)
        is_free.touch()
        settled = broken.settle()
        assert worker.poll() is None, f"the worker left: {broken.worker_log()}"
        reader.stopping = True
        reader.join()
        after = broken.submit(steps=1)
        broken.settle()
        kinds = broken.judge()
        broken.stop_workers()
        return {
            "refused": said,
            "read": read,
            "ends": kinds,
            "settled": settled,
            "broken": reader.broken,
            "reads": reader.reads,
            "survivors": broken.survivors(),
            "acknowledged": broken.report.acknowledged,
            "after": after.refresh().status,
            "talks": {"status": talks.refresh().status, "error": talks.error, "log": talks.logs(10**6)},
            "talked": str(nbformat.read(talks.notebook, as_version=4).cells[-1].outputs)[-2000:],
            "talked_note": talks.output_note,
            "ended": {"status": ends.refresh().status, "error": ends.error},
            "logged": {"status": logs.refresh().status, "error": logs.error},
            "left": [path.name for path in broken.home.jobs_dir.glob("*/.*.part")],
        }
