"""Jobs over HTTP."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from workbench.errors import BadInput, BadName, NotFound, TooLarge
from workbench.host import files
from workbench.jobs import submission
from workbench.jobs.floors import check_floors
from workbench.server.api import fields
from workbench.server.api.adapters import only_adapter
from workbench.server.api.fields import Given, Name, Number, Page, from_text
from workbench.server.api.kept_files import opened
from workbench.server.api.route import Call, id_in_path
from workbench.server.desk import WorkbenchServer
from workbench.store.records import JobStatus
from workbench.values import restored
from workbench.workspace import Workspace

#: Maximum size in bytes of an uploaded notebook with its outputs; as JSON text it may be twice as long.
NOTEBOOK_BYTES = 2**24


class JobsQuery(Page):
    """A filter of jobs."""

    type: Name | None = Field(None, description="Only jobs of this type.")
    status: JobStatus | None = Field(None, description="Only jobs with this status.")
    archived: fields.Archived = Field("false", description="Only archived jobs, or only others, or all.")


class LogsQuery(Given):
    """A part of a log."""

    tail: Annotated[int, BeforeValidator(from_text)] = Field(
        200, ge=1, le=10_000, description="Number of lines from the end."
    )
    after: Annotated[int, BeforeValidator(from_text)] | None = Field(
        None,
        ge=0,
        lt=2**53,
        description="Instead of `tail`: only output after this byte offset (`next` of the last answer).",
    )


class JobIn(Given):
    """A job to queue."""

    adapter: Name | None = Field(None, description="The model family; default: the only one installed.")
    options: dict[str, Any] = Field({}, description="The adapter's options for the job type; see `adapters`.")
    fail_below: dict[str, float] | None = Field(
        None, description="Minimum by metric of the result; the job fails if one is not reached."
    )


class StageOut(BaseModel):
    """A stage of a job."""

    name: str
    done: Number
    total: Number


class ProgressOut(BaseModel):
    """Progress of a job."""

    done: Number
    total: Number
    message: str
    stages: list[StageOut]
    rate: Number
    left: Number
    fraction: Number


class OutputOut(BaseModel):
    """The file of everything that a job printed."""

    path: str = Field(description="Its path on the server.")
    size: int = Field(description="Its size in bytes; it grows while the job runs.")
    changed_at: str


class JobRowOut(BaseModel):
    """A job, without its result."""

    id: int
    type: str
    name: str = Field(description="The name that a person gave it; empty without one.")
    adapter: str
    status: JobStatus
    progress: ProgressOut
    summary: str
    error: dict[str, Any] | None
    notebook: str | None = Field(description="Path of the executed notebook on the server.")
    output: OutputOut | None = Field(description="What its notebook printed, all of it; see `/output`.")
    output_note: str = Field(description="What log and notebook leave out, or what is missing; or empty.")
    run_id: int | None
    attempt: int
    options: dict[str, Any]
    floors: dict[str, float]
    source: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    archived_at: str | None
    seconds: float | None = Field(description="Running time so far, or in total; not part of the ETag.")


class JobOut(JobRowOut):
    """A job, with its result."""

    result: dict[str, Any] | None


class JobsOut(BaseModel):
    """One page of jobs, newest first."""

    jobs: list[JobRowOut]
    total: int = Field(description="Number of jobs of that type and status.")
    limit: int
    offset: int


class JobProgressOut(BaseModel):
    """Progress and status of a job."""

    id: int
    status: JobStatus
    progress: ProgressOut
    attempt: int


class LogsOut(BaseModel):
    """A part of a job's log."""

    id: int
    lines: list[str]
    open_line: bool = Field(description="Whether the last line is still incomplete.")
    next: int = Field(description="Value of `after` for the next request.")


class NotebookIn(Given):
    """A notebook to execute as a job."""

    name: Name = Field(description="File name, ending in `.ipynb`.")
    notebook: str = Field(min_length=1, description="Content of the file, in nbformat 4.")
    parameters: dict[str, Any] = Field(
        {}, description='Values of its declared parameters; NaN is {"$number": "nan"}, and inf as well.'
    )


