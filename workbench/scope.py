"""The job scope: how a job notebook reports on its own job.

::

    with job_scope("eval", adapter, options) as job:
        result = job.finish(job.adapter.evaluate(job.options, job))

Under a worker the scope is the queued job, and the worker decides how it ended. Run by hand or under plain
papermill, the scope creates its own row and ends it itself.

In a notebook of several steps the job spans its cells, from :func:`start_job` to ``job.end()``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.options import check_options
from workbench.adapter.registry import get_adapter
from workbench.base_workspace import BaseWorkspace
from workbench.errors import BadInput, BadOptions, JobCancelled, StoreError, WorkbenchError, WrongState
from workbench.home import HOME
from workbench.host import processes
from workbench.host.files import check_file_name, write_whole
from workbench.jobs.checking import check_beginning
from workbench.jobs.floors import below_floor, check_floors
from workbench.jobs.reporting import Reporter
from workbench.jobs.workers import ATTEMPT, JOB
from workbench.notebooks import bars
from workbench.notebooks.cells import CellWatch, shell
from workbench.notebooks.parameters import check_injected
from workbench.notebooks.typed_options import given_options
from workbench.results.result import Better, Metric, Result, plain_result
from workbench.runs.run import Run
from workbench.store import records
from workbench.store.database import patiently
from workbench.text import shown
from workbench.values import Settings, Tags, plain
from workbench.workspace import Workspace

_T = TypeVar("_T")


class JobScope:
    """The job of the running notebook, seen from inside; :func:`job_scope` returns it.

    Attributes
    ----------
    type : str
        The job's type.
    adapter : BaseAdapter
        The job's adapter.
    options : BaseModel
        The job's options, checked.
    workspace : Workspace
        The workspace that the job belongs to.
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
                f"a job needs a local workspace folder, got {workspace!r}",
                hint="Submit the job to that workspace instead: workspace.submit(…), or submit_notebook(…).",
            )
        self._own_workspace = not isinstance(workspace, Workspace)
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace(workspace or None)
        self._row: records.JobRecord | None = None
        self._attached = False
        self._result: Result | None = None
        self._reporter: Reporter | None = None
        self._runs: list[Run] = []
        self._over = False
        self._watch: CellWatch | None = None
        self._raised: BaseException | None = None
        self.adapter: BaseAdapter
        self.options: Any = None

    @property
    def id(self) -> int:
        """The job's id."""
        return self._entered().id or 0

    @property
    def attached(self) -> bool:
        """Whether a worker runs this notebook (not a person or plain papermill)."""
        return self._attached

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the job's progress.

        Parameters
        ----------
        done : float
            Amount done, in any unit.
        total : float, optional
            Total amount, in the same unit; default: the last reported total.
        message : str
            A few words on the current work.

        Raises
        ------
        JobCancelled
            The job was cancelled.
        """
        self._going_on()
        assert self._reporter is not None  # noqa: S101  # made on entering
        self._reporter.say(float(done), None if total is None else float(total), str(message))

    def stage(self, name: str, share: float | None = None) -> AbstractContextManager[None]:
        """Return a context in which :meth:`progress` reports on one part of the job.

        Stages may be nested. The overall progress follows from the progress of the stages and never goes
        backwards.

        Parameters
        ----------
        name : str
            Name of the stage, in a word or two.
        share : float, optional
            Fraction of the enclosing stage or job that this stage takes, above 0; the shares of its stages
            add up to at most 1. If omitted, the overall progress is unknown during the stage, and only the
            stage's own progress is shown.

        Examples
        --------
        >>> with job.stage("features", share=0.7):                  # doctest: +SKIP
        ...     job.progress(3, 10)
        """
        self._entered()
        assert self._reporter is not None  # noqa: S101  # made on entering
        return self._reporter.stage(name, share)

    def track(self, items: Iterable[_T], total: float | None = None, message: str = "") -> Iterator[_T]:
        """Yield from ``items``, and report progress after each.

        Parameters
        ----------
        items : iterable
            The items to iterate over.
        total : float, optional
            Number of items; default: ``len(items)`` if known.
        message : str
            A few words on the current work.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total, message)
        for number, item in enumerate(items, 1):
            yield item
            self.progress(number, total, message)

    def follow_tqdm(self) -> AbstractContextManager[None]:
        """Return a context in which tqdm's progress bars are reported as this job's progress.

        This includes bars that libraries draw. Nested bars are shown as stages. Without tqdm installed it has
        no effect.
        """
        self._entered()
        assert self._reporter is not None  # noqa: S101  # made on entering
        return bars.follow(self._reporter.say_bars)

    def start_run(
        self,
        experiment: str,
        *,
        name: str | None = None,
        config: Settings | None = None,
        tags: Tags | None = None,
        better: Mapping[str, Better] | None = None,
    ) -> Run:
        """Start a run that belongs to this job; the adapter declares the directions of its metrics.

        Raises
        ------
        WrongState
            The job was taken over by another process.
        """
        row, now = self._going_on(), time.time()
        store = self.workspace.store
        if patiently(lambda: store.update_job(self.id, attempt=row.attempt, heartbeat_at=now)) is None:
            raise WrongState(f"job {self.id} was taken over by another process")
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

    def write_file(self, name: str, text: str) -> Path:
        """Write a text file beside the job's notebook, for details that a report has no room for.

        Parameters
        ----------
        name : str
            A plain file name; an existing file is replaced.
        text : str
            Its content.

        Returns
        -------
        Path
            The file, in the job's folder of the workspace.

        Raises
        ------
        BadName
            The name is not a plain file name.
        """
        file = self.workspace.jobs_dir / str(self.id) / check_file_name(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode("utf-8", "backslashreplace"))
        return file

    def check_data(self) -> Result:
        """Return what the adapter says of the data that the options name; its files go beside the notebook.

        For jobs of the type ``data_check``.
        """
        self._entered()
        return self.adapter.check_data(
            self.options.source,
            self.workspace.jobs_dir / str(self.id),
            thorough=self.options.thorough,
            progress=self.progress,
        )

    def finish(self, result: Result) -> Result:
        """Save the job's result, and return it so that a notebook can display it.

        Raises
        ------
        BadInput
            ``result`` is not a :class:`workbench.Result`.
        WrongState
            The job was taken over by another process.
        """
        row = self._going_on()
        if not isinstance(result, Result):
            kind = f"{type(self.adapter).__name__}'s {self.type}"
            raise BadInput(f"{kind} must return a workbench.Result, got a {type(result).__name__}")
        assert self._reporter is not None  # noqa: S101
        with contextlib.suppress(StoreError):  # progress may be lost, the result may not
            self._reporter.flush()
        processes.crash_point("result-before")
        data = plain_result(result)
        # Saving the same result twice is harmless, so retry until the database is back.
        if not patiently(lambda: self.workspace.store.save_result(self.id, row.attempt, data)):
            raise WrongState(f"job {self.id} was taken over by another process")
        processes.crash_point("result-after")
        self._result = result
        return result

    def end(self) -> None:
        """End a job that :func:`start_job` started; a second call has no effect.

        Raises
        ------
        BelowFloor
            A metric of the result is below its minimum value.
        WrongState
            The job has no result yet; it goes on.
        """
        if self._over:
            return
        if self._result is None:
            raise WrongState(f"job {self.id} has no result yet", hint="Save one first: job.finish(result)")
        self.__exit__(None, None, None)

    def _begin(self) -> Self:
        """Start the job, to be ended by :meth:`end`, by a cell that fails, or with the kernel."""
        self.__enter__()
        self._watch = CellWatch(self._fail_in_cell, self._go_on, self._leave)
        return self

    def _fail_in_cell(self, error: BaseException, cell: int | None) -> None:
        with contextlib.suppress(WorkbenchError):  # the cell's own error is what counts
            self._close(error, cell)

    def _leave_for_another(self) -> None:
        """End a job whose notebook is begun again."""
        if self._row is not None and not self._over:
            self._leave()

    def _go_on(self, error: BaseException | None) -> None:
        self._raised = error
        if isinstance(error, JobCancelled):  # asked for by somebody; the others a person may mend
            self._fail_in_cell(error, _cell())

    def _leave(self) -> None:
        """End the job because its notebook does, without having come to its end."""
        error = None
        if self._result is None:
            error = self._raised or JobCancelled(self.id, "its notebook was closed")
        with contextlib.suppress(WorkbenchError):
            self._close(error, None)

    def __enter__(self) -> Self:
        row = self._attach() or self._begin_by_hand()
        self._row = row
        self._reporter = Reporter(self.workspace.store, row)
        processes.crash_point("scope-entered")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over:
            self._close(error, _cell())

    def _close(self, error: BaseException | None, cell: int | None) -> None:
        below = None if error is not None else below_floor(self._result, self._entered().floors)
        self._over = True
        if self._watch is not None:
            self._watch.stop()
        try:
            assert self._reporter is not None  # noqa: S101
            self._reporter.stop()
            self._end(error or below, cell)
        except WorkbenchError as refusal:
            if error is None:
                raise
            error.add_note(f"The job's final status could not be saved either: {refusal}")
        finally:
            if self._own_workspace:
                self.workspace.close()
        if below is not None:
            raise below

    def _entered(self) -> records.JobRecord:
        if self._row is None:
            raise WrongState(
                "the job has not started", hint="Use it in a with statement: with wb.job_scope(…) as job"
            )
        return self._row

    def _going_on(self) -> records.JobRecord:
        row = self._entered()
        if self._over:
            raise WrongState(
                f"job {row.id} has ended", hint="Run the notebook from its first cell for another job."
            )
        return row

    def _attach(self) -> records.JobRecord | None:
        """Return the job that a worker runs this notebook for; None if run by hand."""
        job_id = os.environ.get(JOB, "")
        home = os.environ.get(HOME, "")
        if not job_id or not home or Path(home).resolve() != self.workspace.path:
            return None
        row = self.workspace.store.job(int(job_id))
        if row is not None and row.type != self.type:
            return None  # a separate job, inside a notebook that is a job
        if (
            row is None
            or row.status not in ("running", "cancelling")
            or str(row.attempt) != os.environ.get(ATTEMPT)
        ):
            # Another process considered it lost. Run by hand here, it would run a second time, in parallel to
            # the attempt that counts.
            raise WrongState(f"job {job_id} was taken over by another process")
        os.environ.pop(JOB)  # a second scope in this notebook is a separate job
        self._attached = True
        row.floors = {**row.floors, **self._floors}
        self.adapter = get_adapter(row.adapter)
        self.options = check_options(self.adapter, row.type, row.options)
        return row

    def _begin_by_hand(self) -> records.JobRecord:
        check_injected(_cells())
        adapter, options = self._given
        self.adapter = adapter if isinstance(adapter, BaseAdapter) else get_adapter(adapter or None)
        self.options, floors = check_beginning(
            self.adapter, self.type, _options(options), self.workspace, floors=self._floors
        )
        me = processes.this_process()
        now = time.time()
        row = records.JobRecord(
            type=self.type,
            adapter=self.adapter.name,
            status="running",
            options=plain(self.options, "options"),
            floors=floors,
            cwd=str(Path.cwd()),
            started_at=now,
            heartbeat_at=now,
            attempt=1,
            host=processes.host(),
            pid=me.pid,
            pid_started=me.started,
        )
        return self.workspace.store.add_job(row)

    def _end(self, error: BaseException | None, cell: int | None) -> None:
        store, row = self.workspace.store, self._entered()
        cancelled = isinstance(error, (JobCancelled, KeyboardInterrupt))
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded"
        if error is not None:
            status = "cancelled" if cancelled else "failed"
        for run in self._runs:  # runs that are still open get the job's status
            if run.refresh().status == "running":
                run.finish(status, error)
        problem = (
            None if error is None else {"cell": cell, "type": type(error).__name__, "message": str(error)}
        )
        if self._attached:
            # The worker decides how the job ended, from the runner's exit code; this only records the error.
            if problem is not None and not cancelled:
                patiently(lambda: store.update_job(self.id, attempt=row.attempt, durable=True, error=problem))
            return
        move = partial(store.move_job, self.id, attempt=row.attempt)
        if error is None and patiently(lambda: move(expect="running", to="succeeded")):
            return
        ended = "cancelled" if cancelled or error is None else "failed"
        kept = problem if ended == "failed" else None
        patiently(lambda: move(expect=("running", "cancelling"), to=ended, error=kept))


