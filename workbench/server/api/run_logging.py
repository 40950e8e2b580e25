"""Runs that are logged from another machine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from workbench import wire
from workbench.errors import BadInput
from workbench.runs.description import check_experiment, check_metric_name, check_notes, direction_of
from workbench.server.api.fields import Given, Id, MetricName, Name, Number
from workbench.server.api.route import Call
from workbench.server.api.runs import run_in_path, whole_json
from workbench.server.desk import WorkbenchServer
from workbench.store import records
from workbench.store.points import Batch
from workbench.values import HIGHEST_STEP, LOWEST_STEP, plain
from workbench.workspace import Workspace

_JSON_COLUMNS = ("config", "tags", "git", "environment")


#: Maximum size in bytes of a new run's description, and of a batch of points.
RUN_BYTES, POINTS_BYTES = 2**20, 2**21


#: Seconds since 1970 up to the year 9999.
_Moment = Annotated[float, Field(ge=0, lt=253_402_300_800, allow_inf_nan=False)]


Key = Annotated[str, Field(pattern="^[0-9a-zA-Z]{16,64}$", description="Unique key of the sender.")]


Step = Annotated[int, Field(ge=LOWEST_STEP, le=HIGHEST_STEP)]


# Requests --------------------------------------------------------------------------------------


class RunIn(Given):
    """A run that is logged remotely."""

    key: Key
    experiment: Annotated[str, Field(min_length=1, max_length=1000)]
    name: Name = Field("", description="Default: `run-<id>`.")
    config: dict[str, Any] = Field({}, description="Settings of the run.")
    tags: dict[str, Any] = Field({}, description="Tags to find the run by.")
    notes: Annotated[str, Field(max_length=100_000)] = Field("", description="Notes on the run.")
    seed: int | None = Field(None, description="The random seed.")
    git: dict[str, Any] = Field({}, description="`commit`, `branch` and `dirty` of its git repository.")
    environment: dict[str, Any] = Field({}, description="Description of the machine and software.")
    better: dict[MetricName, Literal["higher", "lower"]] = Field(
        {}, description="Direction by metric name or pattern; the first match applies."
    )
    job_id: Id | None = Field(None, description="The job that makes the run.")
    created_at: _Moment | None = Field(
        None, description="Seconds since 1970, by the same clock as the points."
    )


class ColumnsIn(Given):
    """New points of one metric, in the order they were logged: three lists of equal length."""

    steps: list[Step]
    times: list[_Moment] = Field(description="Seconds since 1970.")
    values: list[Number]


class PointsIn(Given):
    """A numbered batch of points; without points, a heartbeat."""

    key: Key
    number: int = Field(
        ge=0,
        lt=2**53,
        description="Counted from 1 for each sender; repeating a stored batch has no effect.",
    )
    points: dict[MetricName, ColumnsIn] = Field({}, description="Points by metric.")


class ErrorIn(Given):
    """The error that ended a run."""

    type: Annotated[str, Field(max_length=1000)]
    message: Annotated[str, Field(max_length=100_000)]


class EndIn(Given):
    """How a run ends."""

    status: Literal["succeeded", "failed", "cancelled", "lost"]
    error: ErrorIn | None = None
    finished_at: _Moment | None = Field(
        None, description="Seconds since 1970, by the same clock as the points."
    )


class TakenOut(BaseModel):
    """The last batch stored for a sender."""

    run_id: int
    received: int = Field(description="Number of the last batch stored on disk.")


async def start_run(desk: WorkbenchServer, call: Call) -> Any:
    """Add a run that is logged remotely."""
    body: RunIn = call.body

    def start(home: Workspace) -> Any:
        experiment = check_experiment(body.experiment)
        described = {name: plain(getattr(body, name), name) for name in _JSON_COLUMNS}
        row = records.RunRecord(
            experiment_id=0,
            name=body.name.strip(),
            notes=check_notes(body.notes),
            seed=body.seed,
            directions=[[pattern, way] for pattern, way in body.better.items()],
            job_id=body.job_id,
            **described,
        )
        if body.created_at is not None:
            row.created_at = body.created_at
        row = home.store.add_sent_run(row, experiment, body.key)
        heard(home, row.id or 0)
        return whole_json(home.handles([row])[0])

    return await desk.run(start)


def heard(home: Workspace, run_id: int) -> None:
    """Note that the process that logs a run is alive."""
    if home.hearing is not None:
        home.hearing.heard(run_id)


async def add_points(desk: WorkbenchServer, call: Call) -> Any:
    """Store a batch of points, or note a heartbeat."""
    body: PointsIn = call.body

    def add(home: Workspace) -> Any:
        batches = {name: _batch(name, columns) for name, columns in body.points.items()}
        run = run_in_path(home, call)
        better = {(run.id, name): direction_of(name, run.directions) for name in batches}
        received = home.store.take_batch(run.id, body.key, body.number, batches, better)
        heard(home, run.id)
        return {"run_id": run.id, "received": received}

    return await desk.run(add)


def _batch(name: str, columns: ColumnsIn) -> Batch:
    check_metric_name(name)
    lengths = {len(columns.steps), len(columns.times), len(columns.values)}
    if len(lengths) != 1:
        raise BadInput(f"steps, times and values of metric {name!r} must have equal length")
    return Batch(columns.steps, columns.times, [wire.number_from(value) for value in columns.values])


async def end_run(desk: WorkbenchServer, call: Call) -> Any:
    """End a run; no effect on one that has ended."""
    body: EndIn = call.body

    def end(home: Workspace) -> Any:
        run = run_in_path(home, call)
        error = None if body.error is None else body.error.model_dump()
        home.store.end_run(run.id, body.status, error, finished_at=body.finished_at)
        if home.hearing is not None:
            home.hearing.ended(run.id)
        return whole_json(run.refresh())

    return await desk.run(end)
