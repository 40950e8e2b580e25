"""What a job notebook does with the job it is.

::

    with job_scope("eval", adapter, options) as job:
        result = job.finish(job.adapter.evaluate(job.options, job))

Under a worker the scope is the queued job, and the worker decides how it ended; by hand, or under plain
papermill, it makes a row of its own and ends it itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.options import check_job, check_options
from workbench.adapter.registry import get_adapter
from workbench.base_workspace import BaseWorkspace
from workbench.errors import BadInput, BadOptions, JobCancelled, StoreError, WorkbenchError, WrongState
from workbench.home import HOME
from workbench.host import processes
from workbench.jobs.floors import below_floor, check_floors
from workbench.jobs.reporting import Reporter
from workbench.jobs.workers import ATTEMPT, JOB
from workbench.notebooks import bars
from workbench.results.result import Metric, Result, plain_result
from workbench.runs.description import Better
from workbench.runs.run import Run
from workbench.store import records
from workbench.store.database import patiently
from workbench.values import plain
from workbench.workspace import Workspace

_T = TypeVar("_T")


class JobScope:
    """The job that a notebook is, from inside; what :func:`job_scope` returns.

    Attributes
    ----------
    type : str
        The job's type.
    adapter : BaseAdapter
        The family.
    options : BaseModel
        Its checked options.
    workspace : Workspace
        Where it belongs.
    """

    def __init__(
        self,
        type: str,  # noqa: A002
        adapter: str | BaseAdapter | None = None,
        options: Mapping[str, Any] | BaseModel | str | None = None,
        *,
        workspace: Workspace | str | os.PathLike[str] | None = None,
        fail_below: Mapping[str, float] | str | None = None,
    ) -> None:
        self.type = type
        self._given = (adapter, options)
        self._floors = check_floors(fail_below)
        if isinstance(workspace, BaseWorkspace) and not isinstance(workspace, Workspace):
            raise BadInput(
                f"a job writes to a workspace in a folder of this machine, not to {workspace!r}",
                hint="Submit it there: workspace.submit(…), or submit_notebook(…).",
            )
        self._own_workspace = not isinstance(workspace, Workspace)
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace(workspace or None)
        self._row: records.Job | None = None
        self._attached = False
        self._result: Result | None = None
        self._reporter: Reporter | None = None
        self._runs: list[Run] = []
        self.adapter: BaseAdapter
        self.options: Any = None

    @property
    def id(self) -> int:
        """The job's id."""
        return self._entered().id or 0

    @property
    def attached(self) -> bool:
        """Whether a worker runs this notebook, rather than a person or plain papermill."""
        return self._attached

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the work is.

        Parameters
        ----------
        done : float
            How much is done, in any unit.
        total : float, optional
            How much there is; what was said last if not given.
        message : str
            What is going on, in a few words.

        Raises
        ------
        JobCancelled
            Somebody cancelled the job.
        """
        self._entered()
        assert self._reporter is not None  # noqa: S101  # made on entering
        self._reporter.say(float(done), None if total is None else float(total), str(message))

    def stage(self, name: str, share: float | None = None) -> AbstractContextManager[None]:
        """Return a context in which :meth:`progress` speaks of one part of the job.

        Stages may be nested. What is shown of the whole moves by what the stages say of themselves, and
        never backwards.

        Parameters
        ----------
        name : str
            What is going on, in a word or two.
        share : float, optional
            How much of what is around it this stage takes, above 0; all of them together at most 1. Without
            it the whole stays unknown meanwhile, and the stage alone is shown.

        Examples
        --------
        >>> with job.stage("features", share=0.7):                  # doctest: +SKIP
        ...     job.progress(3, 10)
        """
        self._entered()
        assert self._reporter is not None  # noqa: S101  # made on entering
        return self._reporter.stage(name, share)

    def track(self, items: Iterable[_T], total: float | None = None, message: str = "") -> Iterator[_T]:
        """Yield from ``items``, and say after each how many are done.

        Parameters
        ----------
        items : iterable
            What to go through.
        total : float, optional
            How many there are; ``len(items)`` if not given and known.
        message : str
            What is going on.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total, message)
        for number, item in enumerate(items, 1):
            yield item
            self.progress(number, total, message)

    def follow_tqdm(self) -> AbstractContextManager[None]:
        """Return a context in which what tqdm shows, here or deep in a library, is this job's progress.

        Bars inside bars show as stages. Where tqdm is not installed nothing happens.
        """
        self._entered()
        assert self._reporter is not None  # noqa: S101  # made on entering
        return bars.follow(self._reporter.say_bars)

    def start_run(
        self,
        experiment: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | BaseModel | None = None,
        tags: Mapping[str, Any] | None = None,
        better: Better | None = None,
    ) -> Run:
        """Start a run that belongs to this job; its metrics' directions are those the adapter declares.

        Raises
        ------
        WrongState
            The job was taken away from this process in the meantime.
        """
        row, now = self._entered(), time.time()
        store = self.workspace.store
        if patiently(lambda: store.update_job(self.id, attempt=row.attempt, heartbeat_at=now)) is None:
            raise WrongState(f"job {self.id} is no longer this process's to log for")
        own = [Metric(pattern, way) for pattern, way in (better or {}).items()]
        run = self.workspace.start_run(
            experiment,
            name,
            self.options if config is None else config,
            self.id,
            tags=tags,
            better=[*own, *self.adapter.metrics],
        )
        self._runs.append(run)
        return run

    def finish(self, result: Result) -> Result:
        """Keep what the job returns; give it back, so that a notebook can show it.

        Raises
        ------
        BadInput
            It is not a result.
        WrongState
            The job was taken away from this process in the meantime.
        """
        row = self._entered()
        if not isinstance(result, Result):
            kind = f"{type(self.adapter).__name__}'s {self.type}"
            raise BadInput(f"{kind} returned a {type(result).__name__}; a workbench.Result is wanted")
        assert self._reporter is not None  # noqa: S101
        with contextlib.suppress(StoreError):  # progress may be lost, what follows may not
            self._reporter.flush()
        processes.crash_point("result-before")
        data = plain_result(result)
        # Saved twice it is the same result: so it may be tried until the database is back.
        if not patiently(lambda: self.workspace.store.save_result(self.id, row.attempt, data)):
            raise WrongState(f"job {self.id} is no longer this process's to finish")
        processes.crash_point("result-after")
        self._result = result
        return result

    def __enter__(self) -> Self:
        row = self._attach() or self._begin_by_hand()
        self._row = row
        self._reporter = Reporter(self.workspace.store, row)
        processes.crash_point("scope-entered")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        below = None if error is not None else below_floor(self._result, self._entered().floors)
        try:
            assert self._reporter is not None  # noqa: S101
            self._reporter.stop()
            self._end(error or below)
        except WorkbenchError as refused:
            if error is None:
                raise
            error.add_note(f"The job's end could not be written either: {refused}")
        finally:
            if self._own_workspace:
                self.workspace.close()
        if below is not None:
            raise below

    def _entered(self) -> records.Job:
        if self._row is None:
            raise WrongState(
                "the job has not begun", hint="Use it in a with statement: with wb.job_scope(…) as job"
            )
        return self._row

    def _attach(self) -> records.Job | None:
        """Take up the job that a worker runs this notebook for; None by hand."""
        given = os.environ.get(JOB, "")
        home = os.environ.get(HOME, "")
        if not given or not home or Path(home).resolve() != self.workspace.path:
            return None
        row = self.workspace.store.job(int(given))
        if row is not None and row.type != self.type:
            return None  # a job of its own, inside a notebook that is a job
        if (
            row is None
            or row.status not in ("running", "cancelling")
            or str(row.attempt) != os.environ.get(ATTEMPT)
        ):
            # Others took it for lost. By hand it would run a second time, and beside the attempt that counts.
            raise WrongState(f"job {given} is no longer this process's to run")
        os.environ.pop(JOB)  # a second scope in this notebook is a job of its own
        self._attached = True
        row.floors = {**row.floors, **self._floors}
        self.adapter = get_adapter(row.adapter)
        self.options = check_options(self.adapter, row.type, row.options)
        return row

    def _begin_by_hand(self) -> records.Job:
        adapter, options = self._given
        self.adapter = adapter if isinstance(adapter, BaseAdapter) else get_adapter(adapter or None)
        self.options = check_job(self.adapter, self.type, _options(options))
        me = processes.this_process()
        now = time.time()
        row = records.Job(
            type=self.type,
            adapter=self.adapter.name,
            status="running",
            options=plain(self.options, "options"),
            floors=self._floors,
            cwd=str(Path.cwd()),
            started_at=now,
            heartbeat_at=now,
            attempt=1,
            host=processes.host(),
            pid=me.pid,
            pid_started=me.started,
        )
        return self.workspace.store.add_job(row)

    def _end(self, error: BaseException | None) -> None:
        store, row = self.workspace.store, self._entered()
        cancelled = isinstance(error, (JobCancelled, KeyboardInterrupt))
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded"
        if error is not None:
            status = "cancelled" if cancelled else "failed"
        for run in self._runs:  # a run still open ends as its job does
            if run.refresh().status == "running":
                run.finish(status, error)
        said = (
            None if error is None else {"cell": _cell(), "type": type(error).__name__, "message": str(error)}
        )
        if self._attached:
            # The worker decides how the job ended, from the runner's exit; this is only what is known here.
            if said is not None and not cancelled:
                patiently(lambda: store.update_job(self.id, attempt=row.attempt, durable=True, error=said))
            return
        move = partial(store.move_job, self.id, attempt=row.attempt)
        if error is None and patiently(lambda: move(expect="running", to="succeeded")):
            return
        ended = "cancelled" if cancelled or error is None else "failed"
        kept = said if ended == "failed" else None
        patiently(lambda: move(expect=("running", "cancelling"), to=ended, error=kept))


