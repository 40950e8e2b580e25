"""Jobs over HTTP."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from workbench.errors import BadInput, BadName, TooLarge
from workbench.host import files
from workbench.jobs import submission
from workbench.jobs.floors import check_floors
from workbench.server.api.adapters import only_adapter
from workbench.server.api.fields import Given, Name, Number, Page, from_text
from workbench.server.api.route import Call, id_in_path
from workbench.server.desk import WorkbenchServer
from workbench.store.records import JobStatus
from workbench.workspace import Workspace

#: A notebook that is sent may have this many bytes, with its outputs; as JSON text it may be twice as long.
NOTEBOOK_BYTES = 2**24


class JobsQuery(Page):
    """Which jobs."""

    type: Name | None = Field(None, description="Only jobs of this type.")
    status: JobStatus | None = Field(None, description="Only jobs in this state.")


class LogsQuery(Given):
    """Which part of a log."""

    tail: Annotated[int, BeforeValidator(from_text)] = Field(
        200, ge=1, le=10_000, description="How many last lines."
    )
    after: Annotated[int, BeforeValidator(from_text)] | None = Field(
        None,
        ge=0,
        lt=2**53,
        description="Instead: what came after that many bytes, `next` of the last answer.",
    )


class JobIn(Given):
    """A job to be queued."""

    adapter: Name | None = Field(None, description="The family; the only one installed if not given.")
    options: dict[str, Any] = Field({}, description="The adapter's options for that type; see `adapters`.")
    fail_below: dict[str, float] | None = Field(
        None, description="Metrics of the result that must reach a value, else the job fails."
    )


class StageOut(BaseModel):
    """One of the stages a job is in."""

    name: str
    done: Number
    total: Number


class ProgressOut(BaseModel):
    """How far a job is."""

    done: Number
    total: Number
    message: str
    stages: list[StageOut]
    rate: Number
    left: Number
    fraction: Number


class JobRowOut(BaseModel):
    """A job, without its result."""

    id: int
    type: str
    adapter: str
    status: JobStatus
    progress: ProgressOut
    summary: str
    error: dict[str, Any] | None
    notebook: str | None = Field(description="The executed notebook, on the server.")
    run_id: int | None
    attempt: int
    options: dict[str, Any]
    floors: dict[str, float]
    source: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    seconds: float | None = Field(description="How long it has run, or ran; not part of the ETag.")


class JobOut(JobRowOut):
    """A job, with its result."""

    result: dict[str, Any] | None


class JobsOut(BaseModel):
    """One page of jobs, newest first."""

    jobs: list[JobRowOut]
    total: int = Field(description="How many there are of that type and status.")
    limit: int
    offset: int


class JobProgressOut(BaseModel):
    """How far a job is, and in which state."""

    id: int
    status: JobStatus
    progress: ProgressOut
    attempt: int


class LogsOut(BaseModel):
    """A part of a job's log."""

    id: int
    lines: list[str]
    open_line: bool = Field(description="Whether the last line has not ended yet.")
    next: int = Field(description="`after` of the next question.")


class NotebookIn(Given):
    """A notebook to be executed as a job."""

    name: Name = Field(description="Its file name, `.ipynb` at the end.")
    notebook: str = Field(min_length=1, description="The whole file as a text, in nbformat 4.")
    parameters: dict[str, Any] = Field({}, description="Values for names that it declares.")


