"""Comparing runs over HTTP: marks, tables, curves and whole comparisons."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from workbench import wire
from workbench.home import as_id
from workbench.runs.settling import settle_runs
from workbench.server.api.fields import (
    MOST_COMPARED,
    MOST_LISTED,
    Asked,
    Given,
    Id,
    MetricName,
    Number,
    Whole,
    from_text,
)
from workbench.server.api.route import Call
from workbench.server.api.runs import RunHead, number_out
from workbench.server.desk import WorkbenchServer
from workbench.store.outcome import STATISTICS
from workbench.store.runs import RunRow
from workbench.workspace import Workspace

#: Size at which an answer with many runs (in bytes), or with many points, is full.
TABLE_BYTES, ANSWER_POINTS = 2**20, 2**16


#: Runs to read before checking the size of the answer.
_TABLED_AT_ONCE = 20


#: Maximum and default number of curves per comparison; maximum number of buckets per curve.
MOST_CURVES, CURVES_AT_FIRST, MOST_BUCKETS = 100, 12, 2000


#: Maximum runs, and metrics of runs, per request; maximum runs in a query string.
MOST_TABLED, MOST_SERIES, MOST_ALSO = 200, 200, 100


#: Maximum number of points of all curves of a comparison.
COMPARED_POINTS = 2**18


class MarksQuery(Given):
    """The runs to watch."""

    newest: Annotated[int, BeforeValidator(from_text)] = Field(
        100, ge=0, le=MOST_LISTED, description="Only the newest N."
    )
    also: str = Field(
        "",
        pattern=r"^([1-9][0-9]{0,9}(,[1-9][0-9]{0,9})*)?$",
        max_length=11 * MOST_ALSO,
        description="Ids of further runs, separated by commas.",
    )


class RunTableIn(Given):
    """Runs to read."""

    runs: list[Id] = Field(max_length=MOST_TABLED, description="Ids of the runs.")


class CurveAsked(Given):
    """A metric of a run, and the last point already known."""

    run: Id
    name: Asked
    after: Whole = Field(
        -1, ge=-1, lt=2**31, description="Only points with a higher `seq`, counted from 0; -1 for all."
    )


class CurvesIn(Given):
    """Metrics whose points to read."""

    curves: list[CurveAsked] = Field(max_length=MOST_SERIES)


class CompareIn(Given):
    """Runs to compare."""

    runs: list[Id] = Field(
        min_length=1, max_length=MOST_COMPARED, description="Ids of the runs, in column order."
    )
    statistic: Literal["last", "best", "min", "max"] = Field(
        "last", description="Which value of each metric to compare."
    )
    baseline: Id | None = Field(None, description="The run that the others are compared with.")
    better: dict[MetricName, Literal["higher", "lower"] | None] | None = Field(
        None, description="Directions by metric name or pattern, overriding the declared ones."
    )
    metrics: list[MetricName] | None = Field(
        None,
        max_length=MOST_CURVES,
        description=f"Metrics whose curves to return; default: the first {CURVES_AT_FIRST} in `final`.",
    )
    points: Whole = Field(
        400,
        ge=1,
        le=MOST_BUCKETS,
        description="Number of buckets per curve; up to three points are kept in each. With many curves "
        f"there are fewer, so that an answer has at most {COMPARED_POINTS:,} points; see `buckets`.",
    )


class MarksOut(BaseModel):
    """Runs, each with a mark that changes when the run does."""

    first: int = Field(description="The lowest id among the newest runs requested.")
    newest: int = Field(description="The highest id; 0 if there are no runs.")
    marks: dict[str, str] = Field(description="Marks by id; missing runs are left out.")


class RunRowOut(RunHead):
    """A run with its metric summary, for comparisons."""

    created_at: float | None = Field(description="Seconds since 1970; null if unknown.")
    finished_at: float | None
    notes: str
    archived_at: float | None = Field(description="Null if it is not archived.")
    adapter: str = Field(description="Adapter of the job that made the run; empty without a job.")
    summary: dict[str, list[Number | str]] = Field(
        description="Lists of statistics, as named by `columns`, by metric in order of first appearance."
    )


class RunTableOut(BaseModel):
    """Runs with their summaries, as many as fit into one answer."""

    columns: list[str] = Field(description="Names of the entries in each list of a summary.")
    runs: list[RunRowOut] = Field(description="Missing runs are left out.")
    left: list[int] = Field(description="Ids of runs that did not fit; request them again.")


class CurveOut(BaseModel):
    """New points of one metric, in the order they were logged: three columns of equal length.

    Each is base64 text of little-endian 8-byte numbers, which is exact and compact.
    """

    run: int
    name: str
    step: str = Field(description="int64.")
    time: str = Field(description="float64: seconds since 1970.")
    value: str = Field(description="float64; may be NaN or infinite.")


class CurvesOut(BaseModel):
    """New points of metrics, as many as fit into one answer."""

    curves: list[CurveOut] = Field(description="Metrics without new points are left out.")
    more: bool = Field(description="Whether points did not fit; request the points after these.")


class SeriesOut(BaseModel):
    """One metric of one run, in the order it was logged, downsampled."""

    run: int
    name: str
    step: list[int]
    time: list[float | str | None] = Field(description="Seconds since 1970.")
    value: list[float | str | None] = Field(description="NaN is null; infinities are strings.")


class ComparisonOut(BaseModel):
    """A comparison of runs."""

    statistic: str
    baseline: int | None
    runs: list[dict[str, Any]]
    config: list[dict[str, Any]]
    final: list[dict[str, Any]]
    series: list[SeriesOut]
    buckets: int = Field(description="Number of buckets per curve: `points`, or fewer with many curves.")


async def run_marks(desk: WorkbenchServer, call: Call) -> Any:
    """Return a mark for each run, to compare with the marks of the previous request."""
    query: MarksQuery = call.query
    also = [number for number in map(as_id, query.also.split(",")) if number is not None]

    def look(home: Workspace) -> Any:
        settle_runs(home.store, hearing=home.hearing)
        newest = home.store.newest_run() or 0
        first = max(1, newest - query.newest + 1)
        marks = home.store.run_marks({*range(first, newest + 1), *also})
        return wire.dumps({"first": first, "newest": newest, "marks": marks})

    return await desk.run(look)


async def run_table(desk: WorkbenchServer, call: Call) -> Any:
    """Return runs with their summaries, until the answer is full."""
    body: RunTableIn = call.body

    def look(home: Workspace) -> Any:
        ids, rows_json, size, left = list(dict.fromkeys(body.runs)), [], 0, []
        for some in (ids[at : at + _TABLED_AT_ONCE] for at in range(0, len(ids), _TABLED_AT_ONCE)):
            if size >= TABLE_BYTES:
                left += some
                continue
            # Runs before summaries: the summary of a run that has ended here is complete.
            rows = home.store.run_table(some)
            summaries = home.store.summary_table(rows)
            families = home.store.job_adapters({row.job_id for row in rows.values() if row.job_id})
            for run_id in some:
                if size >= TABLE_BYTES:
                    left.append(run_id)
                elif (row := rows.get(run_id)) is not None:
                    rows_json.append(_tabled(row, families.get(row.job_id or 0, ""), summaries[run_id]))
                    size += len(rows_json[-1])
        head = wire.dumps({"columns": STATISTICS, "left": left})
        return head[:-1] + b',"runs":[' + b",".join(rows_json) + b"]}"

    return await desk.run(look)


def _tabled(row: RunRow, adapter: str, summary: Mapping[str, Mapping[str, Any]]) -> bytes:
    columns = {name: [number_out(entry[key]) for key in STATISTICS] for name, entry in summary.items()}
    return wire.dumps({**row._asdict(), "adapter": adapter, "summary": columns})


async def curve_points(desk: WorkbenchServer, call: Call) -> Any:
    """Return the points of metrics after those already known, until the answer is full."""
    body: CurvesIn = call.body
    after = {(one.run, one.name): one.after for one in body.curves}

    def look(home: Workspace) -> Any:
        curves = home.store.curves(list(after), after, ANSWER_POINTS)
        columns = [
            {
                "run": run_id,
                "name": name,
                "step": _packed(curve.step),
                "time": _packed(curve.time),
                "value": _packed(curve.value),
            }
            for (run_id, name), curve in curves.items()
            if len(curve)
        ]
        full = sum(len(curve) for curve in curves.values()) >= ANSWER_POINTS
        return wire.dumps({"curves": columns, "more": full})

    return await desk.run(look)


def _packed(column: Any) -> str:
    """Return 8-byte numbers as base64 text, little-endian."""
    return b64encode(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()).decode("ascii")


async def compare(desk: WorkbenchServer, call: Call) -> Any:
    """Compare runs: config differences, curves, and the best run by metric."""
    from workbench.compare.reading import thinned_curves

    body: CompareIn = call.body

    def look(home: Workspace) -> Any:
        compared = home.compare(
            body.runs, statistic=body.statistic, baseline=body.baseline, better=body.better
        )
        names = body.metrics
        if names is None:
            names = [row.name for row in compared.final[:CURVES_AT_FIRST]]
        ids = [run.id for run in compared.runs]
        names = list(dict.fromkeys(names))
        buckets = buckets_of(body.points, len(ids) * len(names))
        curves = thinned_curves(home.store, ids, names, buckets)
        series = [
            {
                "run": run_id,
                "name": name,
                "step": curve.step.tolist(),
                "time": [wire.number_json(at) for at in curve.time.tolist()],
                "value": [wire.number_json(value) for value in curve.value.tolist()],
            }
            for (run_id, name), curve in curves.items()
        ]
        return {**compared.to_json(), "series": series, "buckets": buckets}

    return await desk.run(look)


def buckets_of(wanted: int, curves: int) -> int:
    """Return the number of buckets per curve with which an answer keeps to :data:`COMPARED_POINTS`."""
    return max(1, min(wanted, COMPARED_POINTS // (3 * max(curves, 1))))
