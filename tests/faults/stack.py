"""A whole stack to break: a workspace with jobs, their worker, keeper, runners and kernels; and its judge."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nbformat
import psutil
import pytest
from sqlalchemy import select

import workbench as wb
from tests import waiting
from tests.faults.report import Report
from workbench.errors import StoreError
from workbench.home import DATABASE_URL, HOME
from workbench.host import processes
from workbench.host.locks import is_locked
from workbench.jobs import submission
from workbench.jobs.workers import worker_lock
from workbench.store import records
from workbench.store.tables import RESULTS

#: After this long without an end of all jobs, something hangs, in seconds.
END_SECONDS = 300.0

#: What a random kill takes: one process of the job, three of them, or its worker's keeper too.
KINDS = ("runner", "kernel", "worker", "all three", "everything")

FINAL = records.FINAL_STATUSES

#: Errors of the database are part of the faults.
until = partial(waiting.until, despite=StoreError)


def install(folder: Path) -> None:
    """Make the steady adapter a package with an entry point, in a folder for the path."""
    source = Path(__file__).with_name("steady.py").read_text(encoding="utf-8")
    (folder / "steady_adapter.py").write_text(source, encoding="utf-8")
    info = folder / "steady_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: steady-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[workbench.adapters]\nsteady = steady_adapter:adapter\n")


@dataclass(frozen=True)
class Kill:
    """One SIGKILL, or several at once, of what ran a job."""

    kind: str
    job: int
    attempt: int


@dataclass
class Stack:
    """A workspace whose jobs are broken on purpose, and what was seen of them."""

    home: wb.Workspace
    notes: Path
    kills: list[Kill] = field(default_factory=list)
    handles: dict[int, wb.Job] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    #: Words of which a failure's reason must hold one, where a fault may make a job fail.
    reasons: tuple[str, ...] = ()
    #: Workers in the foreground that were started here.
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    #: The final state of each job as a user saw it; it must never change again.
    told: dict[int, tuple[str, str]] = field(default_factory=dict)

    def submit(self, *, max_attempts: int = 2, **options: float | str) -> wb.Job:
        """Queue a job whose value is its number in the queue."""
        given = {"notes": str(self.notes), "value": float(len(self.handles) + 1), **options}
        job = submission.submit(self.home, "eval", "steady", given, max_attempts=max_attempts)
        self.handles[job.id] = job
        return job

    def submit_notebook(self, name: str, source: str) -> wb.Job:
        """Queue a notebook of one cell."""
        path = self.notes / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
        job = self.home.submit_notebook(path)
        self.handles[job.id] = job
        return job

    def start_worker(
        self, slots: int = 2, *, short_lease: bool = False, inside: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a worker in the foreground, as ``workbench worker`` does."""
        place = str(self.home.path)
        command = [sys.executable, "-m", "workbench.cli", "--workspace", place]
        command += ["worker", "--slots", str(slots)]
        if short_lease:
            command = [sys.executable, str(Path(__file__).with_name("short_lease.py")), place, str(slots)]
        with (self.home.path / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [*inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, DATABASE_URL: self.home.database_url},
                start_new_session=True,
            )
        self.workers.append(worker)
        # From then on, submitting starts no worker in the background.
        until(lambda: is_locked(worker_lock(self.home)), f"a worker begins {self.home.path}")
        return worker

    def keep_workers(self, count: int) -> None:
        """Start workers in the foreground until this many run."""
        while sum(worker.poll() is None for worker in self.workers) < count:
            self.start_worker()

    def rows(self, *status: str) -> list[records.JobRecord]:
        """Read the rows as they are; nothing is looked after."""
        return self.home.store.jobs(status=status or None)

    def look(self) -> bool:
        """Look as a panel does; say whether every job has ended."""
        for job in self.home.jobs(limit=None):
            if job.status in FINAL:
                said = (job.status, job.summary)
                assert self.told.setdefault(job.id, said) == said, f"job {job.id} changed after its end"
        return len(self.told) == len(self.handles)

    def try_to_look(self) -> bool:
        """Look; where the database is out of reach, not every job has ended as far as anybody knows."""
        try:
            return self.look()
        except StoreError:
            return False

    # Killing -----------------------------------------------------------------------------------

    def kill(self, row: records.JobRecord, kind: str) -> bool:
        """Kill what runs a job; say whether there was somebody to kill."""
        worker, runner = row.worker_pid, row.pid
        children = _children(runner)
        kernel = next((pid for pid in children if "ipykernel" in _command(pid)), None)
        keeper = next(
            (pid for pid in _children(worker) if "workbench.jobs.worker.keeper" in _command(pid)), None
        )
        targets = {
            "runner": [runner],
            "kernel": [kernel],
            "worker": [worker],
            "all three": [worker, runner, kernel],
            "everything": [keeper, worker, runner, kernel],
        }[kind]
        pids = [pid for pid in targets if pid]
        if len(pids) < (1 if kind in ("runner", "worker") else len(targets)) or not _is_held(row):
            return False
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills.append(Kill(kind, row.id or 0, row.attempt))
        return True

    # Judging -----------------------------------------------------------------------------------

    def settle(self, seconds: float = END_SECONDS) -> float:
        """Look until every job has ended; return the seconds it took."""
        began = time.monotonic()
        while not self.try_to_look():
            left = [(row.id, row.status, row.attempt) for row in self.rows() if row.status not in FINAL]
            assert time.monotonic() - began < seconds, f"still going on: {left}\n{self.worker_log()}"
            time.sleep(0.2)
        took = time.monotonic() - began
        self.report.settled.append((took, os.environ.get("PYTEST_CURRENT_TEST", "?").split("::")[-1][:-7]))
        return took

    def judge(self) -> Counter[str]:
        """Check that every job ended as it should; return how many ended how."""
        hit = {kill.job for kill in self.kills}
        worker_hit = any(kill.kind in ("worker", "all three", "everything") for kill in self.kills)
        ends: Counter[str] = Counter()
        for job in (self.home.job(job_id) for job_id in self.handles):
            ends[f"{job.status}, attempt {job.attempt}"] += 1
            if job.status == "succeeded":
                self._judge_success(job)
            else:
                assert job.status == "failed", f"job {job.id}: {job.status}"
                assert job.error is not None, f"job {job.id} failed without a reason"
                kind = job.error["type"]
                if any(word in job.error["message"] for word in self.reasons):
                    continue
                assert kind in ("RunnerDied", "DeadKernelError", "Lost"), f"job {job.id}: {job.error}"
                assert job.id in hit or worker_hit, f"job {job.id} failed and nobody touched it: {job.error}"
                if kind == "Lost":
                    row = self.home.store.job(job.id)
                    assert row is not None
                    assert job.attempt == row.max_attempts, f"job {job.id} was given up too early"
        for run in self.home.runs():
            assert run.status != "running", f"run {run.id} is still running"
        self._judge_acknowledged()
        overlaps = self.notes / "overlaps"
        assert not overlaps.exists(), f"ran twice at once: {overlaps.read_text().split()}"
        return ends

    def _judge_acknowledged(self) -> None:
        """Check that every acknowledged result is still there, regardless of the job's later state."""
        told = self.notes / "acknowledged"
        for line in told.read_text().splitlines() if told.exists() else ():
            job_id, value = line.split()
            with self.home.store._reading() as connection:
                kept = connection.execute(
                    select(RESULTS.c.data).where(RESULTS.c.job_id == int(job_id))
                ).scalar()
            assert kept is not None, f"job {job_id}: its acknowledged result is lost"
            assert kept["metrics"] == {"value": float(value)}
            self.report.acknowledged += 1

    def _judge_success(self, job: wb.Job) -> None:
        if job.type == submission.NOTEBOOK:
            return
        value = job.options["value"]
        assert job.result is not None, f"job {job.id} succeeded and its result is lost"
        assert job.result.metrics == {"value": value}
        assert job.summary == f"value {value}"
        assert job.notebook is not None
        page = nbformat.read(job.notebook, as_version=4)
        assert f"value {value}" in str(page.cells), f"job {job.id}: its notebook is not the report"

    def survivors(self) -> list[str]:
        """Return what is left of the jobs, once their workers have left."""
        home = f"{HOME}={self.home.path}".encode()
        found = [
            f"{pid} {_command(pid)}" for pid in _pids() if home in processes._environment(pid).split(b"\0")
        ]
        return found + [f"{child.pid} sleep" for child in self.children()]

    def children(self) -> list[processes.Process]:
        """Return those of the jobs' children that are alive: each was started in a session of its own."""
        noted = self.notes / "children"
        lines = noted.read_text().splitlines() if noted.exists() else []
        found = [processes.Process(int(pid), when) for pid, when in (line.split() for line in lines)]
        return [child for child in found if processes.alive(*child)]

    def _worker_pids(self) -> list[int]:
        """Return the workers of this workspace, however they were started."""
        place, found = str(self.home.path), []
        for pid in _pids():
            words = _command(pid)
            known = ("workbench.jobs.worker.background", "worker --slots", "short_lease.py")
            if place in words and any(word in words for word in known):
                found.append(pid)
        return found

    def stop_workers(self) -> None:
        """Ask every worker of this workspace to leave, and wait until they have."""
        deadline = time.monotonic() + waiting.GUARD
        while left := self._worker_pids():
            for worker in self.workers:
                worker.poll()  # or it stays as a zombie
            assert time.monotonic() < deadline, f"workers stay: {[_command(pid) for pid in left]}"
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(0.2)
        for worker in self.workers:
            worker.wait(waiting.GUARD)

    def worker_log(self) -> str:
        """Return what the workers printed, for a failure's message."""
        log = self.home.path / "worker.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def finish(self) -> Counter[str]:
        """Wait, judge, and see that nothing is left; return how many jobs ended how."""
        self.settle()
        ends = self.judge()
        self.stop_workers()
        assert self.survivors() == []
        self.report.ends += ends
        self.report.kills += Counter(kill.kind for kill in self.kills)
        return ends


