"""The worker: claims jobs, runs each in its own process, renews their leases, and records how they ended.

Only the worker decides how a job ended, from the runner's exit code. It also settles what other processes
left: a job whose worker died, a notebook whose kernel vanished, a run whose process is gone. A keeper cleans
up if the worker itself is killed.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

from workbench.errors import NewerDatabase, StoreError, WorkbenchError
from workbench.home import DATABASE_URL, HOME, Home
from workbench.host import processes
from workbench.host.locks import is_same_file, take_lock
from workbench.host.log import LogFile
from workbench.host.processes import crash_point
from workbench.jobs import queue, workers
from workbench.jobs.reporting import PROGRESS_SECONDS, Pace
from workbench.jobs.settling import BEAT_SECONDS, LEASE_SECONDS, Watch, settle
from workbench.jobs.unwritten import End, Notes
from workbench.jobs.worker.attempt import Runner, Seldom
from workbench.jobs.worker.former import FormerWorkers
from workbench.jobs.worker.keeper import Keeper
from workbench.jobs.worker.runner import INTERRUPTED
from workbench.notebooks.output import NOTE_FILE, OUTPUT_FILE
from workbench.notebooks.saving import sign_if_ours
from workbench.store import records
from workbench.store.database import Changes
from workbench.values import restored

#: Seconds between checks of the queue and of the running jobs.
LOOK_SECONDS = 0.05


#: Seconds without a job, and of a running job, after which a worker starts the runner of the next one. With
#: jobs in the queue it does so at once.
SPARE_IDLE_SECONDS, SPARE_BUSY_SECONDS = 1.0, 10.0


#: A worker that exits after fewer seconds without a job starts no runner before a job is in the queue: most
#: of them would end unused, and each takes most of a second of processor time.
SPARE_FROM_SECONDS = 60.0


#: Seconds that a cancelled notebook has to stop at its cell before all its processes are killed.
GRACE_SECONDS = 5.0


#: After this many seconds without a heartbeat a worker's jobs are stopped, before others consider them lost.
SILENT_SECONDS = 0.75 * LEASE_SECONDS


#: Seconds without a job after which a background worker exits; ``$WORKBENCH_WORKER_IDLE``.
IDLE_SECONDS = 60.0


IDLE = "WORKBENCH_WORKER_IDLE"


#: Seconds after which the same error is printed again.
_SAY_AGAIN_SECONDS = 60.0


#: Seconds to wait after an error of the database.
_PAUSE_AFTER_REFUSAL = 1.0


#: Seconds for which an exiting worker retries to record how its jobs ended.
_LAST_WORDS_SECONDS = 10.0


@dataclass
class _Running:
    """One attempt that is running here."""

    job: records.JobRecord
    runner: Runner
    kill_at: float | None = None
    unwritten: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    pace: Seldom = field(default_factory=lambda: Seldom(PROGRESS_SECONDS))
    rate: Pace = field(default_factory=Pace)

    @property
    def id(self) -> int:
        return self.job.id or 0


class Worker:
    """Runs the jobs of one workspace.

    Parameters
    ----------
    home : Home
        The workspace.
    slots : int
        Maximum number of concurrent jobs.
    idle_seconds : float or None
        Exit after this long without a job; None to keep running.
    spare : Runner, optional
        A runner that is already started.
    lock : file, optional
        The workspace's worker lock, if the starting process has taken it.
    former_lock : file, optional
        The lock of version 0.2.0, if the starting process is of that version and has taken it.
    """

    def __init__(
        self,
        home: Home,
        *,
        slots: int = 1,
        idle_seconds: float | None = None,
        spare: Runner | None = None,
        lock: IO[bytes] | None = None,
        former_lock: IO[bytes] | None = None,
    ) -> None:
        self.home = home
        self.slots = slots
        self.idle_seconds = idle_seconds
        me = processes.this_process()
        self.id = f"{processes.host()}:{me.pid}:{secrets.token_hex(4)}"
        self._who = {
            "worker_id": self.id,
            "host": processes.host(),
            "worker_pid": me.pid,
            "worker_pid_started": me.started,
        }
        self._running: dict[int, _Running] = {}
        self._spare = spare
        self._ends: list[Callable[[], object]] = []
        self._watch = Watch(home.store, jobs_dir=home.jobs_dir)
        self._notes = Notes(home)
        # With SQLite no other host is involved, and a process that cannot write cannot claim a job either.
        self._silent_seconds = math.inf if home.store.is_sqlite else SILENT_SECONDS
        self._keeper = Keeper(workers.worker_command(home), self._silent_seconds)
        self._stopping = False
        self._beat = Seldom(BEAT_SECONDS)
        self._changes = Changes(home.store)
        self._renewed_at = self._busy_at = self._claimed_at = time.monotonic()
        self._lock_path = workers.worker_lock(home)
        self._lock = lock
        self._former = FormerWorkers(home, former_lock)
        self._former_running = 0
        self._newer: NewerDatabase | None = None
        self._last_printed = ("", 0.0)
        self._unsure = False  # whether a claim failed midway, so that it may or may not have been made

    def run(self) -> None:
        """Work until told to stop, or until idle for ``idle_seconds``."""
        with contextlib.suppress(ValueError):  # signals are for the main thread; elsewhere call stop()
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        if not self._take_lock() and self.idle_seconds is not None:
            self._drop_spare()
            self._former.close()
            return  # another worker is alive, and checks the queue before it exits
        ordered = False
        try:
            while not self._stopping:
                try:
                    if self._may_leave():
                        break
                    self.step()
                except (StoreError, OSError) as error:  # a full disk, a process limit: may be temporary
                    self._say(str(error))
                    self._note_ends(error)
                    self._stop_if_silent()
                    time.sleep(_PAUSE_AFTER_REFUSAL)
                time.sleep(LOOK_SECONDS)
            ordered = True
        finally:
            # The cause of this process's failure may recur, so the attempt counts unless the worker was asked
            # to stop.
            self._give_back(counts=not ordered)
            self._drop_spare()
            self._drop_lock()
            self._former.close()
            self._keeper.goodbye()

    def stop(self) -> None:
        """Exit as soon as possible; running jobs return to the queue, or fail."""
        self._stopping = True

    def step(self) -> None:
        """Do once everything that is due."""
        for running in list(self._running.values()):
            if not running.runner.alive:
                self._collect(running)
        self._write_ends()
        if self._beat.due():
            self._keeper.check()
            self._renew()
            self._check_version()
            self._watch.look()
        changed = self._changes.due()
        if self._running:
            self._busy_at = time.monotonic()
            self._kill_overdue()
            if changed:
                self._heed_cancels()
            for running in self._running.values():
                self._hear(running)
                self._write_progress(running)
        if changed:
            while self._may_claim() and self._claim():
                self._busy_at = self._claimed_at = time.monotonic()
        if self._spare is None and self._newer is None and not self._stopping and self._wants_spare(changed):
            self._spare = Runner()

    def _wants_spare(self, changed: bool) -> bool:
        """Return whether to start the next runner, so that the next job need not wait for its imports.

        Not while a worker that has run its only job exits, and not at the cost of a job that has just begun.
        """
        now = time.monotonic()
        stays = self.idle_seconds is None or self.idle_seconds >= SPARE_FROM_SECONDS
        if not self._running:
            return stays and now - self._busy_at > SPARE_IDLE_SECONDS
        if stays and now - self._claimed_at > SPARE_BUSY_SECONDS:
            return True
        return changed and self.home.store.count_jobs("queued") > 0

    def _may_claim(self) -> bool:
        free = self.slots - len(self._running) - self._former_running
        return free > 0 and self._newer is None and not self._stopping

    def _check_version(self) -> None:
        """Claim no more jobs once a newer version has upgraded the database; count what older workers run."""
        try:
            self.home.store.check_version()
        except NewerDatabase as error:
            self._newer = error
        else:
            self._former_running = self._former.running()

    def _renew(self) -> None:
        """Renew the leases of running jobs, and settle other jobs that this worker holds."""
        if self._running or self._unsure:
            known = set(self._running)
            held = self.home.store.renew_leases(self.id, LEASE_SECONDS)
            self._stop_if_silent()  # the query itself may have taken too long
            for job_id in held.keys() - known:
                # Claimed in the database, but the connection broke before this process learned of it.
                if (job := self.home.store.job(job_id)) is not None and job.worker_id == self.id:
                    reason = "the connection to the database broke while the job was claimed"
                    settle(self.home.store, job, reason, counts=False, begun=False)
            self._unsure = False
        self._renewed_at = time.monotonic()
        self._keeper.renewed()

    # One job -----------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Claim a job, if there is one, and give it to a runner."""
        if self.home.store.count_jobs("queued") == 0:
            return False
        self._keeper.check()
        if self._spare is not None and not self._spare.alive:
            self._drop_spare()
        runner, self._spare = self._spare or Runner(), None
        self._keeper.begin(runner.token)
        row = {**self._who, "pid": runner.me.pid, "pid_started": runner.me.started, "token": runner.token}
        job = None
        try:
            job = self.home.store.claim_job(row, LEASE_SECONDS)
        except StoreError:
            self._unsure = True
            raise
        finally:
            if job is None:
                self._keeper.end(runner.token)
                self._spare = runner
        if job is None:
            return False
        crash_point("worker-claimed")
        running = self._running[job.id or 0] = _Running(job, runner)
        try:
            runner.give(self._todo(job, runner))
        except (WorkbenchError, OSError) as error:
            running.failure = {"cell": None, "type": type(error).__name__, "message": str(error)}
            runner.end()
        crash_point("worker-gave")
        return True

    def _notebook(self, job: records.JobRecord) -> Path:
        return self.home.jobs_dir / str(job.id) / "notebook.ipynb"

    def _todo(self, job: records.JobRecord, runner: Runner) -> dict[str, Any]:
        output = self._notebook(job)
        folder = output.parent
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        if job.attempt > 1:
            self._set_aside(
                job.attempt - 1, log, output, *(folder / name for name in (OUTPUT_FILE, NOTE_FILE))
            )
        runtime = processes.runtime_folder(runner.token)
        runtime.mkdir(mode=0o700)
        source, parameters = "", {}  # those of an adapter's job are for the runner: no adapter is loaded here
        if job.source:
            queue.check_folder(job.cwd, job.source)
            source = str(queue.whole_source(self.home, job.source_sha256))
            parameters = restored(job.options)
        environment = {HOME: str(self.home.path), workers.JOB: str(job.id), workers.ATTEMPT: str(job.attempt)}
        if self.home.database_url:
            environment[DATABASE_URL] = self.home.database_url
        return {
            "source": source,
            "job": {"type": job.type, "adapter": job.adapter, "options": job.options},
            "workspace": str(self.home.path),
            "output": str(output),
            "parameters": parameters,
            "log": str(log),
            "cwd": job.cwd,
            "runtime": str(runtime),
            "environment": environment,
            "watch_bars": bool(job.source),
        }

    def _set_aside(self, attempt: int, log: Path, *files: Path) -> None:
        """Keep the files of the previous attempt under other names, and say in the log that a new one begins.

        A process of that attempt that still lives writes on into its own files.
        """
        kept = []
        for file in files:
            if file.is_file():
                aside = file.with_name(f"{file.stem}.attempt-{attempt}{file.suffix}")
                file.replace(aside)
                kept.append(aside.name)
        with LogFile(log) as lines:
            its = f"; its files are {', '.join(kept)}" if kept else ""
            lines.write(f"Attempt {attempt + 1} begins here. Attempt {attempt} did not end{its}.\n")

    def _hear(self, running: _Running) -> None:
        """Read a runner's reports."""
        for report in running.runner.reports():
            if "failure" in report:
                running.failure = report["failure"]
            elif "progress" in report:
                running.unwritten = report["progress"]

    def _write_progress(self, running: _Running) -> None:
        """Write the progress of a notebook that reports none itself: its cells and its progress bars."""
        if running.unwritten is None or not running.pace.due():
            return
        report, running.unwritten = running.unwritten, None
        cell, bars = f"cell {report['cell']} of {report['total']}", report["bars"]
        part = bars[0]["done"] / bars[0]["total"] if bars and bars[0]["total"] else 0.0
        done = report["done"] + min(part, 1.0)
        deepest = bars[-1] if bars else {"name": cell, "done": done, "total": report["total"]}
        rate = running.rate.take((cell, len(bars), deepest["total"]), deepest["done"])
        # Cells can take any time, so a time left is known only within a cell that draws a bar.
        left = (deepest["total"] - deepest["done"]) / rate if rate and bars and deepest["total"] else None
        self.home.store.update_job(
            running.id,
            attempt=running.job.attempt,
            progress_done=done,
            progress_total=report["total"],
            progress_message=bars[0]["name"] if bars else "",
            progress_stages=[{"name": cell, "done": report["done"], "total": report["total"]}, *bars],
            progress_rate=rate if bars else None,
            progress_left=left,
        )

    def _kill_overdue(self) -> None:
        """End the runners of cancelled jobs that have not stopped in time."""
        now = time.monotonic()
        for running in self._running.values():
            if running.kill_at is not None and now >= running.kill_at:
                running.runner.end()

    def _heed_cancels(self) -> None:
        """Interrupt the jobs that are to be cancelled."""
        now = time.monotonic()
        held = self.home.store.held_jobs(self.id)
        for running in self._running.values():
            state = held.get(running.id)
            if running.kill_at is not None:
                continue
            if state is None or state[1] != running.job.attempt:
                running.kill_at = now  # taken over by another worker: it may not continue here
            elif state[0] == "cancelling":
                running.kill_at = now + GRACE_SECONDS
                running.runner.interrupt()

    def _collect(self, running: _Running) -> None:
        """Kill what is left of an attempt that has ended, and note how it ended."""
        crash_point("worker-collects")
        left = running.runner.end()
        if left:
            self._say(f"job {running.id}: could not kill {left}")
        self._hear(running)
        running.runner.close()
        sign_if_ours(self._notebook(running.job))
        self._keeper.end(running.runner.token)
        del self._running[running.id]
        if self._is_silent():  # then the keeper ended it
            self._ends.append(partial(settle, self.home.store, running.job, self._silence()))
            return
        if self._came_too_late(running):
            reason = "a newer version upgraded the database while the job was starting"
            self._ends.append(partial(settle, self.home.store, running.job, reason, counts=False))
            return
        code = running.runner.process.returncode
        error = running.failure
        if error is None and code == INTERRUPTED:
            error = {"cell": None, "type": "Interrupted", "message": "the notebook was interrupted"}
        elif error is None and code != 0:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            message = f"the process that ran the notebook ended with {how}"
            error = {"cell": None, "type": "RunnerDied", "message": message}
        self._ends.append(partial(self._end, running.job, "failed" if error else "succeeded", error))

    def _came_too_late(self, running: _Running) -> bool:
        """Return whether a notebook failed because the database was upgraded after the job was claimed."""
        if running.failure is None or running.failure["type"] != NewerDatabase.__name__:
            return False
        try:
            self.home.store.check_version()
        except NewerDatabase as error:
            self._newer = error
        return self._newer is not None

    def _write_ends(self) -> None:
        """Record how attempts ended; if the database fails, the next step tries again."""
        while self._ends:
            self._ends[0]()
            self._ends.pop(0)
        self._notes.clear()

    def _note_ends(self, why: Exception) -> None:
        """Note for readers how attempts ended, while that cannot be recorded."""
        for running in list(self._running.values()):
            if not running.runner.alive:
                self._collect(running)
        ends = [end for end in self._ends if isinstance(end, partial) and end.func == self._end]
        if ends and self._lock is not None:
            now = time.time()
            noted = [
                End(job.id or 0, job.attempt, status, error, now)
                for job, status, error in (end.args for end in ends)
            ]
            self._notes.write(noted, getattr(why, "message", "") or str(why))

    def _end(self, job: records.JobRecord, status: str, error: dict[str, Any] | None) -> None:
        store, job_id = self.home.store, job.id or 0
        crash_point("worker-ends")
        notebook = f"jobs/{job_id}/notebook.ipynb"
        move = partial(store.move_job, job_id, attempt=job.attempt, notebook=notebook)
        # If neither update applies, another worker took the job over, or its end is already recorded.
        if move(expect="running", to=status, runs=status, error=error) or move(
            expect="cancelling", to="cancelled", runs="cancelled", error=None
        ):
            crash_point("worker-ended")

    def _is_silent(self) -> bool:
        """Return whether other workers may consider the jobs of this one lost."""
        return time.monotonic() - self._renewed_at >= self._silent_seconds

    def _silence(self) -> str:
        return f"the worker could not reach the database for {self._silent_seconds:g} s"

    def _stop_if_silent(self) -> None:
        """Stop the running jobs once others may consider them lost, so that no job runs twice at once."""
        if not self._is_silent():
            return
        for running in list(self._running.values()):
            self._stop_one(running, self._silence(), counts=True)

    def _stop_one(self, running: _Running, reason: str, *, counts: bool) -> None:
        """Kill an attempt, and leave the next one to another worker."""
        running.runner.end()
        running.runner.close()
        sign_if_ours(self._notebook(running.job))
        self._keeper.end(running.runner.token)
        del self._running[running.id]
        self._ends.append(partial(settle, self.home.store, running.job, reason, counts=counts))

    def _give_back(self, *, counts: bool) -> None:
        """Before exiting, kill the running jobs and leave them to another worker."""
        reason = "the worker that ran it " + ("failed" if counts else "was stopped")
        for running in list(self._running.values()):
            if running.runner.alive:
                self._stop_one(running, reason, counts=counts)
            else:
                self._collect(running)
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while self._ends and time.monotonic() < deadline:
            try:
                self._write_ends()
            except StoreError as error:  # if the retries fail too, a new worker settles the job
                self._say(str(error))
                time.sleep(_PAUSE_AFTER_REFUSAL)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.end()
            self._spare.close()
            self._spare = None

    # Starting and exiting ----------------------------------------------------------------------

    def _say(self, words: str) -> None:
        """Print an error, the same one at most once per minute; if printing fails, continue."""
        now = time.monotonic()
        if words == self._last_printed[0] and now - self._last_printed[1] < _SAY_AGAIN_SECONDS:
            return
        self._last_printed = (words, now)
        with contextlib.suppress(OSError):
            print(f"{time.strftime('%F %T')} {words}", file=sys.stderr, flush=True)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop()

    def _may_leave(self) -> bool:
        if self._lock is not None and not is_same_file(self._lock, self._lock_path):
            return True  # the workspace was deleted, or moved away
        if self._newer is not None and not self._running and not self._ends:
            self._say(f"{self._newer.message}. This worker exits, and the queued jobs wait for a newer one.")
            return True
        if self.idle_seconds is None or self._running or self._unsure:
            return False
        if time.monotonic() - self._busy_at < self.idle_seconds:
            return False
        # First release the lock, then check again: a job submitted after this check starts a worker.
        self._drop_lock()
        if self.home.store.count_jobs("queued") == 0:
            return True
        self._busy_at = time.monotonic()
        return not self._take_lock()

    def _take_lock(self) -> bool:
        if self._lock is None:
            self._lock = take_lock(self._lock_path, seconds=0.5)
        if self._lock is None:
            return False
        with contextlib.suppress(OSError):  # a full disk: only the lock matters, not its content
            os.truncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), f"{os.getpid()}\n".encode())
        self._notes.reserve()
        return True

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
