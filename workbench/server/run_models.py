"""What goes in and out where runs are logged, and their files kept, from another machine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from workbench.server.models import Given, Id, MetricName, Name, Number, RunOut, _typed
from workbench.values import HIGHEST_STEP, LOWEST_STEP

#: A new run's description may have this many bytes, and a batch of points this many.
RUN_BYTES, POINTS_BYTES = 2**20, 2**21

#: A notebook that is sent may have this many bytes, with its outputs; as JSON text it may be twice as long.
NOTEBOOK_BYTES = 2**24

#: Seconds since 1970 up to the year 9999.
_Moment = Annotated[float, Field(ge=0, lt=253_402_300_800, allow_inf_nan=False)]
_Key = Annotated[str, Field(pattern="^[0-9a-zA-Z]{16,64}$", description="What the sender calls itself.")]
_Step = Annotated[int, Field(ge=LOWEST_STEP, le=HIGHEST_STEP)]
_TypedStep = Annotated[int, BeforeValidator(_typed), Field(ge=LOWEST_STEP, le=HIGHEST_STEP)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Of the bytes that are sent, in hex.")]
_MetricAsked = Annotated[str, Field(max_length=250)]


# Coming in -------------------------------------------------------------------------------------


class RunIn(Given):
    """A run that begins elsewhere."""

    key: _Key
    experiment: Annotated[str, Field(min_length=1, max_length=1000)]
    name: Name = Field("", description="`run-<id>` if it is empty.")
    config: dict[str, Any] = Field({}, description="What it is started with.")
    tags: dict[str, Any] = Field({}, description="Words to find it by.")
    notes: Annotated[str, Field(max_length=100_000)] = Field("", description="What to remember of it.")
    seed: int | None = Field(None, description="The random seed.")
    git: dict[str, Any] = Field({}, description="`commit`, `branch` and `dirty` of where it runs.")
    environment: dict[str, Any] = Field({}, description="What it runs on.")
    better: dict[MetricName, Literal["higher", "lower"]] = Field(
        {}, description="Direction by metric name or pattern; the first that fits counts."
    )
    job_id: Id | None = Field(None, description="The job that makes it.")
    created_at: _Moment | None = Field(
        None, description="Seconds since 1970, by the clock that times points."
    )


class ColumnsIn(Given):
    """New points of one metric, in the order they were logged: three lists of one length."""

    steps: list[_Step]
    times: list[_Moment] = Field(description="Seconds since 1970.")
    values: list[Number]


class PointsIn(Given):
    """A numbered batch of points; without any, a sign of life."""

    key: _Key
    number: int = Field(
        ge=0,
        lt=2**53,
        description="Counted from 1 for each sender; one that is kept already changes nothing.",
    )
    points: dict[MetricName, ColumnsIn] = Field({}, description="By metric.")


class ErrorIn(Given):
    """What ended a run."""

    type: Annotated[str, Field(max_length=1000)]
    message: Annotated[str, Field(max_length=100_000)]


class EndIn(Given):
    """How a run ends."""

    status: Literal["succeeded", "failed", "cancelled", "lost"]
    error: ErrorIn | None = None
    finished_at: _Moment | None = Field(
        None, description="Seconds since 1970, by the clock that times points."
    )


class NotesIn(Given):
    """What a person wants to remember of a run."""

    notes: Annotated[str, Field(max_length=100_000)] | None = Field(
        None, description="In place of those that are there; they stay if it is null."
    )
    tags: dict[str, Any] | None = Field(
        None, description="To be added or replaced; one whose value is null is removed."
    )


class FileQuery(Given):
    """What is said of a file that is sent."""

    sha256: _Sha256


class CheckpointQuery(FileQuery):
    """What is said of a checkpoint that is sent."""

    step: _TypedStep | None = Field(None, description="The step it belongs to.")
    keep_best: Annotated[int, BeforeValidator(_typed), Field(ge=1, lt=2**31)] | None = Field(
        None, description="Keep it only if it is among so many best by `metric`."
    )
    metric: _MetricAsked | None = Field(None, description="Goes together with `keep_best`.")


class NotebookIn(Given):
    """A notebook to be executed as a job."""

    name: Name = Field(description="Its file name, `.ipynb` at the end.")
    notebook: str = Field(min_length=1, description="The whole file as a text, in nbformat 4.")
    parameters: dict[str, Any] = Field({}, description="Values for names that it declares.")


# Going out -------------------------------------------------------------------------------------


class RunWholeOut(RunOut):
    """A run with all that only its own page shows, without its metrics."""

    notes: str
    seed: int | None
    git: dict[str, Any]
    environment: dict[str, Any]
    origin: str | None


class OutcomeOut(BaseModel):
    """What a run came to, as it stands while it runs."""

    outcome: dict[str, Any]


class TakenOut(BaseModel):
    """Up to where a sender's points are kept."""

    run_id: int
    received: int = Field(description="Number of the last batch that is kept, on the disk.")


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
