"""All errors that callers may catch.

::

    WorkbenchError                     anything below without a status          HTTP 400
    ├── AdapterBroken                  an adapter that cannot be loaded         HTTP 501
    ├── BadInput (ValueError)          invalid input                            HTTP 400
    │   ├── BadName                    a name that is not a plain file name
    │   └── BadOptions                 options that do not match their schema   HTTP 422
    ├── NotFound (LookupError)         no object with that name or id           HTTP 404
    │   ├── UnknownAdapter
    │   ├── UnknownArtifact
    │   ├── UnknownCheckpoint
    │   ├── UnknownExperiment
    │   ├── UnknownIndex
    │   ├── UnknownJob
    │   └── UnknownRun
    ├── WrongState                     not possible in the current state        HTTP 409
    ├── TooLarge                       over a size limit                        HTTP 413
    ├── CorruptFile                    a truncated, altered or foreign file     HTTP 409
    ├── NotSupported (NotImplementedError)  not offered by the adapter          HTTP 501
    ├── Busy                           try again later                          HTTP 503
    ├── SearchFailed                   an index failed during a search          HTTP 503
    ├── AccessDenied                   not logged in, or not permitted          HTTP 403
    ├── ServerUnreachable              no workspace answers at that URL         HTTP 503
    ├── MissingExtra (ImportError)     an optional package is not installed     HTTP 501
    ├── StoreError                     the database reported an error           HTTP 503
    │   ├── NewerDatabase              upgraded by a newer version              HTTP 503
    │   ├── ReadOnly                   a workspace that can only be read        HTTP 409
    │   └── StoreUnavailable           temporarily unreachable or locked        HTTP 503
    ├── EngineLost                     no scheduler or no worker answers        HTTP 503
    ├── TaskFailed                     a task on an engine did not succeed      HTTP 409
    ├── BelowFloor                     a result below its required minimum
    └── JobError                       a job did not succeed; raised by a wait  HTTP 409
        ├── JobFailed
        └── JobCancelled

A class without a status inherits that of its parent class. The statuses are in
:data:`workbench.wire.STATUS`.

The message states the value and what is allowed; ``hint`` states what to do next, in words that hold for
Python, HTTP and panels alike. The command line adds which command helps (:mod:`workbench.commands.output`).
``advice`` is for those who own the machine: settings, paths and commands. Visitors of a published page see
the message and the hint of an error about their query, never the advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from workbench.text import listed, nearest, shown


class WorkbenchError(Exception):
    """Base of every error raised on purpose by the workbench or an adapter.

    Parameters
    ----------
    message : str
        The value, and what is allowed.
    hint : str, optional
        What to do next, for everyone; empty if the message is sufficient.
    advice : str, optional
        What else helps those who own the machine: a setting, a path, a command.
    """

    def __init__(self, message: str, *, hint: str = "", advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.advice = advice

    @property
    def help(self) -> str:
        """The hint and the advice, for those who own the machine."""
        return " ".join(filter(None, (self.hint, self.advice)))

    def __str__(self) -> str:
        return f"{self.message}\n{self.help}" if self.help else self.message


class AdapterBroken(WorkbenchError):
    """An adapter is installed but cannot be loaded.

    Parameters
    ----------
    adapter : str
        Its name.
    cause : str
        The reason: an exception from its package, an invalid entry point, or a conflicting package.
    """

    def __init__(self, adapter: str, cause: str, *, hint: str = "", advice: str = "") -> None:
        super().__init__(f"adapter {adapter!r} cannot be loaded: {cause}", hint=hint, advice=advice)
        self.adapter = adapter
        self.cause = cause


class BadInput(WorkbenchError, ValueError):
    """Invalid input."""


class BadName(BadInput):
    """A name that is not a plain file name."""


class BadOptions(BadInput):
    """Options that do not match their schema.

    Parameters
    ----------
    message : str
        All problems, one sentence each.
    problems : sequence of (field, message)
        One pair per problem; nested fields are dotted.
    """

    def __init__(
        self, message: str, problems: Sequence[tuple[str, str]] = (), *, hint: str = "", advice: str = ""
    ) -> None:
        super().__init__(message, hint=hint, advice=advice)
        self.problems = tuple(problems)


class NotFound(WorkbenchError, LookupError):
    """No object with that name or id."""


def _unknown(what: str, given: object, known: Iterable[object], empty: str) -> str:
    names = [str(name) for name in known]
    if not names:
        return f"no {what} {shown(given)}: {empty}"
    near = nearest(given, names)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    return f"no {what} {shown(given)}{meant} Known: {listed(names)}"


class UnknownAdapter(NotFound):
    """No adapter with that name is installed; the message lists the installed ones."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(
            _unknown("adapter", given, known, "no adapter is installed"),
            hint="Install its package; adapters register in the entry-point group 'workbench.adapters'.",
        )


