"""Claim jobs, run each in a process of its own, keep their leases, and write how they ended.

The worker alone decides a job's end, from the runner's exit. It also settles what others left: a job whose
worker died, a notebook whose kernel vanished, a run whose process is gone. Beside it stands a keeper, for
the case that the worker itself is killed.
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

from workbench.errors import StoreError, WorkbenchError
from workbench.home import DATABASE_URL, HOME, Home
from workbench.host import processes
from workbench.host.locks import take_lock
from workbench.host.processes import crash_point
from workbench.jobs import queue, workers
from workbench.jobs.reporting import PROGRESS_SECONDS, Pace
from workbench.jobs.settling import BEAT_SECONDS, LEASE_SECONDS, Watch, settle
from workbench.jobs.worker.attempt import Runner, Seldom
from workbench.jobs.worker.keeper import Keeper
from workbench.jobs.worker.runner import INTERRUPTED
from workbench.notebooks import shipped
from workbench.store import records

#: Seconds between two looks at the queue and at the running jobs.
LOOK_SECONDS = 0.05


#: Seconds a cancelled notebook is given to stop at its cell before everything of it is killed.
GRACE_SECONDS = 5.0


#: Without a beat for so many seconds, what a worker runs that others could take for dead is stopped.
SILENT_SECONDS = 0.75 * LEASE_SECONDS


#: Seconds without a job after which a worker in the background leaves; ``$WORKBENCH_WORKER_IDLE``.
IDLE_SECONDS = 60.0


IDLE = "WORKBENCH_WORKER_IDLE"


#: Seconds after which the same refusal is printed again.
_SAY_AGAIN_SECONDS = 60.0


#: Seconds to wait after the database refused something.
_PAUSE_AFTER_REFUSAL = 1.0


#: Seconds a worker that leaves goes on trying to write what ended.
_LAST_WORDS_SECONDS = 10.0


@dataclass
class _Running:
    """One attempt that is going on here."""

    job: records.Job
    runner: Runner
    kill_at: float | None = None
    said: dict[str, Any] | None = None
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
        Whose jobs.
    slots : int
        How many at once.
    idle_seconds : float or None
        Leave after so long without a job; None to stay.
    spare : Runner, optional
        A runner that was started already.
    lock : file, optional
        The workspace's lock for workers, where whoever started this one has taken it.
    """

    def __init__(
        self,
        home: Home,
        *,
        slots: int = 1,
        idle_seconds: float | None = None,
        spare: Runner | None = None,
        lock: IO[bytes] | None = None,
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
        self._watch = Watch(home.store)
        # A file's database has no others: who cannot write to it cannot take a job either.
        self._silent_seconds = math.inf if home.store.is_sqlite else SILENT_SECONDS
        self._keeper = Keeper(workers.worker_command(home), self._silent_seconds)
        self._stopping = False
        self._beat = Seldom(BEAT_SECONDS)
        self._renewed_at = self._busy_at = time.monotonic()
        self._lock = lock
        self._said = ("", 0.0)
        self._unsure = False  # whether a claim was broken off, so that nobody knows whether it was made

    def run(self) -> None:
        """Work until told to stop, or until there has been nothing to do for long enough."""
        with contextlib.suppress(ValueError):  # signals are for the main thread; elsewhere call stop()
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        if not self._take_lock() and self.idle_seconds is not None:
            self._drop_spare()
            return  # another one is alive, and looks at the queue before it leaves
        ordered = False
        try:
            while not self._stopping:
                try:
                    if self._may_leave():
                        break
                    self.step()
                except (StoreError, OSError) as error:  # a full disk, no more processes: it may pass
                    self._say(str(error))
                    self._stop_if_silent()
                    time.sleep(_PAUSE_AFTER_REFUSAL)
                time.sleep(LOOK_SECONDS)
            ordered = True
        finally:
            # What made this process fail may do so again: only where it was asked to leave is it the job's
            # right to be tried once more.
            self._give_back(counts=not ordered)
            self._drop_spare()
            self._drop_lock()
            self._keeper.goodbye()

    def stop(self) -> None:
        """Leave as soon as possible; what is running here goes back to the queue, or fails."""
        self._stopping = True

    def step(self) -> None:
        """Do everything that is due, once."""
        for running in list(self._running.values()):
            if not running.runner.alive:
                self._collect(running)
        self._write_ends()
        if self._beat.due():
            self._keeper.check()
            self._renew()
            self._watch.look()
        if self._running:
            self._busy_at = time.monotonic()
            self._heed_cancels()
            for running in self._running.values():
                self._hear(running)
                self._write_progress(running)
        while len(self._running) < self.slots and not self._stopping and self._claim():
            self._busy_at = time.monotonic()
        if self._spare is None and not self._stopping:
            self._spare = Runner()  # it imports while the job at hand waits for its kernel

    def _renew(self) -> None:
        """Say that what runs here is alive, and see what is held here besides."""
        if self._running or self._unsure:
            known = set(self._running)
            held = self.home.store.renew_leases(self.id, LEASE_SECONDS)
            self._stop_if_silent()  # the answer itself may have taken too long
            for job_id in held.keys() - known:
                # Taken, as the database knows and this process was not told: the connection broke.
                if (job := self.home.store.job(job_id)) is not None and job.worker_id == self.id:
                    reason = "the database broke off while it was taken"
                    settle(self.home.store, job, reason, counts=False, begun=False)
            self._unsure = False
        self._renewed_at = time.monotonic()
        self._keeper.renewed()

    # One job -----------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Take a job, if there is one, and give it to a runner."""
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

    def _todo(self, job: records.Job, runner: Runner) -> dict[str, Any]:
        folder = self.home.jobs_dir / str(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / "notebook.ipynb"
        if job.attempt > 1 and output.is_file():  # what the attempt before it left is kept
            output.replace(folder / f"notebook.attempt-{job.attempt - 1}.ipynb")
        runtime = processes.runtime_folder(runner.token)
        runtime.mkdir(mode=0o700)
        if job.source:
            source = queue.whole_source(self.home, job.source_sha256)
            parameters = job.options
        else:
            source = shipped.job_notebook(job.type)
            parameters = {"adapter": job.adapter, "options": job.options, "workspace": str(self.home.path)}
        environment = {HOME: str(self.home.path), workers.JOB: str(job.id), workers.ATTEMPT: str(job.attempt)}
        if self.home.database_url:
            environment[DATABASE_URL] = self.home.database_url
        return {
            "source": str(source),
            "output": str(output),
            "parameters": parameters,
            "log": str(folder / "log.txt"),
            "cwd": job.cwd,
            "runtime": str(runtime),
            "environment": environment,
            "watch_bars": bool(job.source),
        }

    def _hear(self, running: _Running) -> None:
        """Take in what a runner has said."""
        for said in running.runner.reports():
            if "failure" in said:
                running.failure = said["failure"]
            elif "progress" in said:
                running.said = said["progress"]

    def _write_progress(self, running: _Running) -> None:
        """Write how far a notebook is that does not say it itself: its cells, and the bars it draws."""
        if running.said is None or not running.pace.due():
            return
        said, running.said = running.said, None
        cell, bars = f"cell {said['cell']} of {said['total']}", said["bars"]
        part = bars[0]["done"] / bars[0]["total"] if bars and bars[0]["total"] else 0.0
        done = said["done"] + min(part, 1.0)
        deepest = bars[-1] if bars else {"name": cell, "done": done, "total": said["total"]}
        rate = running.rate.take((cell, len(bars), deepest["total"]), deepest["done"])
        # Cells are of any length, so only within one that draws a bar is there a time left: the bar's own.
        left = (deepest["total"] - deepest["done"]) / rate if rate and bars and deepest["total"] else None
        self.home.store.update_job(
            running.id,
            attempt=running.job.attempt,
            progress_done=done,
            progress_total=said["total"],
            progress_message=bars[0]["name"] if bars else "",
            progress_stages=[{"name": cell, "done": said["done"], "total": said["total"]}, *bars],
            progress_rate=rate if bars else None,
            progress_left=left,
        )

    def _heed_cancels(self) -> None:
        now = time.monotonic()
        for running in self._running.values():  # whatever the database says, or whether it says anything
            if running.kill_at is not None and now >= running.kill_at:
                running.runner.end()
        held = self.home.store.held_jobs(self.id)
        for running in self._running.values():
            state = held.get(running.id)
            if running.kill_at is not None:
                continue
            if state is None or state[1] != running.job.attempt:
                running.kill_at = now  # taken from us: nothing of it may go on here
            elif state[0] == "cancelling":
                running.kill_at = now + GRACE_SECONDS
                running.runner.interrupt()

    def _collect(self, running: _Running) -> None:
        """See to it that nothing is left of an attempt that is over, and note how it ended."""
        crash_point("worker-collects")
        left = running.runner.end()
        if left:
            self._say(f"job {running.id}: could not kill {left}")
        self._hear(running)
        running.runner.close()
        self._keeper.end(running.runner.token)
        del self._running[running.id]
        if self._is_silent():  # then it was the keeper who ended it
            self._ends.append(partial(settle, self.home.store, running.job, self._silence()))
            return
        code = running.runner.process.returncode
        error = running.failure
        if error is None and code == INTERRUPTED:
            error = {"cell": None, "type": "Interrupted", "message": "the notebook was interrupted"}
        elif error is None and code != 0:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            said = f"the process that ran the notebook ended with {how}"
            error = {"cell": None, "type": "RunnerDied", "message": said}
        self._ends.append(partial(self._end, running.job, "failed" if error else "succeeded", error))

    def _write_ends(self) -> None:
        """Write how attempts ended; what the database refuses now is tried again at the next step."""
        while self._ends:
            self._ends[0]()
            self._ends.pop(0)

    def _end(self, job: records.Job, status: str, error: dict[str, Any] | None) -> None:
        store, job_id = self.home.store, job.id or 0
        crash_point("worker-ends")
        notebook = f"jobs/{job_id}/notebook.ipynb"
        move = partial(store.move_job, job_id, attempt=job.attempt, notebook=notebook)
        # Where neither moves it, it is no longer ours to say, or said already.
        if move(expect="running", to=status, runs=status, error=error) or move(
            expect="cancelling", to="cancelled", runs="cancelled", error=None
        ):
            crash_point("worker-ended")

    def _is_silent(self) -> bool:
        """Say whether others may take what runs here for lost."""
        return time.monotonic() - self._renewed_at >= self._silent_seconds

    def _silence(self) -> str:
        return f"the worker could not reach the database for {self._silent_seconds:g} s"

    def _stop_if_silent(self) -> None:
        """Stop what runs here once others may take it for lost: nothing may run twice at once."""
        if not self._is_silent():
            return
        for running in list(self._running.values()):
            self._stop_one(running, self._silence(), counts=True)

    def _stop_one(self, running: _Running, reason: str, *, counts: bool) -> None:
        """Kill an attempt, and have another worker begin the next."""
        running.runner.end()
        running.runner.close()
        self._keeper.end(running.runner.token)
        del self._running[running.id]
        self._ends.append(partial(settle, self.home.store, running.job, reason, counts=counts))

    def _give_back(self, *, counts: bool) -> None:
        """On leaving: kill what runs here and let another worker have it."""
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
            except StoreError as error:  # else a new worker settles it
                self._say(str(error))
                time.sleep(_PAUSE_AFTER_REFUSAL)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.end()
            self._spare.close()
            self._spare = None

    # Coming and going --------------------------------------------------------------------------

    def _say(self, words: str) -> None:
        """Print what went wrong, the same thing once a minute; where even that fails, work goes on."""
        now = time.monotonic()
        if words == self._said[0] and now - self._said[1] < _SAY_AGAIN_SECONDS:
            return
        self._said = (words, now)
        with contextlib.suppress(OSError):
            print(f"{time.strftime('%F %T')} {words}", file=sys.stderr, flush=True)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop()

    def _may_leave(self) -> bool:
        if self._lock is not None and not _is_same_file(self._lock, workers.worker_lock(self.home)):
            return True  # the workspace was deleted, or moved away
        if self.idle_seconds is None or self._running or self._unsure:
            return False
        if time.monotonic() - self._busy_at < self.idle_seconds:
            return False
        # Let go first, then look once more: who submits after this look finds no lock and starts a worker.
        self._drop_lock()
        if self.home.store.count_jobs("queued") == 0:
            return True
        self._busy_at = time.monotonic()
        return not self._take_lock()

    def _take_lock(self) -> bool:
        if self._lock is None:
            self._lock = take_lock(workers.worker_lock(self.home), seconds=0.5)
        if self._lock is None:
            return False
        with contextlib.suppress(OSError):  # a full disk: it is the lock that counts, not what it says
            os.truncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), f"{os.getpid()}\n".encode())
        return True

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _is_same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # which says nothing of whether it is there
