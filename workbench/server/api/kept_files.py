"""Checkpoints and artifacts over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field

from workbench import wire
from workbench.errors import WrongState
from workbench.host import files
from workbench.runs.kept_files import ARTIFACTS, CHECKPOINTS
from workbench.runs.local import LocalRun
from workbench.server.api.fields import Given, Number, from_text
from workbench.server.api.route import Call, id_in_path
from workbench.server.api.runs import run_in_path
from workbench.server.desk import WorkbenchServer
from workbench.values import HIGHEST_STEP, LOWEST_STEP
from workbench.workspace import Workspace

_TypedStep = Annotated[int, BeforeValidator(from_text), Field(ge=LOWEST_STEP, le=HIGHEST_STEP)]


_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Of the bytes that are sent, in hex.")]


_MetricAsked = Annotated[str, Field(max_length=250)]


class CheckpointOut(BaseModel):
    """A file that a run kept."""

    name: str
    size: int
    step: int | None
    created_at: str
    metrics: dict[str, Number] = Field({}, description="What was logged at that step.")


class CheckpointsOut(BaseModel):
    """The files that a run kept, oldest first."""

    checkpoints: list[CheckpointOut]


class DeletedOut(BaseModel):
    """What was deleted."""

    run_id: int
    deleted: str


class FileToSend(NamedTuple):
    """A file that is the answer."""

    file: BinaryIO
    name: str
    size: int


class FileQuery(Given):
    """What is said of a file that is sent."""

    sha256: _Sha256


class CheckpointQuery(FileQuery):
    """What is said of a checkpoint that is sent."""

    step: _TypedStep | None = Field(None, description="The step it belongs to.")
    keep_best: Annotated[int, BeforeValidator(from_text), Field(ge=1, lt=2**31)] | None = Field(
        None, description="Keep it only if it is among so many best by `metric`."
    )
    metric: _MetricAsked | None = Field(None, description="Goes together with `keep_best`.")


class FileKeptOut(BaseModel):
    """A file that was sent."""

    run_id: int
    name: str
    kept: bool = Field(description="Whether it was good enough.")


class FileOut(BaseModel):
    """A file's bytes, which are no JSON."""


class ArtifactOut(BaseModel):
    """A file that a run made."""

    name: str
    size: int
    created_at: str


class ArtifactsOut(BaseModel):
    """The files that a run made and that are no checkpoints, oldest first."""

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
    """Delete one file of that run, and nothing else."""

    def remove(home: Workspace) -> Any:
        run = home.run(id_in_path(call, "run_id"))
        run.delete_checkpoint(call.path["name"])
        return {"run_id": run.id, "deleted": call.path["name"]}

    return await desk.run(remove)


# Files -----------------------------------------------------------------------------------------


async def expect_file(desk: WorkbenchServer, call: Call) -> Any:
    """Raise where a file is not wanted, before any of it is read."""
    kind = "checkpoint" if isinstance(call.query, CheckpointQuery) else "artifact"
    files.check_file_name(call.path["name"], kind)
    await desk.run(lambda home: run_in_path(home, call))


async def put_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Keep a checkpoint that was sent."""
    given: CheckpointQuery = call.query

    def keep(home: Workspace) -> Any:
        run, name = _taking(home, call, CHECKPOINTS), call.path["name"]
        more: Any = {"keep_best": given.keep_best, "metric": given.metric}
        kept = run.log_checkpoint(name, call.body.path, given.step, **more)
        return {"run_id": run.id, "name": name, "kept": kept is not None}

    return await desk.run(keep)


async def put_artifact(desk: WorkbenchServer, call: Call) -> Any:
    """Keep an artifact that was sent."""

    def keep(home: Workspace) -> Any:
        run, name = _taking(home, call, ARTIFACTS), call.path["name"]
        run.log_artifact(name, call.body.path)
        return {"run_id": run.id, "name": name, "kept": True}

    return await desk.run(keep)


def _taking(home: Workspace, call: Call, kind: str) -> LocalRun:
    """Return the run that takes a file away from where it arrived, once that is whole."""
    run = run_in_path(home, call)
    if run.folder.is_symlink() or (run.folder / kind).is_symlink():
        raise WrongState(f"the folder of run {run.id} leads elsewhere: nothing is written there")
    call.body.check(call.query.sha256)
    return run.taking()


async def get_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of a checkpoint."""
    return await desk.run(lambda home: _opened(run_in_path(home, call).checkpoint(call.path["name"])))


async def get_artifact(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of an artifact."""
    return await desk.run(lambda home: _opened(run_in_path(home, call).artifact(call.path["name"])))


def _opened(kept: Any) -> FileToSend:
    file = kept.open()
    size = file.seek(0, 2)  # what is open now, whatever takes its place meanwhile
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
