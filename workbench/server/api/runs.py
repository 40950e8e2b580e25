"""Runs and experiments over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from workbench import wire
from workbench.errors import TooLarge, UnknownExperiment
from workbench.home import as_id
from workbench.runs.local import LocalRun
from workbench.runs.run import Run
from workbench.server.api import fields
from workbench.server.api.fields import Asked, Given, Number, Page, from_text
from workbench.server.api.route import Call, id_in_path
from workbench.server.desk import WorkbenchServer
from workbench.store.outcome import STATISTICS, of_training
from workbench.values import as_moment
from workbench.workspace import Workspace


class RunsQuery(Page):
    """A filter of runs."""

    experiment: Asked | None = Field(None, description="Only runs of this experiment.")
    where: Asked | None = Field(
        None, description="A condition, such as `config.lr < 0.01 and tag:baseline`; see the README."
    )
    sort: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="A field to sort by, such as `-metric.val/mAP`; several are separated by commas."
    )
    archived: fields.Archived = Field("false", description="Only archived runs, or only others, or all.")


#: Maximum number of points of a metric in one answer.
MOST_POINTS = 100_000


class PointsQuery(Given):
    """The points of a metric to return."""

    name: Asked = Field(description="Name of the metric.")
    after: Annotated[int, BeforeValidator(from_text)] = Field(
        -1, ge=-1, lt=2**31, description="Only points with a higher index, counted from 0; -1 for all."
    )
    limit: Annotated[int, BeforeValidator(from_text)] | None = Field(
        None,
        ge=1,
        le=MOST_POINTS,
        description=f"At most this many points. Without it, more than {MOST_POINTS:,} are an error (413).",
    )


class ExperimentOut(BaseModel):
    """An experiment."""

    id: int
    name: str
    created_at: str | None = Field(description="Null if unknown.")
    archived_at: str | None


class ExperimentsOut(BaseModel):
    """The experiments, by name."""

    experiments: list[ExperimentOut]


class RunHead(BaseModel):
    """The fields of a run in every list."""

    id: int
    name: str
    experiment: str
    status: str
    config: dict[str, Any]
    tags: dict[str, Any]
    directions: list[list[str]]
    job_id: int | None
    error: dict[str, Any] | None


class RunOut(RunHead):
    """A run, without its metrics."""

    created_at: str | None = Field(description="Null if unknown, as after an import without usable times.")
    finished_at: str | None
    archived_at: str | None


class RunsOut(BaseModel):
    """One page of runs, newest first."""

    runs: list[RunOut]
    more: bool = Field(description="Whether there are older runs.")
    total: int = Field(description="Number of runs that match.")
    limit: int
    offset: int


class MetricSummaryOut(BaseModel):
    """Summary of one metric."""

    last: Number
    min: Number
    max: Number
    best: Number
    best_step: int | None
    last_step: int | None
    count: int
    nonfinite: int
    better: Literal["higher", "lower"] | None


class SummaryOut(BaseModel):
    """Summaries of a run's metrics, by name."""

    id: int
    name: str
    experiment: str
    status: str
    summary: dict[str, MetricSummaryOut]


class ExperimentMetricsOut(BaseModel):
    """Metric summaries of an experiment's runs."""

    experiment: ExperimentOut
    runs: list[SummaryOut]
    more: bool
    limit: int
    offset: int


class PointsOut(BaseModel):
    """The points of one metric, in the order they were logged."""

    name: str
    points: list[list[Number]] = Field(description="Step, seconds since 1970, value.")
    more: bool = Field(description="Whether there are further points.")
    next: int = Field(description="Value of `after` for the next request.")


class NotesIn(Given):
    """Notes and tags of a run."""

    notes: Annotated[str, Field(max_length=100_000)] | None = Field(
        None, description="Replaces the notes; null keeps them."
    )
    tags: dict[str, Any] | None = Field(
        None, description="Tags to add or replace; a null value removes the tag."
    )


# Answers ---------------------------------------------------------------------------------------


class RunWholeOut(RunOut):
    """A run with all of its fields, without its metrics."""

    notes: str
    seed: int | None
    git: dict[str, Any]
    environment: dict[str, Any]
    origin: str | None


class OutcomeOut(BaseModel):
    """The outcome of a run; the current one while it is running."""

    outcome: dict[str, Any]


# Runs ------------------------------------------------------------------------------------------


def summary_json(run: Run, summary: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summaries of a run's metrics as plain JSON."""
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "summary": {
            name: {key: number_out(row.get(key)) for key in STATISTICS} for name, row in summary.items()
        },
    }


def number_out(value: Any) -> Any:
    """Return a float as a JSON value; anything else unchanged."""
    return wire.number_json(value) if isinstance(value, float) else value


async def list_experiments(desk: WorkbenchServer, call: Call) -> Any:
    """Return the experiments by name."""
    return await desk.run(
        lambda home: {"experiments": [experiment_json(row) for row in home.store.experiments()]}
    )


def experiment_json(row: Any) -> dict[str, Any]:
    """Return an experiment as plain JSON."""
    times = {name: moment_json(as_moment(getattr(row, name))) for name in ("created_at", "archived_at")}
    return {"id": row.id, "name": row.name, **times}


def moment_json(moment: datetime | None) -> str | None:
    """Return a date as an ISO timestamp; None if it is unknown."""
    return None if moment is None else moment.isoformat()


