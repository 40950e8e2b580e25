"""Every error a caller may meet.

::

    WorkbenchError                     anything below without a status          HTTP 400
    ├── AdapterBroken                  an adapter that cannot be loaded         HTTP 501
    ├── BadInput (ValueError)          what was given cannot be used            HTTP 400
    │   ├── BadName                    a name that is not a plain file name
    │   └── BadOptions                 options that do not fit a schema         HTTP 422
    ├── NotFound (LookupError)         nothing of that name or id               HTTP 404
    │   ├── UnknownAdapter
    │   ├── UnknownArtifact
    │   ├── UnknownCheckpoint
    │   ├── UnknownExperiment
    │   ├── UnknownIndex
    │   ├── UnknownJob
    │   └── UnknownRun
    ├── WrongState                     the thing is not in a state for that     HTTP 409
    ├── TooLarge                       over a size limit                        HTTP 413
    ├── CorruptFile                    a file that is not what it should be     HTTP 409
    ├── NotSupported (NotImplementedError)  the adapter does not offer it       HTTP 501
    ├── Busy                           try again later                          HTTP 503
    ├── SearchFailed                   an index broke while it was asked        HTTP 503
    ├── AccessDenied                   no login, or not for this                HTTP 403
    ├── ServerUnreachable              the server of a workspace does not answer HTTP 503
    ├── MissingExtra (ImportError)     an optional package is not installed     HTTP 501
    ├── StoreError                     the database refused                     HTTP 503
    │   └── StoreUnavailable           it is out of reach at the moment         HTTP 503
    ├── BelowFloor                     a result that does not reach its floors
    └── JobError                       how a job ended, when it is waited for   HTTP 409
        ├── JobFailed
        └── JobCancelled

A class without a status of its own has that of the class above it. The statuses themselves are in
:data:`workbench.wire.STATUS`.

A message says what was given and what is allowed; ``hint`` says what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class WorkbenchError(Exception):
    """Base of every error raised on purpose by the workbench or an adapter.

    Parameters
    ----------
    message : str
        What was given, and what is allowed.
    hint : str, optional
        What to do next; empty when the message says it all.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class AdapterBroken(WorkbenchError):
    """An adapter is installed but cannot be loaded.

    Parameters
    ----------
    adapter : str
        Its name.
    cause : str
        Why: what its package raised, what its entry point names, or which other package is in its way.
    """

    def __init__(self, adapter: str, cause: str, *, hint: str = "") -> None:
        super().__init__(f"adapter {adapter!r} cannot be loaded: {cause}", hint=hint)
        self.adapter = adapter
        self.cause = cause


class BadInput(WorkbenchError, ValueError):
    """What was given cannot be used."""


class BadName(BadInput):
    """A name from outside that is not a plain file name."""


class BadOptions(BadInput):
    """Options that do not fit their schema.

    Parameters
    ----------
    message : str
        All problems in one sentence each.
    problems : sequence of (field, message)
        One pair a problem; the field is dotted for nested options.
    """

    def __init__(self, message: str, problems: Sequence[tuple[str, str]] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class NotFound(WorkbenchError, LookupError):
    """Nothing of that name or id."""


def _unknown(what: str, given: object, known: Iterable[object], empty: str) -> str:
    names = [str(name) for name in known]
    if not names:
        return f"no {what} {given!r}: {empty}"
    near = difflib.get_close_matches(str(given), names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"no {what} {given!r}{meant} Known: {shown}" if meant else f"no {what} {given!r}. Known: {shown}"


class UnknownAdapter(NotFound):
    """No adapter of that name is installed; the message lists those that are."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(
            _unknown("adapter", given, known, "none is installed"),
            hint="An adapter is found by the entry-point group 'workbench.adapters'; install its package.",
        )


class UnknownArtifact(NotFound):
    """No artifact of that name in this run."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(_unknown("artifact", given, known, "this run has none"))


class UnknownCheckpoint(NotFound):
    """No checkpoint of that name in this run."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(_unknown("checkpoint", given, known, "this run has none"))


class UnknownExperiment(NotFound):
    """No experiment of that name or id in this workspace."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(_unknown("experiment", given, known, "this workspace has no experiment yet"))


class UnknownIndex(NotFound):
    """No index of that name in this workspace."""

    def __init__(self, given: object, known: Iterable[object] = ()) -> None:
        super().__init__(
            _unknown("index", given, known, "this workspace has no index yet"),
            hint="Build one with: workbench jobs submit index_build --wait",
        )


class UnknownJob(NotFound):
    """No job with that id in this workspace."""

    def __init__(self, given: object, newest: int | None = None) -> None:
        there = "there is no job yet" if newest is None else f"the newest is {newest}"
        super().__init__(f"no job {given!r}: {there}", hint="List them with: workbench jobs list")


class UnknownRun(NotFound):
    """No run with that id in this workspace."""

    def __init__(self, given: object, newest: int | None = None) -> None:
        there = "there is no run yet" if newest is None else f"the newest is {newest}"
        super().__init__(f"no run {given!r}: {there}", hint="List them with: workbench runs")


class WrongState(WorkbenchError):
    """The thing is not in a state in which that can be done."""


class TooLarge(WorkbenchError):
    """What was given is over a size limit; the message names both sizes."""


class CorruptFile(WorkbenchError):
    """A file is not what it should be: truncated, altered, or of another format.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it.
    """

    def __init__(self, path: Any, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {reason}", hint=hint)
        self.path = path
        self.reason = reason


class NotSupported(WorkbenchError, NotImplementedError):
    """An adapter does not offer a method."""

    def __init__(self, adapter: str, method: str, *, hint: str = "") -> None:
        super().__init__(f"adapter {adapter!r} does not offer {method}", hint=hint)
        self.adapter = adapter
        self.method = method


class Busy(WorkbenchError):
    """Too much is going on; the same call may succeed after ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class SearchFailed(WorkbenchError):
    """An index, or the adapter that made it, broke while it was asked; it is opened anew for the next."""


class AccessDenied(WorkbenchError):
    """A server wants a login, or does not let this user do that."""


class ServerUnreachable(WorkbenchError):
    """The server of a workspace does not answer, or answers as something else."""


class MissingExtra(WorkbenchError, ImportError):
    """An optional package is not installed; the hint is the install command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed", hint=f'pip install "notebook-workbench[{extra}]"')
        self.extra = extra


class StoreError(WorkbenchError):
    """The database refused; nothing was changed."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, or is held by others, at the moment: the same may work later.

    Attributes
    ----------
    undone : bool
        Whether it is known that nothing was changed; it is not where a commit was on its way.
    """

    undone = False


class BelowFloor(WorkbenchError):
    """A result that was kept does not reach what was asked of it; each metric is named with its floor."""


class JobError(WorkbenchError):
    """How a job ended, raised where it is waited for.

    Parameters
    ----------
    job_id : int
        The job.
    message : str
        Why it ended so.
    cell : int, optional
        Number of the notebook cell that raised, counted from 1.
    """

    def __init__(self, job_id: int, message: str, *, cell: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.job_id = job_id
        self.cell = cell


class JobFailed(JobError):
    """The job failed."""


class JobCancelled(JobError):
    """The job was cancelled."""
