"""Checkpoints and artifacts over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field

from workbench import wire
from workbench.errors import WrongState
from workbench.host import files
from workbench.runs.kept_files import ARTIFACTS, CHECKPOINTS, KeptFile
from workbench.runs.local import LocalRun
from workbench.server.api.fields import Given, Number, from_text
from workbench.server.api.route import Call, id_in_path
from workbench.server.api.runs import run_in_path
from workbench.server.desk import WorkbenchServer
from workbench.values import HIGHEST_STEP, LOWEST_STEP
from workbench.workspace import Workspace

#: Content type of files, so that browsers download instead of showing them.
FILE_TYPE = "application/octet-stream"


_TypedStep = Annotated[int, BeforeValidator(from_text), Field(ge=LOWEST_STEP, le=HIGHEST_STEP)]


_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the bytes sent, in hex.")]


_MetricAsked = Annotated[str, Field(max_length=250)]


class CheckpointOut(BaseModel):
    """A checkpoint of a run."""

    name: str
    size: int
    step: int | None
    created_at: str
    metrics: dict[str, Number] = Field({}, description="Metrics logged at that step.")


class CheckpointsOut(BaseModel):
    """The checkpoints of a run, oldest first."""

    checkpoints: list[CheckpointOut]


class DeletedOut(BaseModel):
    """The deleted checkpoint."""

    run_id: int
    deleted: str


class FileToSend(NamedTuple):
    """A file to send as the answer."""

    file: BinaryIO
    name: str
    size: int
    type: str = FILE_TYPE


class FileQuery(Given):
    """Parameters of an uploaded file."""

    sha256: _Sha256


class CheckpointQuery(FileQuery):
    """Parameters of an uploaded checkpoint."""

    step: _TypedStep | None = Field(None, description="The step that it belongs to.")
    keep_best: Annotated[int, BeforeValidator(from_text), Field(ge=1, lt=2**31)] | None = Field(
        None, description="Keep it only if it is among the best N by `metric`."
    )
    metric: _MetricAsked | None = Field(None, description="Required with `keep_best`.")


class FileKeptOut(BaseModel):
    """An uploaded file."""

    run_id: int
    name: str
    kept: bool = Field(description="Whether it was kept, by `keep_best`.")


class FileOut(BaseModel):
    """The bytes of a file, not JSON."""


class ArtifactOut(BaseModel):
    """An artifact of a run."""

    name: str
    size: int
    created_at: str


class ArtifactsOut(BaseModel):
    """The artifacts of a run, oldest first."""

    artifacts: list[ArtifactOut]


async def list_checkpoints(desk: WorkbenchServer, call: Call) -> Any:
    """Return a run's checkpoints, oldest first."""

    def look(home: Workspace) -> Any:
        files = home.run(id_in_path(call, "run_id")).checkpoints()
        return {
            "checkpoints": [
                {
                    "name": file.name,
                    "size": file.size,
                    "step": file.step,
                    "created_at": file.created_at.isoformat(),
                    "metrics": {name: wire.number_json(value) for name, value in file.metrics.items()},
                }
                for file in files
            ]
        }

    return await desk.run(look)


async def remove_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Delete one checkpoint of a run."""

    def remove(home: Workspace) -> Any:
        run = home.run(id_in_path(call, "run_id"))
        run.delete_checkpoint(call.path["name"])
        return {"run_id": run.id, "deleted": call.path["name"]}

    return await desk.run(remove)


# Files -----------------------------------------------------------------------------------------


async def expect_file(desk: WorkbenchServer, call: Call) -> Any:
    """Raise if a file cannot be accepted, before any of it is read."""
    kind = "checkpoint" if isinstance(call.query, CheckpointQuery) else "artifact"
    files.check_file_name(call.path["name"], kind)
    await desk.run(lambda home: run_in_path(home, call))


async def put_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Keep an uploaded checkpoint."""
    query: CheckpointQuery = call.query

    def keep(home: Workspace) -> Any:
        run, name = _taking(home, call, CHECKPOINTS), call.path["name"]
        more: Any = {"keep_best": query.keep_best, "metric": query.metric}
        kept = run.log_checkpoint(name, call.body.path, query.step, **more)
        return {"run_id": run.id, "name": name, "kept": kept is not None}

    return await desk.run(keep)


async def put_artifact(desk: WorkbenchServer, call: Call) -> Any:
    """Keep an uploaded artifact."""

    def keep(home: Workspace) -> Any:
        run, name = _taking(home, call, ARTIFACTS), call.path["name"]
        run.log_artifact(name, call.body.path)
        return {"run_id": run.id, "name": name, "kept": True}

    return await desk.run(keep)


def _taking(home: Workspace, call: Call, kind: str) -> LocalRun:
    """Return the run, ready to take over the uploaded file, after checking that it is complete."""
    run = run_in_path(home, call)
    if run.folder.is_symlink() or (run.folder / kind).is_symlink():
        raise WrongState(f"the folder of run {run.id} is a symlink; refusing to write")
    call.body.check(call.query.sha256)
    return run.taking()


async def get_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of a checkpoint."""
    return await desk.run(lambda home: opened(run_in_path(home, call).checkpoint(call.path["name"])))


async def get_artifact(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of an artifact."""
    return await desk.run(lambda home: opened(run_in_path(home, call).artifact(call.path["name"])))


def opened(kept: KeptFile) -> FileToSend:
    """Return a kept file, opened to be sent; of one that still grows, what it holds now."""
    file = kept.open()
    size = file.seek(0, 2)  # of the open file, even if it is replaced meanwhile
    file.seek(0)
    return FileToSend(file, kept.name, size)


async def list_artifacts(desk: WorkbenchServer, call: Call) -> Any:
    """Return a run's artifacts, oldest first."""

    def look(home: Workspace) -> Any:
        return {
            "artifacts": [
                {"name": file.name, "size": file.size, "created_at": file.created_at.isoformat()}
                for file in run_in_path(home, call).artifacts()
            ]
        }

    return await desk.run(look)