def _some_runs(home: Workspace, experiment: str, page: fields.Page) -> tuple[list[LocalRun], bool]:
    """Return one page of an experiment's runs, newest first, and whether there are older ones."""
    runs = home.runs(experiment, limit=page.limit + 1, offset=page.offset)
    return runs[: page.limit], len(runs) > page.limit


async def list_runs(desk: WorkbenchServer, call: Call) -> Any:
    """Return one page of runs."""
    query: RunsQuery = call.query

    def look(home: Workspace) -> Any:
        sort = None if query.sort is None else [name.strip() for name in query.sort.split(",")]
        chosen = {"where": query.where, "sort": sort, "archived": fields.archived_of(query.archived)}
        runs = home.runs(query.experiment, **chosen, limit=query.limit, offset=query.offset)  # type: ignore[arg-type]
        total = home.count_runs(
            query.experiment, where=query.where, archived=fields.archived_of(query.archived)
        )
        more = query.offset + len(runs) < total
        return {"runs": [run_json(run) for run in runs], "more": more, "total": total, **_page(query)}

    return await desk.run(look)


def _page(page: fields.Page) -> dict[str, int]:
    return {"limit": page.limit, "offset": page.offset}


async def experiment_metrics(desk: WorkbenchServer, call: Call) -> Any:
    """Return the metric summaries of an experiment, one page of runs."""
    query: fields.Page = call.query

    def look(home: Workspace) -> Any:
        number = as_id(call.path["experiment_id"])
        row = None if number is None else home.store.experiment(number)
        if row is None:
            raise UnknownExperiment(call.path["experiment_id"], [one.id for one in home.store.experiments()])
        runs, more = _some_runs(home, row.name, query)
        summaries = home.store.summaries([run.id for run in runs])
        tables = {run.id: {one.name: one.model_dump() for one in summaries[run.id]} for run in runs}
        rows = [
            summary_json(run, {name: tables[run.id][name] for name in of_training(tables[run.id])})
            for run in runs
        ]
        return {"experiment": experiment_json(row), "runs": rows, "more": more, **_page(query)}

    return await desk.run(look)


async def run_summary(desk: WorkbenchServer, call: Call) -> Any:
    """Return the summaries of a run's metrics."""

    def look(home: Workspace) -> Any:
        run = home.run(id_in_path(call, "run_id"))
        return summary_json(run, run.summary)

    return await desk.run(look)


async def run_system(desk: WorkbenchServer, call: Call) -> Any:
    """Return the summaries of what the machine of a run did."""

    def look(home: Workspace) -> Any:
        run = home.run(id_in_path(call, "run_id"))
        return summary_json(run, run.system)

    return await desk.run(look)


async def run_points(desk: WorkbenchServer, call: Call) -> Any:
    """Return the points of one metric of a run, in the order they were logged."""
    query: PointsQuery = call.query

    def look(home: Workspace) -> Any:
        key = (home.run(id_in_path(call, "run_id")).id, query.name)
        most = query.limit or MOST_POINTS
        found = home.store.curves([key], {key: query.after}, most + 1)[key]
        if len(found) > most and query.limit is None:
            raise TooLarge(
                f"metric {query.name!r} of run {key[0]} has over {most:,} points after index {query.after}",
                hint=f"Request them in parts: limit={most}, then after=<next> until more is false.",
            )
        part = found[slice(most)]
        numbers = (map(wire.number_json, column.tolist()) for column in (part.time, part.value))
        return {
            "name": query.name,
            "points": [list(point) for point in zip(part.step.tolist(), *numbers, strict=True)],
            "more": len(found) > most,
            "next": query.after + len(part),
        }

    return await desk.run(look)


# Runs ------------------------------------------------------------------------------------------


def run_json(run: Run) -> dict[str, Any]:
    """Return a run as plain JSON, without its metrics."""
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "config": run.config,
        "tags": run.tags,
        "directions": [list(pair) for pair in run.directions],
        "job_id": run.job_id,
        "error": run.error,
        "created_at": moment_json(run.created_at),
        "finished_at": moment_json(run.finished_at),
        "archived_at": moment_json(run.archived_at),
    }


def whole_json(run: Run) -> dict[str, Any]:
    """Return a run as plain JSON with all of its fields."""
    same = ("notes", "seed", "git", "environment", "origin")
    return {**run_json(run), **{name: getattr(run, name) for name in same}}


def run_in_path(home: Workspace, call: Call) -> LocalRun:
    """Return the run that the path names."""
    return home.run(call.path["run_id"])  # type: ignore[arg-type]  # the workspace validates it


async def get_run(desk: WorkbenchServer, call: Call) -> Any:
    """Return one run."""
    return await desk.run(lambda home: whole_json(run_in_path(home, call)))


async def get_outcome(desk: WorkbenchServer, call: Call) -> Any:
    """Return the outcome of a run."""
    return await desk.run(lambda home: {"outcome": run_in_path(home, call).outcome})


async def annotate_run(desk: WorkbenchServer, call: Call) -> Any:
    """Set notes, or add tags."""
    body: NotesIn = call.body

    return await desk.run(
        lambda home: whole_json(run_in_path(home, call).annotate(notes=body.notes, tags=body.tags))
    )
