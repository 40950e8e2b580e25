"""Every route there is: what it is called, who may, what goes in and out, and what it does.

The handlers and ``openapi.json`` are both made from :data:`ROUTES`.
"""

from __future__ import annotations

import asyncio
import math
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from workbench import wire
from workbench.adapter.registry import adapters
from workbench.errors import (
    BadInput,
    SearchFailed,
    TooLarge,
    UnknownAdapter,
    UnknownExperiment,
    WorkbenchError,
)
from workbench.home import as_id
from workbench.jobs import submission
from workbench.jobs.floors import check_floors
from workbench.runs.run import Run
from workbench.runs.settling import settle_runs
from workbench.search import messages
from workbench.search.indexes import index_adapter
from workbench.search.searcher import MAX_IMAGE_BYTES
from workbench.server import models, run_models, run_routes
from workbench.server.desk import WorkbenchServer
from workbench.server.run_routes import run_json
from workbench.store.outcome import STATISTICS
from workbench.store.runs import RunRow
from workbench.workspace import Workspace

#: A request's body may have this many bytes, unless its route says otherwise.
BODY_BYTES = 2**18

#: An answer with many runs, or with many points, is full at so many bytes, or points.
TABLE_BYTES, ANSWER_POINTS = 2**20, 2**16

#: So many runs are read before the size of an answer is looked at.
_TABLED_AT_ONCE = 20


@dataclass(frozen=True)
class Call:
    """One request: its place in the path, what was asked, and what was sent, the last two checked."""

    path: Mapping[str, str]
    query: Any = None
    body: Any = None


@dataclass(frozen=True)
class Route:
    """One verb of one path.

    Attributes
    ----------
    verb, path : str
        The path is below ``workbench/api/``; what stands in braces is a parameter, an id where its name
        ends in ``_id``.
    action : {"read", "write", "execute"}
        What the server's authorizer is asked about.
    does : str
        One sentence.
    call : callable
        Does it.
    answer : type
        Schema of the answer.
    query, body : type, optional
        Schema of what may be asked and of what is sent.
    status : int
        The HTTP status of an answer that is no error.
    errors : tuple of int
        Further statuses, besides those that every route of its kind can have.
    polled : bool
        Asked again and again by pages: no sign that somebody is at work.
    body_bytes : int
        How much may be sent.
    before : callable, optional
        Where a file is sent: what is looked at before any of it is read. The bytes are the body then, and
        ``Call.body`` the :class:`~workbench.server.uploads.Upload` of them.
    gives_file : bool
        Whether the answer is a file's bytes.
    """

    verb: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    action: Literal["read", "write", "execute"]
    does: str
    call: Callable[[WorkbenchServer, Call], Awaitable[Any]]
    answer: type[BaseModel]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    polled: bool = True
    body_bytes: int = BODY_BYTES
    before: Callable[[WorkbenchServer, Call], Awaitable[Any]] | None = None
    gives_file: bool = False


# Adapters and jobs -----------------------------------------------------------------------------


async def list_adapters(desk: WorkbenchServer, call: Call) -> Any:
    """Tell of every adapter; one that breaks is listed with what is wrong with it."""
    names = adapters()
    told = await asyncio.gather(
        *(desk.ask(op="adapter", adapter=name) for name in names), return_exceptions=True
    )
    listed = []
    for name, one in zip(names, told, strict=True):
        if isinstance(one, WorkbenchError):
            said = {"title": name, "job_types": [], "options": {}, "metrics": [], "problem": one.message}
            listed.append({"name": name, **said})
        elif isinstance(one, BaseException):
            raise one
        else:
            listed.append({**one, "problem": ""})
    return {"adapters": listed}


async def get_adapter(desk: WorkbenchServer, call: Call) -> Any:
    """Tell of one adapter."""
    name = call.path["name"]
    if name not in (names := adapters()):
        raise UnknownAdapter(name, names)
    return {**await desk.ask(op="adapter", adapter=name), "problem": ""}