def job_scope(
    type: str,  # noqa: A002
    adapter: str | BaseAdapter | None = None,
    options: Mapping[str, Any] | BaseModel | str | None = None,
    *,
    workspace: Workspace | str | os.PathLike[str] | None = None,
    fail_below: Mapping[str, float] | str | None = None,
) -> JobScope:
    """Return the job that a notebook is, for a ``with`` statement.

    Under a worker it is the queued job; by hand, or under plain papermill, a row of its own is made, so
    that batch runs leave the same records.

    Parameters
    ----------
    type : str
        ``train``, ``eval``, ``index_build``, or another type the adapter offers.
    adapter : str or BaseAdapter, optional
        The family; the only one installed if empty.
    options : mapping, model or JSON text, optional
        Its options.
    workspace : Workspace or path, optional
        ``$WORKBENCH_HOME`` or ``./results`` if not given.
    fail_below : mapping or JSON text, optional
        Metrics of the result that must reach a value: ``{"R@10": 0.35}``. Leaving the scope with a result
        below it raises :class:`workbench.BelowFloor`; the result is kept all the same.

    Examples
    --------
    >>> with job_scope("eval", "toy", {"k": 3}) as job:          # doctest: +SKIP
    ...     job.finish(job.adapter.evaluate(job.options, job))
    """
    return JobScope(type, adapter, options, workspace=workspace, fail_below=fail_below)


def _options(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        read = json.loads(given or "{}")
    except ValueError as error:
        raise BadOptions(f"options are not JSON ({error}): {given!r}", hint="Such as '{\"k\": 3}'.") from None
    if not isinstance(read, dict):
        raise BadOptions(f"options must be a JSON object, not {given!r}", hint="Such as '{\"k\": 3}'.")
    return read


def _cell() -> int | None:
    """Return the number of the notebook cell that is running, or None outside of IPython."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return None if shell is None else int(shell.execution_count)