@contextmanager
def stack(
    folder: Path, report: Report | None = None, *, database_url: str = "", crash_at: Sequence[str] = ()
) -> Iterator[Stack]:
    """A new stack in a folder; none of its processes is left running, even after an error.

    ``crash_at`` names points at each of which one process dies, and leaves a file in ``crashed``.
    """
    package, notes = folder / "package", folder / "notes"
    package.mkdir()
    notes.mkdir()
    install(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package))
        path = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("WORKBENCH_WORKER_IDLE", "30")
        if crash_at:
            (crashed := folder / "crashed").mkdir()
            patch.setenv(processes.CRASH_AT, ";".join(f"{point}@{crashed / point}" for point in crash_at))
        with wb.Workspace(folder / "results", database_url=database_url or None) as home:
            broken = Stack(home, notes, report=report or Report())
            try:
                yield broken
            finally:
                with suppress(AssertionError):
                    broken.stop_workers()
                for pid in broken._worker_pids():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for line in broken.survivors():
                    with suppress(ProcessLookupError, ValueError):
                        os.kill(int(line.split()[0]), signal.SIGKILL)


def kill_at_random(
    broken: Stack, count: int, dice: random.Random, *, ahead: int = 4, workers: int = 0
) -> None:
    """Kill something of a running job at random moments, ``count`` times, with jobs always waiting.

    Each kind of kill comes once before any comes again: a ``count`` of at least five has them all.
    ``workers`` are kept going in the foreground; without, there is the one that starts by itself.
    """
    goal = len(broken.kills) + count
    deadline = time.monotonic() + 60 * count
    while len(broken.kills) < goal:
        assert time.monotonic() < deadline, f"only {len(broken.kills)} kills\n{broken.worker_log()}"
        broken.keep_workers(workers)
        broken.look()
        while len(broken.handles) - len(broken.told) < ahead:
            broken.submit(max_attempts=4, steps=dice.choice((1, 10, 30)))
        time.sleep(dice.uniform(0.0, 0.6))
        if dice.random() < 0.25:  # else hardly any job would come to its end
            ended, calm = len(broken.told), time.monotonic() + 5.0
            while len(broken.told) == ended and time.monotonic() < calm:
                broken.look()
                time.sleep(0.05)
        if running := broken.rows("running"):
            done = {kill.kind for kill in broken.kills}
            left = [kind for kind in KINDS if kind not in done]
            broken.kill(dice.choice(running), dice.choice(left or KINDS))


def _is_held(row: records.JobRecord) -> bool:
    return processes.alive(row.worker_pid, row.worker_pid_started)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int | None) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _children(pid: int | None) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)] if pid else []
    except psutil.Error:
        return []
