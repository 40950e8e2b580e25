"""Jobs of a workspace on this machine, seen from outside.

The status of a job changes only by guarded updates (``Store.move_job``). Its output is in ``jobs/<id>/`` of
the workspace: the executed notebook, ``log.txt``, and all that it printed in ``output.txt``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from typing_extensions import override

from workbench.adapter.registry import get_adapter
from workbench.errors import BadInput, StoreError, UnknownJob, WrongState
from workbench.home import Home
from workbench.host.files import delete_folder
from workbench.host.log import LogReader
from workbench.jobs import workers
from workbench.jobs.checking import check_beginning
from workbench.jobs.job import Job
from workbench.jobs.queue import MAX_ATTEMPTS, check_folder, check_over, queue, source_copy
from workbench.jobs.settling import look_after
from workbench.notebooks.output import NOTE_FILE, OUTPUT_FILE
from workbench.results.result import Result
from workbench.runs.kept_files import KeptFile
from workbench.runs.order import check_new_name
from workbench.store import records
from workbench.store.database import Changes
from workbench.values import plain


class LocalJob(Job):
    """A job of a workspace on this machine.

    Parameters
    ----------
    home : Home
        The workspace.
    row : records.JobRecord
        The job as read from the database.
    """

    def __init__(self, home: Home, row: records.JobRecord) -> None:
        super().__init__(row)
        self._home = home

    @override
    def refresh(self) -> Self:
        row = self._read()
        if look_after(self._home, [row]):
            row = self._read()
        self._row, self._read_at = row, time.monotonic()
        return self

    def _read(self) -> records.JobRecord:
        row = self._home.store.job(self.id)
        if row is None:
            raise UnknownJob(self.id, self._home.store.newest_job())
        return row

    @property
    def folder(self) -> Path:
        """The folder of its output."""
        return self._home.jobs_dir / str(self.id)

    @property
    @override
    def notebook(self) -> Path | None:
        row = self._now()
        path = self._home.path / (row.notebook or f"jobs/{self.id}/notebook.ipynb")
        return path if path.is_file() else None

    @property
    @override
    def output(self) -> KeptFile | None:
        path = self.folder / OUTPUT_FILE
        try:
            status = path.stat()
        except OSError:
            return None
        return KeptFile(OUTPUT_FILE, path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    @property
    @override
    def output_note(self) -> str:
        try:
            return (self.folder / NOTE_FILE).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    @property
    @override
    def result(self) -> Result | None:
        if self._result is None and self._now().status in records.FINAL_STATUSES:
            row = self._home.store.result(self.id)
            self._result = None if row is None else _result(self.id, row.data)
        return self._result

    # Its log -----------------------------------------------------------------------------------

    @override
    def logs(self, tail: int = 200) -> str:
        return self._log().tail(tail)

    @override
    def log_size(self) -> int:
        return self._log().size()

    @override
    def log_after(self, at: int) -> tuple[str, int]:
        return self._log().after(at)

    @override
    def follow_logs(self, pause: float = 0.2) -> Iterator[str]:
        changes = Changes(self._home.store)
        return self._log().follow(lambda: (self.refresh() if changes.due() else self).done, pause)

    def _log(self) -> LogReader:
        return LogReader(self.folder / "log.txt")

    # Its course --------------------------------------------------------------------------------

    @override
    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        *,
        check: bool = True,
    ) -> Self:
        deadline = None if timeout is None else time.monotonic() + timeout
        seen: object = None
        looked = time.monotonic()
        pause = 0.02
        changes = Changes(self._home.store)
        while True:
            row = self.refresh()._row if changes.due() else self._row
            now = (row.status, row.progress_done, row.progress_total, row.progress_message)
            if now != seen:
                seen, pause = now, 0.02
                if on_progress is not None:
                    on_progress(self)
            if row.status in records.FINAL_STATUSES:
                break
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still {row.status} after {timeout:g} s")
            if row.status == "queued" and time.monotonic() - looked > 2.0:  # wherever it was submitted
                looked = time.monotonic()
                with contextlib.suppress(StoreError):  # keep waiting, and try again
                    workers.ensure_worker(self._home)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        if check:
            self._raise_unless_succeeded()
        return self

    def check_over(self) -> None:
        """Reload the job and raise unless it has ended.

        Raises
        ------
        WrongState
            It is queued or running.
        """
        check_over(self.refresh()._row)

    @override
    def retry(self) -> LocalJob:
        self.check_over()
        row = self._row
        options = row.options
        if records.DAMAGED in options:
            raise BadInput(
                f"the stored options of job {self.id} are damaged", hint="Start a new job instead."
            )
        if row.source:
            check_folder(row.cwd, row.source)
            if not source_copy(self._home, row.source_sha256).is_file():
                raise BadInput(
                    f"the submitted notebook of job {self.id} is missing", hint=f"Submit {row.source} again."
                )
        else:
            family = get_adapter(row.adapter)
            checked, _ = check_beginning(family, row.type, row.options, self._home, floors=row.floors)
            options = plain(checked, "options")
        again = records.JobRecord(
            type=row.type,
            adapter=row.adapter,
            options=options,
            floors=row.floors,
            source=row.source,
            source_sha256=row.source_sha256,
            cwd=row.cwd or str(Path.cwd()),
            max_attempts=MAX_ATTEMPTS,
        )
        return LocalJob(self._home, queue(self._home, again, start_worker=True))

    @override
    def cancel(self) -> Self:
        store = self._home.store
        if store.move_job(self.id, expect="queued", to="cancelled"):
            return self.refresh()
        if store.move_job(self.id, expect="running", to="cancelling") and self._now().worker_id:
            with contextlib.suppress(StoreError):
                workers.ensure_worker(self._home)  # if the worker is dead, a new one settles it
        return self.refresh()

    # Order -------------------------------------------------------------------------------------

    @override
    def rename(self, name: str) -> Self:
        self._home.store.change_job(self.id, name=check_new_name(name, "a job"))
        return self.refresh()

    @override
    def archive(self) -> Self:
        if not self.refresh().done:
            raise WrongState(f"job {self.id} is {self._row.status}", hint="Cancel it, or wait for its end.")
        if self._row.archived_at is None:
            self._home.store.change_job(self.id, archived_at=time.time())
        return self.refresh()

    @override
    def restore(self) -> Self:
        self._home.store.change_job(self.id, archived_at=None)
        return self.refresh()

    @override
    def delete(self) -> dict[str, int]:
        self.refresh()
        counts = self._home.store.delete_job(self.id)
        return {**counts, "bytes": delete_folder(self._home.jobs_dir, str(self.id))}


def _result(job_id: int, data: Any) -> Result:
    """Return a stored result; one that was damaged says so, since it must not hide the job."""
    try:
        return Result.model_validate(data)
    except ValidationError as error:
        problem = (
            f"the stored result of job {job_id} is damaged: {error.error_count()} of its fields are invalid"
        )
        return Result(summary="(damaged)", warnings=[f"{problem}. See: workbench doctor"])