def _submit(job_type: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    async def submit(desk: WorkbenchServer, call: Call) -> Any:
        given: models.JobIn = call.body
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


def only_adapter() -> str:
    """Return the name of the one adapter that is installed."""
    names = adapters()
    if not names:
        raise UnknownAdapter("", ())
    if len(names) > 1:
        raise BadInput(f"which adapter? Installed: {', '.join(names)}", hint="Give its name.")
    return names[0]


async def list_jobs(desk: WorkbenchServer, call: Call) -> Any:
    """Return one page of jobs."""
    asked: models.JobsQuery = call.query

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
    return await desk.run(lambda home: home.job(_id(call, "job_id")).to_json())


async def get_progress(desk: WorkbenchServer, call: Call) -> Any:
    """Return how far a job is."""
    job = await desk.run(lambda home: home.job(_id(call, "job_id")).to_json(result=False))
    return {name: job[name] for name in ("id", "status", "progress", "attempt")}


async def get_logs(desk: WorkbenchServer, call: Call) -> Any:
    """Return the end of a job's log, or what came since the last look."""
    asked: models.LogsQuery = call.query

    def look(home: Workspace) -> Any:
        job = home.job(_id(call, "job_id"))
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
    return await desk.run(lambda home: home.job(_id(call, "job_id")).cancel().to_json())


# Runs ------------------------------------------------------------------------------------------


def summary_json(run: Run, summary: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run's metrics came to as plain JSON."""
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "summary": {
            name: {key: _number(row.get(key)) for key in STATISTICS} for name, row in summary.items()
        },
    }


def _number(value: Any) -> Any:
    return wire.number_json(value) if isinstance(value, float) else value


async def list_experiments(desk: WorkbenchServer, call: Call) -> Any:
    """Return the experiments by name."""
    return await desk.run(
        lambda home: {"experiments": [_experiment(row) for row in home.store.experiments()]}
    )


def _experiment(row: Any) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "created_at": _moment(row.created_at)}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _some_runs(home: Workspace, experiment: str | None, page: models.Page) -> tuple[list[Run], bool]:
    """Return one page of runs, newest first, and whether there are older ones."""
    names = {row.name: row.id for row in home.store.experiments()}
    if experiment is not None and experiment not in names:
        raise UnknownExperiment(experiment, names)
    rows = home.store.runs(
        experiment_id=None if experiment is None else names[experiment],
        limit=page.limit + 1,
        offset=page.offset,
    )
    by_id = {number or 0: name for name, number in names.items()}
    return [home._handle(row, by_id) for row in rows[: page.limit]], len(rows) > page.limit


async def list_runs(desk: WorkbenchServer, call: Call) -> Any:
    """Return one page of runs."""
    asked: models.RunsQuery = call.query

    def look(home: Workspace) -> Any:
        runs, more = _some_runs(home, asked.experiment, asked)
        return {"runs": [run_json(run) for run in runs], "more": more, **_page(asked)}

    return await desk.run(look)


def _page(page: models.Page) -> dict[str, int]:
    return {"limit": page.limit, "offset": page.offset}


async def experiment_metrics(desk: WorkbenchServer, call: Call) -> Any:
    """Return what the metrics of an experiment's runs came to, one page of runs."""
    asked: models.Page = call.query

    def look(home: Workspace) -> Any:
        number = as_id(call.path["experiment_id"])
        row = None if number is None else home.store.experiment(number)
        if row is None:
            raise UnknownExperiment(call.path["experiment_id"], [one.id for one in home.store.experiments()])
        runs, more = _some_runs(home, row.name, asked)
        summaries = home.store.summaries([run.id for run in runs])
        told = [summary_json(run, {one.name: one.model_dump() for one in summaries[run.id]}) for run in runs]
        return {"experiment": _experiment(row), "runs": told, "more": more, **_page(asked)}

    return await desk.run(look)


async def run_summary(desk: WorkbenchServer, call: Call) -> Any:
    """Return what a run's metrics came to."""

    def look(home: Workspace) -> Any:
        run = home.run(_id(call, "run_id"))
        return summary_json(run, run.summary)

    return await desk.run(look)


async def run_points(desk: WorkbenchServer, call: Call) -> Any:
    """Return the points of one metric of a run, in the order they were logged."""
    asked: models.PointsQuery = call.query

    def look(home: Workspace) -> Any:
        points = home.run(_id(call, "run_id")).metric_points(asked.name, after=asked.after)
        return {
            "name": asked.name,
            "points": [[step, at, wire.number_json(value)] for step, at, value in points],
        }

    return await desk.run(look)


