"""What goes in and out of the HTTP API, as it is checked and as ``openapi.json`` says it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from workbench.search.searcher import MAX_QUERY_CHARACTERS
from workbench.store.records import JobStatus

#: So many of anything on one page at most, and so many runs beside each other.
MOST_LISTED, MOST_COMPARED = 1000, 100

#: Metrics whose curves one comparison may ask for, and how many it gets unasked; parts a curve is cut into.
MOST_CURVES, CURVES_AT_FIRST, MOST_BUCKETS = 100, 12, 2000

#: Runs, and metrics of runs, that one question may name; runs that it may name in its address.
MOST_TABLED, MOST_SERIES, MOST_ALSO = 200, 200, 100


def _whole(value: Any) -> Any:
    """Take 5.0 for 5, as JSON does, and nothing else."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _typed(value: Any) -> Any:
    """Take the text of a URL for a number where it is written as one."""
    return (
        int(value)
        if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit()
        else value
    )


Whole = Annotated[int, BeforeValidator(_whole)]
#: A number; NaN is null.
Number = float | Literal["Infinity", "-Infinity"] | None
Id = Annotated[Whole, Field(ge=1, lt=2**31)]
Text = Annotated[str, Field(max_length=10_000)]
MetricName = Annotated[str, Field(max_length=250)]
Name = Annotated[str, Field(max_length=255)]
#: A text in a URL, which may be nine times as long there, and has to fit into a request's head.
Asked = Annotated[str, Field(max_length=1000)]


class Given(BaseModel):
    """Base of what comes in: unknown names are refused, and nothing is taken for something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


# Coming in -------------------------------------------------------------------------------------


class Page(Given):
    """Which page of a list."""

    limit: Annotated[int, BeforeValidator(_typed)] = Field(
        100, ge=1, le=MOST_LISTED, description="At most so many."
    )
    offset: Annotated[int, BeforeValidator(_typed)] = Field(
        0, ge=0, lt=2**31, description="How many of the newest to pass over."
    )


class JobsQuery(Page):
    """Which jobs."""

    type: Name | None = Field(None, description="Only jobs of this type.")
    status: JobStatus | None = Field(None, description="Only jobs in this state.")


class RunsQuery(Page):
    """Which runs."""

    experiment: Asked | None = Field(None, description="Only runs of the experiment of this name.")


class LogsQuery(Given):
    """Which part of a log."""

    tail: Annotated[int, BeforeValidator(_typed)] = Field(
        200, ge=1, le=10_000, description="How many last lines."
    )
    after: Annotated[int, BeforeValidator(_typed)] | None = Field(
        None,
        ge=0,
        lt=2**53,
        description="Instead: what came after that many bytes, `next` of the last answer.",
    )


class PointsQuery(Given):
    """Which points."""

    name: Asked = Field(description="The metric.")
    after: Annotated[int, BeforeValidator(_typed)] = Field(
        -1, ge=-1, lt=2**31, description="Only points after that many, less one."
    )


class MarksQuery(Given):
    """Which runs are watched."""

    newest: Annotated[int, BeforeValidator(_typed)] = Field(
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


class JobIn(Given):
    """A job to be queued."""

    adapter: Name | None = Field(None, description="The family; the only one installed if not given.")
    options: dict[str, Any] = Field({}, description="The adapter's options for that type; see `adapters`.")
    fail_below: dict[str, float] | None = Field(
        None, description="Metrics of the result that must reach a value, else the job fails."
    )


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


class SearchIn(Given):
    """What every search says."""

    index: Name = Field(description="Name of the index.")
    k: Whole = Field(20, ge=1, le=MOST_LISTED, description="How many hits.")
    options: dict[str, Any] = Field({}, description="The adapter's own; see `indexes/{name}`.")


class TextSearchIn(SearchIn):
    """A search with a text."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)


class ImageSearchIn(SearchIn):
    """A search with a picture."""

    image: str = Field(min_length=1, description="A JPEG, PNG or WebP file as base64 text.")


class ItemSearchIn(SearchIn):
    """A search with an item of the index itself."""

    item: Text = Field(min_length=1, description="Id of an item of the index: more like this.")


