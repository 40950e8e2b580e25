"""Claim jobs, run each in a process of its own, keep their leases, and write how they ended.

The worker alone decides a job's end, from the runner's exit. It also settles what others left: a job whose
worker died, a notebook whose kernel vanished, a run whose process is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from workbench import jobs, notebooks, processes, records
from workbench.errors import StoreError, WorkbenchError
from workbench.processes import Process
from workbench.runner import INTERRUPTED
from workbench.settling import end_runs, settle, settle_lost
from workbench.workspace import HOME, Workspace

#: Seconds between two looks at the queue and at the running jobs.
LOOK_SECONDS = 0.1

#: Seconds between two heartbeats, and how long a claim holds without one.
BEAT_SECONDS, LEASE_SECONDS = 2.0, 40.0

#: Seconds a cancelled notebook is given to stop at its cell before everything of it is killed.
GRACE_SECONDS = 5.0

#: Seconds without a job after which a worker in the background leaves; ``$WORKBENCH_WORKER_IDLE``.
IDLE_SECONDS = 60.0
IDLE = "WORKBENCH_WORKER_IDLE"

#: Seconds to wait after the database refused something.
_PAUSE_AFTER_REFUSAL = 1.0


@dataclass
class _Running:
    """One attempt that is going on here."""

    job: records.Job
    process: subprocess.Popen[str]
    me: Process
    token: str
    outcome: Path
    runtime: str
    kill_at: float | None = None

    @property
    def id(self) -> int:
        return self.job.id or 0


class Worker:
    """Runs the jobs of one workspace.

    Parameters
    ----------
    home : Workspace
        Whose jobs.
    slots : int
        How many at once.
    idle_seconds : float or None
        Leave after so long without a job; None to stay.
    """

    def __init__(self, home: Workspace, *, slots: int = 1, idle_seconds: float | None = None) -> None:
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
        self._stopping = False
        self._beat_at = 0.0
        self._busy_at = time.monotonic()
        self._lock: IO[bytes] | None = None

    def run(self) -> None:
        """Work until told to stop, or until there has been nothing to do for long enough."""
        with contextlib.suppress(ValueError):  # signals are for the main thread; elsewhere call stop()
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        if not self._take_lock() and self.idle_seconds is not None:
            return  # another one is alive, and looks at the queue before it leaves
        try:
            while not self._stopping and not self._may_leave():
                try:
                    self.step()
                except StoreError as error:  # a full disk, a database that restarts: it may pass
                    print(f"{time.strftime('%F %T')} {error}", file=sys.stderr, flush=True)
                    time.sleep(_PAUSE_AFTER_REFUSAL)
                time.sleep(LOOK_SECONDS)
        finally:
            self._give_back()
            self._drop_lock()

    def stop(self) -> None:
        """Leave as soon as possible; what is running here goes back to the queue, or fails."""
        self._stopping = True

    def step(self) -> None:
        """Do everything that is due, once."""
        if time.monotonic() - self._beat_at >= BEAT_SECONDS:
            self._beat_at = time.monotonic()
            if self._running:
                self.home.store.renew_leases(self.id, LEASE_SECONDS)
            settle_lost(self.home.store)
        if self._running:
            self._busy_at = time.monotonic()
            self._heed_cancels()
            for running in list(self._running.values()):
                if (code := running.process.poll()) is not None:
                    self._settle(running, code)
        while len(self._running) < self.slots and not self._stopping:
            job = self.home.store.claim_job(self._who, LEASE_SECONDS)
            if job is None:
                break
            self._busy_at = time.monotonic()
            self._start(job)

    # One job -----------------------------------------------------------------------------------

    def _start(self, job: records.Job) -> None:
        folder = self.home.jobs_dir / str(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        token = f"{job.id}-{job.attempt}-{secrets.token_hex(8)}"
        outcome = folder / f".outcome-{job.attempt}.json"
        outcome.unlink(missing_ok=True)
        try:
            todo = self._todo(job, folder, outcome)
        except WorkbenchError as error:
            said = {"cell": None, "type": type(error).__name__, "message": str(error)}
            self._end(job, "failed", said)
            return
        todo["runtime"] = runtime = tempfile.mkdtemp(prefix="wb-")
        environment = {
            **os.environ,
            HOME: str(self.home.path),
            jobs.JOB: str(job.id),
            jobs.ATTEMPT: str(job.attempt),
            processes.TOKEN: token,
            "PYTHONUNBUFFERED": "1",
            # Threads that spin while they wait starve all else on the machine: two jobs side by side were
            # twenty times slower so. Asleep they cost a lone job about a third. Set it to decide otherwise.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        }
        command = processes.dies_with_parent([sys.executable, "-m", "workbench.runner"])
        with (folder / "log.txt").open(
            "ab"
        ) as log:  # appended by this process's, and by the notebook's lines
            process = subprocess.Popen(  # noqa: S603  # this interpreter and our own module
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                text=True,
                start_new_session=True,
            )
        assert process.stdin is not None  # noqa: S101  # it was asked for
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(todo))
        me = Process(process.pid, processes.started(process.pid))
        self._running[job.id or 0] = _Running(job, process, me, token, outcome, runtime)
        self.home.store.update_job(
            job.id or 0,
            attempt=job.attempt,
            durable=True,
            pid=me.pid,
            pid_started=me.started,
            token=token,
            notebook=f"jobs/{job.id}/notebook.ipynb",
        )

    def _todo(self, job: records.Job, folder: Path, outcome: Path) -> dict[str, Any]:
        if job.source:
            source, parameters = Path(job.source), job.options
        else:
            source = notebooks.job_notebook(job.type)
            parameters = {"adapter": job.adapter, "options": job.options, "workspace": str(self.home.path)}
        return {
            "source": str(source),
            "output": str(folder / "notebook.ipynb"),
            "parameters": parameters,
            "log": str(folder / "log.txt"),
            "cwd": job.cwd,
            "outcome": str(outcome),
        }

    def _heed_cancels(self) -> None:
        held = self.home.store.held_jobs(self.id)
        now = time.monotonic()
        for running in self._running.values():
            state = held.get(running.id)
            if running.kill_at is not None:
                if now >= running.kill_at:
                    processes.kill_family(running.me, running.token)
            elif state is None or state[1] != running.job.attempt:
                running.kill_at = now  # taken from us: nothing of it may go on here
            elif state[0] == "cancelling":
                running.kill_at = now + GRACE_SECONDS
                with contextlib.suppress(ProcessLookupError):
                    running.process.send_signal(signal.SIGUSR1)

    def _settle(self, running: _Running, code: int) -> None:
        """Write how an attempt ended, once nothing of it is left."""
        left = processes.kill_family(running.me, running.token)
        if left:
            print(f"job {running.id}: could not kill {left}", file=sys.stderr, flush=True)
        shutil.rmtree(running.runtime, ignore_errors=True)
        del self._running[running.id]
        error = _outcome(running.outcome)
        if code == 0:
            self._end(running.job, "succeeded", None)
            return
        if error is None and code == INTERRUPTED:
            error = {"cell": None, "type": "Interrupted", "message": "the notebook was interrupted"}
        if error is None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            error = {
                "cell": None,
                "type": "RunnerDied",
                "message": f"the process that ran the notebook ended with {how}",
            }
        self._end(running.job, "failed", error)

    def _end(self, job: records.Job, status: str, error: dict[str, Any] | None) -> None:
        store, job_id = self.home.store, job.id or 0
        if store.move_job(job_id, expect="running", to=status, attempt=job.attempt, error=error):
            ended = status
        elif store.move_job(job_id, expect="cancelling", to="cancelled", attempt=job.attempt, error=None):
            ended = "cancelled"
        else:
            return  # no longer ours to say
        end_runs(self.home.store, job_id, ended, error)

    def _give_back(self) -> None:
        """On leaving: kill what runs here and let another worker have it."""
        for running in list(self._running.values()):
            processes.kill_family(running.me, running.token)
            running.process.wait()
            shutil.rmtree(running.runtime, ignore_errors=True)
            with contextlib.suppress(StoreError):  # a new worker settles it then
                settle(self.home.store, running.job, "the worker that ran it was stopped")
        self._running.clear()

    # Coming and going --------------------------------------------------------------------------

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop()

    def _may_leave(self) -> bool:
        if self._lock is not None and not _is_same_file(self._lock, jobs.worker_lock(self.home)):
            return True  # the workspace was deleted, or moved away
        if self.idle_seconds is None or self._running:
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
        # Others try the lock for an instant to see whether somebody holds it.
        deadline = time.monotonic() + 0.5
        file = jobs.worker_lock(self.home).open("ab")
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.close()
                    return False
                time.sleep(0.02)
            else:
                file.truncate(0)
                file.write(f"{os.getpid()}\n".encode())
                file.flush()
                self._lock = file
                return True

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _outcome(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    path.unlink(missing_ok=True)
    return found if isinstance(found, dict) else None


def _is_same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker: ``python -m workbench.worker --workspace DIR``."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.worker", description="Run the jobs of a workspace."
    )
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--background", action="store_true", help="leave when there is nothing to do")
    given = parser.parse_args(arguments)
    idle = float(os.environ.get(IDLE) or IDLE_SECONDS) if given.background else None
    with Workspace(given.workspace) as home:
        Worker(home, slots=given.slots, idle_seconds=idle).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