async def run_marks(desk: WorkbenchServer, call: Call) -> Any:
    """Return of which runs there is something new, as marks to be held against those of the last look."""
    asked: models.MarksQuery = call.query
    also = [number for number in map(as_id, asked.also.split(",")) if number is not None]

    def look(home: Workspace) -> Any:
        settle_runs(home.store, hearing=home.hearing)
        newest = home.store.newest_run() or 0
        first = max(1, newest - asked.newest + 1)
        marks = home.store.run_marks({*range(first, newest + 1), *also})
        return wire.dumps({"first": first, "newest": newest, "marks": marks})

    return await desk.run(look)


async def run_table(desk: WorkbenchServer, call: Call) -> Any:
    """Return runs with their summaries, until an answer is full."""
    asked: models.RunTableIn = call.body

    def look(home: Workspace) -> Any:
        ids, told, size, left = list(dict.fromkeys(asked.runs)), [], 0, []
        for some in (ids[at : at + _TABLED_AT_ONCE] for at in range(0, len(ids), _TABLED_AT_ONCE)):
            if size >= TABLE_BYTES:
                left += some
                continue
            # Each run before its summary: what is over by then has all of its points.
            rows = home.store.run_table(some)
            summaries = home.store.summary_table(rows)
            families = home.store.job_adapters({row.job_id for row in rows.values() if row.job_id})
            for run_id in some:
                if size >= TABLE_BYTES:
                    left.append(run_id)
                elif (row := rows.get(run_id)) is not None:
                    told.append(_tabled(row, families.get(row.job_id or 0, ""), summaries[run_id]))
                    size += len(told[-1])
        head = wire.dumps({"columns": STATISTICS, "left": left})
        return head[:-1] + b',"runs":[' + b",".join(told) + b"]}"

    return await desk.run(look)


def _tabled(row: RunRow, adapter: str, summary: Mapping[str, Mapping[str, Any]]) -> bytes:
    columns = {name: [_number(entry[key]) for key in STATISTICS] for name, entry in summary.items()}
    return wire.dumps({**row._asdict(), "adapter": adapter, "summary": columns})


async def curve_points(desk: WorkbenchServer, call: Call) -> Any:
    """Return the points of metrics after those that are known, until an answer is full."""
    asked: models.CurvesIn = call.body
    after = {(one.run, one.name): one.after for one in asked.curves}

    def look(home: Workspace) -> Any:
        found = home.store.curves(list(after), after, ANSWER_POINTS)
        told = [
            {
                "run": run_id,
                "name": name,
                "step": _packed(curve.step),
                "time": _packed(curve.time),
                "value": _packed(curve.value),
            }
            for (run_id, name), curve in found.items()
            if len(curve.seq)
        ]
        full = sum(len(curve.seq) for curve in found.values()) >= ANSWER_POINTS
        return wire.dumps({"curves": told, "more": full})

    return await desk.run(look)


def _packed(column: Any) -> str:
    """Return numbers of 8 bytes as base64 text, little end first."""
    return b64encode(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()).decode("ascii")


async def list_checkpoints(desk: WorkbenchServer, call: Call) -> Any:
    """Return a run's checkpoints, oldest first."""

    def look(home: Workspace) -> Any:
        files = home.run(_id(call, "run_id")).checkpoints()
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
        run = home.run(_id(call, "run_id"))
        run.delete_checkpoint(call.path["name"])
        return {"run_id": run.id, "deleted": call.path["name"]}

    return await desk.run(remove)


async def compare(desk: WorkbenchServer, call: Call) -> Any:
    """Put runs beside each other: how their configs differ, their curves, and which is best at what."""
    from workbench.compare.reading import thinned_curves

    asked: models.CompareIn = call.body

    def look(home: Workspace) -> Any:
        compared = home.compare(
            asked.runs, statistic=asked.statistic, baseline=asked.baseline, better=asked.better
        )
        names = asked.metrics
        if names is None:
            names = [row.name for row in compared.final[: models.CURVES_AT_FIRST]]
        ids = [run.id for run in compared.runs]
        curves = thinned_curves(home.store, ids, list(dict.fromkeys(names)), asked.points)
        told = [
            {
                "run": run_id,
                "name": name,
                "step": curve.step.tolist(),
                "time": curve.time.tolist(),
                "value": [wire.number_json(value) for value in curve.value.tolist()],
            }
            for (run_id, name), curve in curves.items()
        ]
        return {**compared.to_json(), "series": told}

    return await desk.run(look)