def job_scope(
    type: str,  # noqa: A002
    adapter: str | BaseAdapter | None = None,
    options: Mapping[str, Any] | BaseModel | str | None = None,
    *,
    workspace: Workspace | str | os.PathLike[str] | None = None,
    fail_below: Mapping[str, float] | str | None = None,
) -> JobScope:
    """Return the job of the running notebook, for a ``with`` statement.

    Under a worker it is the queued job. Run by hand or under plain papermill, it is a new job, so that batch
    runs leave the same records.

    Parameters
    ----------
    type : str
        ``train``, ``eval``, ``index_build``, or another type that the adapter offers.
    adapter : str or BaseAdapter, optional
        The adapter; default: the only one installed.
    options : mapping, model or JSON text, optional
        The job's options.
    workspace : Workspace or path, optional
        Default: ``$WORKBENCH_HOME``, or ``./results`` if that is not set.
    fail_below : mapping or JSON text, optional
        Minimum values for metrics of the result, by full name. If the result is below one of them,
        leaving the scope raises :class:`workbench.BelowFloor`; the result is saved all the same.

    Examples
    --------
    >>> with job_scope("eval", "toy", {"k": 3}) as job:          # doctest: +SKIP
    ...     job.finish(job.adapter.evaluate(job.options, job))
    """
    return JobScope(type, adapter, options, workspace=workspace, fail_below=fail_below)