class UnknownArtifact(NotFound):
    """No artifact with that name in this run."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(_unknown("artifact", given, known, "this run has no artifacts"))


class UnknownCheckpoint(NotFound):
    """No checkpoint with that name in this run."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(_unknown("checkpoint", given, known, "this run has no checkpoints"))


class UnknownExperiment(NotFound):
    """No experiment with that name or id in this workspace."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(_unknown("experiment", given, known, "this workspace has no experiments yet"))


class UnknownIndex(NotFound):
    """No index with that name in this workspace."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(
            _unknown("index", given, known, "this workspace has no indexes yet"),
            hint="An index_build job builds one.",
        )


class UnknownJob(NotFound):
    """No job with that id in this workspace."""

    def __init__(self, given: object, newest: int | None = None) -> None:
        there = "there are no jobs yet" if newest is None else f"the newest is {newest}"
        super().__init__(f"no job {shown(given)}: {there}")


class UnknownRun(NotFound):
    """No run with that id in this workspace."""

    def __init__(self, given: object, newest: int | None = None) -> None:
        there = "there are no runs yet" if newest is None else f"the newest is {newest}"
        super().__init__(f"no run {shown(given)}: {there}")


class WrongState(WorkbenchError):
    """The operation is not possible in the current state."""


class TooLarge(WorkbenchError):
    """The input exceeds a size limit; the message gives both sizes."""


class CorruptFile(WorkbenchError):
    """A file is truncated, altered, or in another format.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it.
    """

    def __init__(self, path: Any, reason: str, *, hint: str = "", advice: str = "") -> None:
        super().__init__(f"{path}: {reason}", hint=hint, advice=advice)
        self.path = path
        self.reason = reason


class NotSupported(WorkbenchError, NotImplementedError):
    """An adapter does not offer a method."""

    def __init__(self, adapter: str, method: str, *, hint: str = "", advice: str = "") -> None:
        super().__init__(f"adapter {adapter!r} does not offer {method}", hint=hint, advice=advice)
        self.adapter = adapter
        self.method = method


class Busy(WorkbenchError):
    """Too many concurrent requests; the same call may succeed after ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str = "", advice: str = "") -> None:
        super().__init__(message, hint=hint, advice=advice)
        self.retry_after = retry_after


class SearchFailed(WorkbenchError):
    """An index or its adapter failed during a search; the index is reopened for the next one."""


class AccessDenied(WorkbenchError):
    """The server requires a login, or this user lacks permission."""


class ServerUnreachable(WorkbenchError):
    """The server does not answer, or does not serve a workspace."""


class MissingExtra(WorkbenchError, ImportError):
    """An optional package is not installed; the hint is the install command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed", hint=f'pip install "notebook-workbench[{extra}]"')
        self.extra = extra


class StoreError(WorkbenchError):
    """The database reported an error; nothing was changed."""


class NewerDatabase(StoreError):
    """The database was created or upgraded by a newer version, which this one cannot open."""


class ReadOnly(StoreError):
    """The workspace can only be read: its disk or folder is not writable for this user, or is full."""


class StoreUnavailable(StoreError):
    """The database is temporarily unreachable or locked; the same call may succeed later.

    Attributes
    ----------
    undone : bool
        True if nothing was changed; False if a commit may have succeeded.
    """

    undone = False


class EngineLost(WorkbenchError):
    """The scheduler of an engine cannot be reached, and was waited for in vain; what was finished stays."""


class TaskFailed(WorkbenchError):
    """A task on an engine failed, or its workers died too often; the message names it with the reason."""


class BelowFloor(WorkbenchError):
    """A saved result is below its required minimum; the message names each metric and its floor."""


class JobError(WorkbenchError):
    """A job did not succeed; raised by waiting for it.

    Parameters
    ----------
    job_id : int
        The job.
    message : str
        Why it failed or was cancelled.
    cell : int, optional
        Number of the notebook cell that raised, counted from 1.
    """

    def __init__(
        self, job_id: int, message: str, *, cell: int | None = None, hint: str = "", advice: str = ""
    ) -> None:
        super().__init__(message, hint=hint, advice=advice)
        self.job_id = job_id
        self.cell = cell


class JobFailed(JobError):
    """The job failed."""


class JobCancelled(JobError):
    """The job was cancelled."""