# Going out -------------------------------------------------------------------------------------


class ErrorDetail(BaseModel):
    """What is wrong, and what to do."""

    type: str = Field(description="Class of the error, as in Python.")
    message: str = Field(description="What was given, and what is allowed.")
    hint: str = Field(description="What to do next; may be empty.")
    details: dict[str, Any] = Field(description="What the class carries besides, such as `problems`.")


class ErrorOut(BaseModel):
    """An error."""

    error: ErrorDetail


class MetricOut(BaseModel):
    """A metric that an adapter reports, or a family of them by a pattern."""

    name: str
    better: Literal["higher", "lower"] | None
    format: str
    description: str


class AdapterOut(BaseModel):
    """A model family."""

    name: str
    title: str
    job_types: list[str]
    options: dict[str, dict[str, Any]] = Field(
        description="JSON schema of the options by job type, and `search`."
    )
    metrics: list[MetricOut]
    problem: str = Field(description="Why it cannot be used; empty where it can.")


class AdaptersOut(BaseModel):
    """The model families."""

    adapters: list[AdapterOut]


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


class ExperimentOut(BaseModel):
    """An experiment."""

    id: int
    name: str
    created_at: str


class ExperimentsOut(BaseModel):
    """The experiments, by name."""

    experiments: list[ExperimentOut]


class _RunSaid(BaseModel):
    id: int
    name: str
    experiment: str
    status: str
    config: dict[str, Any]
    tags: dict[str, Any]
    directions: list[list[str]]
    job_id: int | None
    error: dict[str, Any] | None


class RunOut(_RunSaid):
    """A run, without its metrics."""

    created_at: str
    finished_at: str | None


class RunsOut(BaseModel):
    """One page of runs, newest first."""

    runs: list[RunOut]
    more: bool = Field(description="Whether there are older ones.")
    limit: int
    offset: int


class MetricSummaryOut(BaseModel):
    """What one metric came to."""

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
    """What a run's metrics came to, by name."""

    id: int
    name: str
    experiment: str
    status: str
    summary: dict[str, MetricSummaryOut]


class ExperimentMetricsOut(BaseModel):
    """What the metrics of an experiment's runs came to."""

    experiment: ExperimentOut
    runs: list[SummaryOut]
    more: bool
    limit: int
    offset: int


class PointsOut(BaseModel):
    """The points of one metric, in the order they were logged."""

    name: str
    points: list[list[Number]] = Field(description="Step, seconds since 1970, value.")


class MarksOut(BaseModel):
    """Runs, each with a mark that is another one when there is something new of it."""

    first: int = Field(description="The smallest id among the newest ones asked for.")
    newest: int = Field(description="The highest id; 0 where there are no runs.")
    marks: dict[str, str] = Field(description="By id; a run that is not there has none.")


class RunRowOut(_RunSaid):
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


class IndexRowOut(BaseModel):
    """An index."""

    name: str
    adapter: str = Field(description="Who made it; empty where its manifest does not say.")


class IndexesOut(BaseModel):
    """The indexes, by name."""

    indexes: list[IndexRowOut]


class SampleOut(BaseModel):
    """A query worth trying."""

    text: str
    language: str


class IndexOut(BaseModel):
    """An index, and how it can be searched."""

    index: str
    adapter: str
    adapter_title: str
    offers: list[str] = Field(description="Which searches its adapter has.")
    options: dict[str, Any] = Field(alias="schema", description="JSON schema of the search options.")
    about: dict[str, Any] = Field(description="Title, subtitle, count and credits.")
    samples: list[SampleOut] = Field(description="Queries worth trying.")


class HitOut(BaseModel):
    """One result."""

    id: str
    score: Number
    distance: Number
    caption: str
    subtitle: str
    label: str
    meter: Number
    thumbnail: str = Field("", description="A picture as base64 text, where the item is one.")


class SearchOut(BaseModel):
    """Results, best first."""

    hits: list[HitOut]
    took_ms: dict[str, Number]
    note: str
    cutoff: int | None