def submitting(job_type: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    """Return what queues jobs of a type."""

    async def submit(desk: WorkbenchServer, call: Call) -> Any:
        given: JobIn = call.body
        floors = check_floors(given.fail_below)
        adapter = given.adapter or only_adapter()
        question = {"adapter": adapter, "type": job_type, "options": given.options}
        checked = await desk.ask(op="check", **question)
        return await desk.run(
            lambda home: submission.submit_checked(
                home, job_type, checked["adapter"], checked["options"], fail_below=floors
            ).to_json()
        )

    return submit


async def list_jobs(desk: WorkbenchServer, call: Call) -> Any:
    """Return one page of jobs."""
    asked: JobsQuery = call.query

    def look(home: Workspace) -> Any:
        found = home.jobs(type=asked.type, status=asked.status, limit=asked.limit, offset=asked.offset)
        return {
            "jobs": [job.to_json(result=False) for job in found],
            "total": home.store.count_jobs(asked.status, type=asked.type),
            "limit": asked.limit,
            "offset": asked.offset,
        }

    return await desk.run(look)


async def get_job(desk: WorkbenchServer, call: Call) -> Any:
    """Return one job with its result."""
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).to_json())


async def get_progress(desk: WorkbenchServer, call: Call) -> Any:
    """Return how far a job is."""
    job = await desk.run(lambda home: home.job(id_in_path(call, "job_id")).to_json(result=False))
    return {name: job[name] for name in ("id", "status", "progress", "attempt")}


async def get_logs(desk: WorkbenchServer, call: Call) -> Any:
    """Return the end of a job's log, or what came since the last look."""
    asked: LogsQuery = call.query

    def look(home: Workspace) -> Any:
        job = home.job(id_in_path(call, "job_id"))
        if asked.after is None:
            text, end = job.logs(asked.tail), job.log_size()
        else:
            text, end = job.log_after(asked.after)
        *lines, last = text.split("\n")
        open_line = bool(last)
        return {"id": job.id, "lines": [*lines, last] if last else lines, "open_line": open_line, "next": end}

    return await desk.run(look)


async def cancel_job(desk: WorkbenchServer, call: Call) -> Any:
    """Ask for a job to stop; one that has ended stays as it is."""
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).cancel().to_json())


# Notebooks -------------------------------------------------------------------------------------


async def submit_notebook(desk: WorkbenchServer, call: Call) -> Any:
    """Queue a notebook that was sent; it is executed in the folder that the server runs in."""
    given: NotebookIn = call.body
    files.check_file_name(given.name, "notebook")
    if not given.name.endswith(".ipynb"):
        raise BadName(f"notebook {given.name!r} has no name of one", hint="It ends in .ipynb.")

    def submit(home: Workspace) -> Any:
        data = given.notebook.encode()
        if len(data) > NOTEBOOK_BYTES:
            most = NOTEBOOK_BYTES // 2**20
            raise TooLarge(f"the notebook has over {most} MiB", hint="Clear its outputs and send it again.")
        check_notebook(given.notebook)
        with tempfile.TemporaryDirectory(prefix=".sent-", dir=home.jobs_dir) as folder:
            path = Path(folder) / given.name
            path.write_bytes(data)
            try:
                job = submission.submit_notebook(
                    home, path, given.parameters, source=given.name, cwd=str(Path.cwd())
                )
            except BadInput as error:  # who sent it knows nothing of the folder
                error.message = error.message.replace(str(path), given.name)
                raise
        return job.to_json()

    return await desk.run(submit)


def check_notebook(text: str) -> None:
    """Raise unless a text is a notebook.

    Raises
    ------
    BadInput
        It is no JSON, or no notebook of a format that is known.
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
        said = str(error).strip().split("\n")[0][:300]
        raise BadInput(f"it cannot be read as a notebook: {said}") from None


async def retry_job(desk: WorkbenchServer, call: Call) -> Any:
    """Queue the same again; what an adapter takes is asked of the search service, and never here."""

    def look(home: Workspace) -> Any:
        job = home.job(call.path["job_id"])  # type: ignore[arg-type]
        if job.source:
            return job.retry().to_json()
        job.check_over()
        return job

    found = await desk.run(look)
    if isinstance(found, dict):
        return found
    question = {"adapter": found.adapter, "type": found.type, "options": found.options}
    checked = await desk.ask(op="check", **question)
    return await desk.run(
        lambda home: submission.submit_checked(
            home, found.type, checked["adapter"], checked["options"], fail_below=found.floors
        ).to_json()
    )