# Search ----------------------------------------------------------------------------------------


async def list_indexes(desk: WorkbenchServer, call: Call) -> Any:
    """Return the indexes by name."""

    def look(home: Workspace) -> Any:
        found = []
        for name in home.index_names():
            try:
                found.append({"name": name, "adapter": index_adapter(home.indexes, name)})
            except WorkbenchError:
                found.append({"name": name, "adapter": ""})
        return {"indexes": found}

    return await desk.run(look)


async def get_index(desk: WorkbenchServer, call: Call) -> Any:
    """Open an index, and tell what it holds and how it can be searched."""
    return await desk.ask(op="describe", index=call.path["name"])


def _search(by: str, field: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    async def search(desk: WorkbenchServer, call: Call) -> Any:
        asked = call.body
        given = getattr(asked, field)
        if by == "image" and len(given) > math.ceil(MAX_IMAGE_BYTES / 3) * 4:
            raise TooLarge(f"the picture has over {MAX_IMAGE_BYTES // 2**20} MiB", hint="Make it smaller.")
        question = {"by": by, by: given, "k": asked.k, "options": asked.options}
        found = await desk.ask(op="search", index=asked.index, **question)
        if not isinstance(found.get("hits"), list):
            raise SearchFailed(f"index {asked.index!r} answered with no hits")
        return found

    return search


# The table -------------------------------------------------------------------------------------
ROUTES: tuple[Route, ...] = (
    Route("GET", "adapters", "read", "List the adapters with the schemas of their options.", list_adapters,
          models.AdaptersOut),
    Route("GET", "adapters/{name}", "read", "Tell of one adapter.", get_adapter, models.AdapterOut),
    *(
        Route("POST", f"jobs/{word}", "execute", f"Queue {a_job} job and see to it that it runs.",
              _submit(job_type), models.JobOut, body=models.JobIn, status=201, errors=(404, 501),
              polled=False)
        for word, job_type, a_job in (
            ("eval", "eval", "an eval"),
            ("index-build", "index_build", "an index_build"),
            ("train", "train", "a train"),
        )
    ),
    Route("GET", "jobs", "read", "List jobs, newest first, one page at a time.", list_jobs, models.JobsOut,
          query=models.JobsQuery),
    Route("GET", "jobs/{job_id}", "read", "Look at one job, with its result.", get_job, models.JobOut),
    Route("GET", "jobs/{job_id}/progress", "read", "See how far a job is.", get_progress,
          models.JobProgressOut),
    Route("GET", "jobs/{job_id}/logs", "read", "Read the end of a job's log, or what came since.", get_logs,
          models.LogsOut, query=models.LogsQuery),
    Route("POST", "jobs/{job_id}/cancel", "execute", "Stop a job; one that has ended stays as it is.",
          cancel_job, models.JobOut, polled=False),
    Route("GET", "experiments", "read", "List the experiments.", list_experiments, models.ExperimentsOut),
    Route("GET", "experiments/{experiment_id}/metrics", "read",
          "Read what the metrics of an experiment's runs came to.", experiment_metrics,
          models.ExperimentMetricsOut, query=models.Page),
    Route("POST", "experiments/compare", "read", "Put runs beside each other.", compare,
          models.ComparisonOut, body=models.CompareIn, errors=(404,)),
    Route("GET", "runs", "read", "List runs, newest first, one page at a time.", list_runs, models.RunsOut,
          query=models.RunsQuery, errors=(404,)),
    Route("GET", "runs/marks", "read", "See of which runs there is something new.", run_marks,
          models.MarksOut, query=models.MarksQuery),
    Route("POST", "runs/table", "read", "Read runs and what their metrics came to.", run_table,
          models.RunTableOut, body=models.RunTableIn),
    Route("POST", "runs/points", "read", "Read the points of many metrics, or what came since.",
          curve_points, models.CurvesOut, body=models.CurvesIn),
    Route("GET", "runs/{run_id}", "read", "Look at one run.", run_routes.get_run, run_models.RunWholeOut),
    Route("GET", "runs/{run_id}/summary", "read", "Read what a run's metrics came to.", run_summary,
          models.SummaryOut),
    Route("GET", "runs/{run_id}/metrics", "read", "Read the points of one metric.", run_points,
          models.PointsOut, query=models.PointsQuery),
    Route("GET", "runs/{run_id}/checkpoints", "read", "List a run's checkpoints.", list_checkpoints,
          models.CheckpointsOut),
    Route("DELETE", "runs/{run_id}/checkpoints/{name}", "write", "Delete one checkpoint of a run.",
          remove_checkpoint, models.DeletedOut, errors=(409,), polled=False),
    # Logging from another machine.
    Route("POST", "runs", "write", "Start a run that is logged from another machine.", run_routes.start_run,
          run_models.RunWholeOut, body=run_models.RunIn, status=201, polled=False,
          body_bytes=run_models.RUN_BYTES),
    Route("PATCH", "runs/{run_id}", "write", "Write a run's notes, or add tags.", run_routes.annotate_run,
          run_models.RunWholeOut, body=run_models.NotesIn, polled=False, body_bytes=run_models.RUN_BYTES),
    Route("GET", "runs/{run_id}/outcome", "read", "Read what a run has come to.", run_routes.get_outcome,
          run_models.OutcomeOut),
    Route("POST", "runs/{run_id}/points", "write", "Log a numbered batch of points, or give a sign of life.",
          run_routes.add_points, run_models.TakenOut, body=run_models.PointsIn, errors=(409,), polled=False,
          body_bytes=run_models.POINTS_BYTES),
    Route("POST", "runs/{run_id}/end", "write", "End a run; one that is over stays as it ended.",
          run_routes.end_run, run_models.RunWholeOut, body=run_models.EndIn, polled=False),
    Route("PUT", "runs/{run_id}/checkpoints/{name}", "write", "Send a file as a checkpoint of a run.",
          run_routes.put_checkpoint, run_models.FileKeptOut, query=run_models.CheckpointQuery,
          errors=(409, 413), polled=False, before=run_routes.expect_file),
    Route("GET", "runs/{run_id}/checkpoints/{name}", "read", "Fetch the bytes of a checkpoint.",
          run_routes.get_checkpoint, run_models.FileOut, errors=(409,), polled=False, gives_file=True),
    Route("GET", "runs/{run_id}/artifacts", "read", "List a run's artifacts.", run_routes.list_artifacts,
          run_models.ArtifactsOut),
    Route("PUT", "runs/{run_id}/artifacts/{name}", "write", "Send a file as an artifact of a run.",
          run_routes.put_artifact, run_models.FileKeptOut, query=run_models.FileQuery,
          errors=(409, 413), polled=False, before=run_routes.expect_file),
    Route("GET", "runs/{run_id}/artifacts/{name}", "read", "Fetch the bytes of an artifact.",
          run_routes.get_artifact, run_models.FileOut, errors=(409,), polled=False, gives_file=True),
    Route("POST", "jobs/notebook", "execute", "Send a notebook, and queue it as a job.",
          run_routes.submit_notebook, models.JobOut, body=run_models.NotebookIn, status=201, polled=False,
          body_bytes=2 * run_models.NOTEBOOK_BYTES),
    Route("POST", "jobs/{job_id}/retry", "execute", "Queue the same as a job that has ended again.",
          run_routes.retry_job, models.JobOut, status=201, errors=(409, 422, 501), polled=False),
    Route("GET", "indexes", "read", "List the indexes.", list_indexes, models.IndexesOut),
    Route("GET", "indexes/{name}", "read", "Tell how an index can be searched.", get_index, models.IndexOut,
          errors=(409,)),
    Route("POST", "search/text", "read", "Search an index with a text.", _search("text", "query"),
          models.SearchOut, body=models.TextSearchIn, errors=(404, 409, 501), polled=False),
    Route("POST", "search/image", "read", "Search an index with a picture.", _search("image", "image"),
          models.SearchOut, body=models.ImageSearchIn, errors=(404, 409, 501), polled=False,
          body_bytes=messages.REQUEST_BYTES),
    Route("POST", "search/item", "read", "Search an index with one of its own items.",
          _search("item", "item"), models.SearchOut, body=models.ItemSearchIn, errors=(404, 409, 501),
          polled=False),
)  # fmt: skip


def _id(call: Call, name: str) -> Any:
    """Return an id as it stands in the path; the workspace says what is wrong with it."""
    return call.path[name]
