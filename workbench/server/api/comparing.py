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

#: An answer with many runs, or with many points, is full at so many bytes, or points.
TABLE_BYTES, ANSWER_POINTS = 2**20, 2**16


#: So many runs are read before the size of an answer is looked at.
_TABLED_AT_ONCE = 20


#: Metrics whose curves one comparison may ask for, and how many it gets unasked; parts a curve is cut into.
MOST_CURVES, CURVES_AT_FIRST, MOST_BUCKETS = 100, 12, 2000


#: Runs, and metrics of runs, that one question may name; runs that it may name in its address.
MOST_TABLED, MOST_SERIES, MOST_ALSO = 200, 200, 100


class MarksQuery(Given):
    """Which runs are watched."""

    newest: Annotated[int, BeforeValidator(from_text)] = Field(
        100, ge=0, le=MOST_LISTED, description="So many of the newest."
    )
    also: str = Field(
        "",
        pattern=r"^([1-9][0-9]{0,9}(,[1-9][0-9]{0,9})*)?$",
        max_length=11 * MOST_ALSO,
        description="Ids of others, with commas between them.",
    )


class RunTableIn(Given):
    """Runs to be read."""

    runs: list[Id] = Field(max_length=MOST_TABLED, description="Their ids.")


class CurveAsked(Given):
    """A metric of a run, and what is known of it."""

    run: Id
    name: Asked
    after: Whole = Field(
        -1, ge=-1, lt=2**31, description="Only points after that many, less one: the `seq` of the last known."
    )


class CurvesIn(Given):
    """Metrics whose points are to be read."""

    curves: list[CurveAsked] = Field(max_length=MOST_SERIES)


class CompareIn(Given):
    """Runs to put beside each other."""

    runs: list[Id] = Field(min_length=1, max_length=MOST_COMPARED, description="In the order of the columns.")
    statistic: Literal["last", "best", "min", "max"] = Field(
        "last", description="Which number of each metric counts."
    )
    baseline: Id | None = Field(None, description="The run that the others are held against.")
    better: dict[MetricName, Literal["higher", "lower"] | None] | None = Field(
        None, description="Directions by name or pattern that hold instead of what was declared."
    )
    metrics: list[MetricName] | None = Field(
        None,
        max_length=MOST_CURVES,
        description=f"Whose curves are wanted; the first {CURVES_AT_FIRST} of the final table if not given.",
    )
    points: Whole = Field(
        400, ge=1, le=MOST_BUCKETS, description="Of each so many parts of a curve three points are kept."
    )


class MarksOut(BaseModel):
    """Runs, each with a mark that is another one when there is something new of it."""

    first: int = Field(description="The smallest id among the newest ones asked for.")
    newest: int = Field(description="The highest id; 0 where there are no runs.")
    marks: dict[str, str] = Field(description="By id; a run that is not there has none.")


class RunRowOut(RunHead):
    """A run and what its metrics came to, as comparing reads it."""

    created_at: float = Field(description="Seconds since 1970.")
    finished_at: float | None
    notes: str
    adapter: str = Field(description="Whose job made it; empty where none did.")
    summary: dict[str, list[Number | str]] = Field(
        description="By metric, in the order they first appeared: what `columns` names."
    )


class RunTableOut(BaseModel):
    """Runs with their summaries, as many as fit."""

    columns: list[str] = Field(description="What stands in each list of a summary.")
    runs: list[RunRowOut] = Field(description="A run that is not there is left out.")
    left: list[int] = Field(description="Runs that did not fit: ask for them again.")


class CurveOut(BaseModel):
    """New points of one metric, in the order they were logged: three columns of one length.

    Each is base64 text of little-endian numbers of 8 bytes, which loses nothing and costs little.
    """

    run: int
    name: str
    step: str = Field(description="int64.")
    time: str = Field(description="float64: seconds since 1970.")
    value: str = Field(description="float64, NaN and the infinities among them.")


class CurvesOut(BaseModel):
    """New points of some metrics, as many as fit."""

    curves: list[CurveOut] = Field(description="A metric of which there is nothing new is left out.")
    more: bool = Field(description="Whether some did not fit: ask again, after these.")


class SeriesOut(BaseModel):
    """One metric of one run, in the order it was logged, thinned."""

    run: int
    name: str
    step: list[int]
    time: list[float] = Field(description="Seconds since 1970.")
    value: list[float | str | None] = Field(description="NaN is null, the infinities are texts.")


class ComparisonOut(BaseModel):
    """Runs beside each other."""

    statistic: str
    baseline: int | None
    runs: list[dict[str, Any]]
    config: list[dict[str, Any]]
    final: list[dict[str, Any]]
    series: list[SeriesOut]


async def run_marks(desk: WorkbenchServer, call: Call) -> Any:
    """Return of which runs there is something new, as marks to be held against those of the last look."""
    asked: MarksQuery = call.query
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
    asked: RunTableIn = call.body

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
    columns = {name: [number_out(entry[key]) for key in STATISTICS] for name, entry in summary.items()}
    return wire.dumps({**row._asdict(), "adapter": adapter, "summary": columns})


async def curve_points(desk: WorkbenchServer, call: Call) -> Any:
    """Return the points of metrics after those that are known, until an answer is full."""
    asked: CurvesIn = call.body
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


async def compare(desk: WorkbenchServer, call: Call) -> Any:
    """Put runs beside each other: how their configs differ, their curves, and which is best at what."""
    from workbench.compare.reading import thinned_curves

    asked: CompareIn = call.body

    def look(home: Workspace) -> Any:
        compared = home.compare(
            asked.runs, statistic=asked.statistic, baseline=asked.baseline, better=asked.better
        )
        names = asked.metrics
        if names is None:
            names = [row.name for row in compared.final[:CURVES_AT_FIRST]]
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