def submitting(job_type: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    """Return a function that queues jobs of a type."""

    async def submit(desk: WorkbenchServer, call: Call) -> Any:
        body: JobIn = call.body
        adapter = body.adapter or only_adapter()
        return await _check_and_queue(desk, job_type, adapter, body.options, body.fail_below)

    return submit


async def _check_and_queue(
    desk: WorkbenchServer,
    job_type: str,
    adapter: str,
    options: dict[str, Any],
    fail_below: dict[str, float] | None,
) -> Any:
    """Queue a job; the search service checks it, so no adapter is loaded here."""
    floors = check_floors(fail_below)
    where = await desk.run(lambda home: {"path": str(home.path), "database_url": home.store.address})
    request = {"adapter": adapter, "type": job_type, "options": options, "fail_below": floors}
    checked = await desk.ask(op="check", **request, workspace=where)
    return await desk.run(
        lambda home: submission.submit_checked(
            home, job_type, checked["adapter"], checked["options"], fail_below=floors
        ).to_json()
    )


async def list_jobs(desk: WorkbenchServer, call: Call) -> Any:
    """Return one page of jobs."""
    query: JobsQuery = call.query

    def look(home: Workspace) -> Any:
        archived = fields.archived_of(query.archived)
        jobs = home.jobs(query.type, query.status, query.limit, query.offset, archived=archived)
        return {
            "jobs": [job.to_json(result=False) for job in jobs],
            "total": home.store.count_jobs(query.status, type=query.type, archived=archived),
            "limit": query.limit,
            "offset": query.offset,
        }

    return await desk.run(look)


async def get_job(desk: WorkbenchServer, call: Call) -> Any:
    """Return one job with its result."""
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).to_json())


async def get_progress(desk: WorkbenchServer, call: Call) -> Any:
    """Return the progress of a job."""
    job = await desk.run(lambda home: home.job(id_in_path(call, "job_id")).to_json(result=False))
    return {name: job[name] for name in ("id", "status", "progress", "attempt")}


async def get_logs(desk: WorkbenchServer, call: Call) -> Any:
    """Return the end of a job's log, or its output since the last request."""
    query: LogsQuery = call.query

    def look(home: Workspace) -> Any:
        job = home.job(id_in_path(call, "job_id"))
        if query.after is None:
            text, end = job.logs(query.tail), job.log_size()
        else:
            text, end = job.log_after(query.after)
        *lines, last = text.split("\n")
        open_line = bool(last)
        return {"id": job.id, "lines": [*lines, last] if last else lines, "open_line": open_line, "next": end}

    return await desk.run(look)


async def get_output(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of everything that a job's notebook printed so far."""

    def look(home: Workspace) -> Any:
        job = home.job(id_in_path(call, "job_id"))
        output = job.output
        if output is None:
            raise NotFound(f"job {job.id} has not printed anything")
        return opened(output)

    return await desk.run(look)


async def cancel_job(desk: WorkbenchServer, call: Call) -> Any:
    """Cancel a job; no effect on a finished one."""
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).cancel().to_json())


# Notebooks -------------------------------------------------------------------------------------


async def submit_notebook(desk: WorkbenchServer, call: Call) -> Any:
    """Queue an uploaded notebook; it runs in the server's working directory."""
    body: NotebookIn = call.body
    files.check_file_name(body.name, "notebook")
    if not body.name.endswith(".ipynb"):
        raise BadName(f"notebook name must end in .ipynb, got {body.name!r}", hint="Rename the file.")

    def submit(home: Workspace) -> Any:
        data = body.notebook.encode()
        if len(data) > NOTEBOOK_BYTES:
            most = NOTEBOOK_BYTES // 2**20
            raise TooLarge(f"the notebook has over {most} MiB", hint="Clear its outputs and send it again.")
        check_notebook(body.notebook)
        with tempfile.TemporaryDirectory(prefix=".sent-", dir=home.jobs_dir) as folder:
            path = Path(folder) / body.name
            path.write_bytes(data)
            try:
                job = submission.submit_notebook(
                    home, path, restored(body.parameters), source=body.name, cwd=str(Path.cwd())
                )
            except BadInput as error:  # the client does not know the temporary folder
                error.message = error.message.replace(str(path), body.name)
                raise
        return job.to_json()

    return await desk.run(submit)


def check_notebook(text: str) -> None:
    """Raise unless a text is a valid notebook.

    Raises
    ------
    BadInput
        It is not valid JSON, or not a notebook of format 4.
    """
    import nbformat

    try:
        page = json.loads(text)
        if not isinstance(page, dict) or page.get("nbformat") != 4:
            raise BadInput("it is not a notebook of format 4", hint="Save it again in JupyterLab.")
        nbformat.validate(page)
    except RecursionError:
        raise BadInput("the notebook nests too deeply") from None
    except (ValueError, nbformat.ValidationError) as error:
        if isinstance(error, BadInput):
            raise
        reason = str(error).strip().split("\n")[0][:300]
        raise BadInput(f"it cannot be read as a notebook: {reason}") from None


async def retry_job(desk: WorkbenchServer, call: Call) -> Any:
    """Queue a job again."""

    def look(home: Workspace) -> Any:
        job = home.job(call.path["job_id"])  # type: ignore[arg-type]
        if job.source:
            return job.retry().to_json()
        job.check_over()
        return job

    job = await desk.run(look)
    if isinstance(job, dict):
        return job
    return await _check_and_queue(desk, job.type, job.adapter, job.options, job.floors)