def start_job(
    type: str,  # noqa: A002
    adapter: str | BaseAdapter | None = None,
    names: Mapping[str, Any] | None = None,
) -> JobScope:
    """Start the job of a notebook that consists of steps, and return it; ``job.end()`` ends it.

    As with :func:`job_scope`, it is the queued job under a worker, and a new job otherwise. Where nobody sits
    at the notebook, a cell that fails ends the job as failed; a person may run the cell again. A job that has
    no result when its kernel ends was cancelled, or failed with the last error.

    Parameters
    ----------
    type : str
        The job's type.
    adapter : str or BaseAdapter, optional
        The notebook's adapter; default: the only one installed.
    names : mapping, optional
        The names of the notebook's parameters cell: ``globals()``. Those of the adapter's options set them,
        beside ``options`` (JSON object), ``workspace`` and ``fail_below``, see :func:`job_scope`. A job that
        an earlier run of the same cell started there, as ``job``, is ended first.

    Raises
    ------
    BadOptions
        An option is invalid, or given twice, or a parameter was injected that the notebook does not declare.
    BadInput
        The parameter ``adapter`` names another adapter.

    Examples
    --------
    >>> job = start_job("train", "toy", globals())               # doctest: +SKIP
    >>> job.finish(job.adapter.train(job.options, job))          # doctest: +SKIP
    >>> job.end()                                                # doctest: +SKIP
    """
    given = dict(names or {})
    check_injected(_cells())
    earlier = given.get("job")
    if isinstance(earlier, JobScope):
        earlier._leave_for_another()
    family = adapter if isinstance(adapter, BaseAdapter) else get_adapter(adapter or None)
    other = given.get("adapter") or family.name
    if other != family.name:
        raise BadInput(
            f"this notebook runs jobs of adapter {family.name!r}, not of {shown(other)}",
            hint="Submit the job instead (workbench jobs submit), or write a notebook with wb.job_scope.",
        )
    options = given_options(family.options(type), given)
    floors = given.get("fail_below") or None
    scope = JobScope(type, family, options, workspace=given.get("workspace") or None, fail_below=floors)
    return scope._begin()


def _options(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        read = json.loads(given or "{}")
    except ValueError as error:
        raise BadOptions(
            f"options are not valid JSON ({error}): {shown(given)}", hint="Example: '{\"k\": 3}'."
        ) from None
    if not isinstance(read, dict):
        raise BadOptions(f"options must be a JSON object, got {shown(given)}", hint="Example: '{\"k\": 3}'.")
    return read


def _cell() -> int | None:
    """Return the number of the running notebook cell, or None outside IPython."""
    ipython = shell()
    return None if ipython is None else int(ipython.execution_count)


def _cells() -> list[str]:
    """Return the sources of the cells that were executed so far; none outside IPython."""
    ipython = shell()
    return [] if ipython is None else [str(source) for source in ipython.user_ns.get("In", ())]
