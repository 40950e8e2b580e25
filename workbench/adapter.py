"""What a model family offers the workbench, and how it is found.

The whole contract is :class:`BaseAdapter`. An adapter says which options each task takes (a pydantic
model), runs jobs, and searches what an ``index_build`` job made. The workbench turns the options into a
form, an HTTP schema and a command-line check, and knows nothing else about the family.

Adapters are declared by the entry-point group ``workbench.adapters``; the entry point names an instance.
"""

from __future__ import annotations

import base64
import math
import sys
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast, overload

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from workbench.errors import BadInput, BadOptions, NotSupported, TooLarge, UnknownAdapter

if TYPE_CHECKING:
    from workbench.tracking import Run

ENTRY_POINT_GROUP = "workbench.adapters"

#: Job types every workbench knows, and the adapter method that runs each.
JOB_METHODS: Mapping[str, str] = {"train": "train", "eval": "evaluate", "index_build": "build_index"}

#: A query longer than this many characters is refused rather than silently cut.
MAX_QUERY_CHARACTERS = 2_000

#: An uploaded picture larger than this many bytes is refused before it is opened.
MAX_IMAGE_BYTES = 20 * 2**20


@dataclass(frozen=True)
class Metric:
    """One metric an adapter reports, or a family of them.

    Attributes
    ----------
    name : str
        A name, or a glob pattern over names such as ``"val/R@*"``.
    better : {"higher", "lower"} or None
        Direction; None means no value is ever marked as best.
    format : str
        Format specification for one value, such as ``".3f"``.
    description : str
        What the number says, with its protocol.
    """

    name: str
    better: Literal["higher", "lower"] | None = None
    format: str = ".3f"
    description: str = ""


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes
    ----------
    id : str
        Item id, unique within the index.
    score : float
        Higher is better; its range is the adapter's.
    distance : float or None
        Lower is better, where the method has one.
    caption, subtitle : str
        First and second line of text under a picture (two languages, say).
    thumbnail : bytes or None
        An encoded picture (PNG, JPEG or WebP); None for an item that is text.
    label : str
        The score as people read it, such as ``"3/64"``.
    meter : float
        How full the little bar beside the label is, 0 to 1.
    """

    id: str
    score: float
    distance: float | None = None
    caption: str = ""
    subtitle: str = ""
    thumbnail: bytes | None = field(default=None, repr=False)
    label: str = ""
    meter: float = 0.0

    def to_json(self, *, thumbnails: bool = True) -> dict[str, Any]:
        """Return the hit as plain JSON; the thumbnail, if wanted, as base64 text."""
        out: dict[str, Any] = {
            "id": self.id,
            "score": self.score,
            "distance": self.distance,
            "caption": self.caption,
            "subtitle": self.subtitle,
            "label": self.label,
            "meter": self.meter,
        }
        if thumbnails and self.thumbnail is not None:
            out["thumbnail"] = base64.b64encode(self.thumbnail).decode("ascii")
        return out


class SearchResult(Sequence[Hit]):
    """Hits, best first, with the time each part took.

    Parameters
    ----------
    hits : sequence of Hit
        Best first.
    took_ms : mapping of str to float
        Milliseconds a part, such as ``{"encode": 3.2, "search": 0.4}``.
    note : str
        A sentence for the reader, such as "the index holds 12 items, so 12 are shown".
    cutoff : int or None
        Number of leading hits that are nearer than unrelated items usually are; None where unknown.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        took_ms: Mapping[str, float] | None = None,
        *,
        note: str = "",
        cutoff: int | None = None,
    ) -> None:
        self.hits = tuple(hits)
        self.took_ms = dict(took_ms or {})
        self.note = note
        self.cutoff = cutoff

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        lines = [f"{hit.label or format(hit.score, '.3f'):>10}  {hit.caption}" for hit in self.hits[:20]]
        more = [f"           … {len(self) - 20} more"] if len(self) > 20 else []
        return "\n".join([f"{len(self)} hits", *lines, *more])

    def to_json(self, *, thumbnails: bool = True) -> dict[str, Any]:
        """Return ``{"hits": [...], "took_ms": {...}, "note", "cutoff"}``."""
        return {
            "hits": [hit.to_json(thumbnails=thumbnails) for hit in self.hits],
            "took_ms": self.took_ms,
            "note": self.note,
            "cutoff": self.cutoff,
        }


@dataclass(frozen=True)
class SampleQuery:
    """A query worth trying: its text and its language tag (``"en"``, ``"ko"``)."""

    text: str
    language: str = ""


class View(BaseModel):
    """One part of a result, with the generic kind that says how to render it.

    The shape of ``data`` by kind:

    ``metrics_table``
        ``{"rows": [{"name", "value", "low"?, "high"?, "note"?}]}``
    ``retrieval_table``
        ``{"columns": [{"key", "label", "format"?, "better"?, "group"?}], "rows": [{key: value}]}``;
        a cell is a number, a text or null, or ``{"value", "low", "high"}``.
    ``curve``
        ``{"x_label", "y_label", "x": [...], "x_scale": "linear" | "log2",
        "series": [{"name", "y": [...], "low"?: [...], "high"?: [...], "dashed"?: bool}]}``
    ``image_grid``
        ``{"items": [{"caption", "subtitle"?, "image": base64, "note"?}]}``
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["metrics_table", "retrieval_table", "curve", "image_grid"]
    title: str
    data: dict[str, Any]
    notes: list[str] = []


#: Scores of one :class:`Samples` metric are refused beyond this many, before they are unpacked.
MAX_SAMPLES = 5_000_000


class Samples(BaseModel):
    """What single questions scored: the values that some of a result's metrics are the means of.

    Two results are compared question by question where their ids are the same, so an id must say which
    question it is wherever it is asked (``"ko:강아지"``), and not where it stood.

    Attributes
    ----------
    ids : list of str
        One a question, each once.
    scores : dict of str to list of float or None
        For each metric one score a question, in the order of ``ids``; None (or NaN) where a question does
        not count for that metric. Arrays are taken too. In JSON each list is a text: base64 of zlib of
        little-endian float32, NaN for None.
    """

    model_config = ConfigDict(extra="forbid")

    ids: list[str]
    scores: dict[str, list[float | None]]

    @field_validator("ids", mode="before")
    @classmethod
    def _plain_ids(cls, ids: Any) -> Any:
        return ids.tolist() if hasattr(ids, "tolist") else ids

    @field_validator("scores", mode="before")
    @classmethod
    def _plain_scores(cls, scores: Any) -> Any:
        if not isinstance(scores, Mapping):
            return scores
        return {name: _unpacked(name, values) for name, values in scores.items()}

    @model_validator(mode="after")
    def _whole(self) -> Samples:
        if len(set(self.ids)) != len(self.ids):
            twice = next(one for one, count in Counter(self.ids).items() if count > 1)
            raise ValueError(f"the id {twice!r} stands more than once")
        for name, values in self.scores.items():
            if len(values) != len(self.ids):
                raise ValueError(f"{name!r} has {len(values):,} scores for {len(self.ids):,} ids")
            if any(value is not None and math.isinf(value) for value in values):
                raise ValueError(f"{name!r} has an infinite score")
        return self

    @field_serializer("scores")
    def _packed_scores(self, scores: dict[str, list[float | None]]) -> dict[str, str]:
        return {name: _packed(values) for name, values in scores.items()}


def _packed(values: Sequence[float | None]) -> str:
    numbers = array("f", [math.nan if value is None else value for value in values])
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(zlib.compress(numbers.tobytes(), 6)).decode("ascii")


def _unpacked(name: str, values: Any) -> Any:
    """Return scores as a plain list; what is no list, array or packed text is left for pydantic to refuse."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str):
        try:
            opened = zlib.decompressobj()
            data = opened.decompress(base64.b64decode(values, validate=True), 4 * MAX_SAMPLES)
            numbers = array("f", data)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{name!r}: no packed scores ({error})") from None
        if opened.unconsumed_tail or not opened.eof:
            raise ValueError(f"{name!r}: more than {MAX_SAMPLES:,} packed scores, or not all of them")
        if sys.byteorder == "big":
            numbers.byteswap()
        values = numbers.tolist()
    if not isinstance(values, (list, tuple)):
        return values
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


class Result(BaseModel):
    """What a job returns: plain JSON, rendered by its views and by nothing else.

    Attributes
    ----------
    summary : str
        One sentence for a list of jobs.
    metrics : dict of str to float
        Final numbers by name.
    headline : list of str
        Names of the few metrics to show where there is room for few; all of them if empty.
    views : list of View
        How the result is shown, in order.
    made : dict
        What the job left behind: ``{"run": 3}``, ``{"index": "photos"}``, ``{"checkpoint": ...}``.
    warnings : list of str
        What the reader should know: skipped files with their reasons, say.
    samples : list of Samples
        Scores of single questions, one entry a set of questions. Nothing draws them: comparing two results
        reads them, to say whether a difference is more than chance.
    """

    model_config = ConfigDict(extra="forbid")

    summary: str = ""
    metrics: dict[str, float] = {}
    headline: list[str] = []
    views: list[View] = []
    made: dict[str, Any] = {}
    warnings: list[str] = []
    samples: list[Samples] = Field(default=[], repr=False)

    @model_validator(mode="after")
    def _one_home_a_metric(self) -> Result:
        names = [name for samples in self.samples for name in samples.scores]
        if len(set(names)) != len(names):
            twice = next(one for one, count in Counter(names).items() if count > 1)
            raise ValueError(f"samples: the metric {twice!r} stands in more than one entry")
        return self


class WorkspaceView(Protocol):
    """The part of a workspace that an adapter's job may use."""

    @property
    def path(self) -> Path:
        """The workspace folder."""

    @property
    def cache(self) -> Path:
        """A folder for what can be made again."""

    @property
    def indexes(self) -> Path:
        """The folder that holds one folder an index."""

    def run(self, run_id: int) -> Run:
        """Return a run by id."""

    def runs(self, experiment: str | None = None) -> Sequence[Run]:
        """Return runs, newest first."""


class JobContext(Protocol):
    """What a job gives the adapter's method that runs it."""

    @property
    def id(self) -> int:
        """The job's id."""

    @property
    def workspace(self) -> WorkspaceView:
        """The workspace the job belongs to."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the work is; cheap enough for an inner loop. Raises when the job is cancelled."""

    def start_run(
        self, experiment: str, *, name: str | None = None, config: Mapping[str, Any] | None = None
    ) -> Run:
        """Start a run that belongs to this job."""


class Options(BaseModel):
    """Base for options: unknown names are refused, defaults are checked."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class BaseAdapter:
    """One family of models. Subclass it, set the names, write the methods the family offers."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    metrics: ClassVar[Sequence[Metric]] = ()

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of a task's options: a job type or ``"search"``."""
        raise NotSupported(self.name, f"options for {task!r}")

    def train(self, options: Any, job: JobContext) -> Result:
        """Train a model."""
        raise NotSupported(self.name, "train")

    def evaluate(self, options: Any, job: JobContext) -> Result:
        """Evaluate a model."""
        raise NotSupported(self.name, "evaluate")

    def build_index(self, options: Any, job: JobContext) -> Result:
        """Build an index folder in the workspace."""
        raise NotSupported(self.name, "build_index")

    def load_model(self, path: Path) -> Any:
        """Open a checkpoint."""
        raise NotSupported(self.name, "load_model")

    def load_index(self, path: Path) -> Any:
        """Open an index folder for searching; the value is handed back to the search methods."""
        raise NotSupported(self.name, "load_index")

    def describe_index(self, index: Any) -> dict[str, Any]:
        """Return what a search page says of an index: ``{"title", "subtitle", "count", "credits": […]}``."""
        return {}

    def search_by_text(self, index: Any, query: str, k: int, options: Any) -> SearchResult:
        """Search with a text."""
        raise NotSupported(self.name, "search_by_text")

    def search_by_image(self, index: Any, data: bytes, k: int, options: Any) -> SearchResult:
        """Search with an encoded picture."""
        raise NotSupported(self.name, "search_by_image")

    def search_by_item(self, index: Any, item_id: str, k: int, options: Any) -> SearchResult:
        """Search with an item of the index itself: more like this."""
        raise NotSupported(self.name, "search_by_item")

    def sample_queries(self, index: Any) -> Sequence[SampleQuery]:
        """Return queries worth trying on an index."""
        return ()

    def demo(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the options that ``workbench demo`` submits, by job type, in the order of submission."""
        raise NotSupported(self.name, "demo")

    def offers(self, method: str) -> bool:
        """Say whether this adapter overrides a method of the contract."""
        return getattr(type(self), method) is not getattr(BaseAdapter, method)

    def job_types(self) -> list[str]:
        """Return the job types this adapter offers."""
        return [kind for kind, method in JOB_METHODS.items() if self.offers(method)]


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def adapters() -> list[str]:
    """Return the names of the installed adapters, sorted; none of them is imported."""
    return sorted(_entry_points())


def get_adapter(name: str | None = None) -> BaseAdapter:
    """Return an adapter by name, or the only one installed.

    Raises
    ------
    UnknownAdapter
        No adapter of that name; the message lists the known ones.
    BadInput
        No name was given and there is more than one to choose from.
    """
    found = _entry_points()
    if not name:
        if len(found) > 1:
            raise BadInput(f"which adapter? Installed: {', '.join(sorted(found))}", hint="Give its name.")
        if not found:
            raise UnknownAdapter(name or "", ())
        name = next(iter(found))
    if name not in found:
        raise UnknownAdapter(name, sorted(found))
    return cast(BaseAdapter, found[name].load())


def check_options(adapter: BaseAdapter, task: str, options: Mapping[str, Any] | BaseModel | None) -> Any:
    """Check options against an adapter's schema and return the filled-in model.

    Raises
    ------
    BadOptions
        Every problem at once, each with its field.
    NotSupported
        The adapter has no such task.
    """
    schema = adapter.options(task)
    if isinstance(options, schema):
        return options
    raw = options.model_dump() if isinstance(options, BaseModel) else dict(options or {})
    return fit(schema, raw, f"{adapter.name} {task}")


def fit(schema: type[BaseModel], raw: Mapping[str, Any], what: str) -> Any:
    """Return values as a schema takes them.

    Raises
    ------
    BadOptions
        Every problem at once, each with its field; the message begins with ``what``.
    """
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        allowed = ", ".join(field.alias or name for name, field in schema.model_fields.items())
        problems = []
        for problem in error.errors(include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            said = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                said = f"unknown option; allowed: {allowed}"
            problems.append((where, f"{said} (given: {problem['input']!r})"))
        text = "; ".join(f"{where}: {said}" if where else said for where, said in problems)
        raise BadOptions(f"{what}: {text}", problems) from None


class Searcher:
    """An opened index that answers queries, whatever the model family.

    Parameters
    ----------
    adapter : BaseAdapter
        The family.
    index : object
        What the adapter's ``load_index`` returned.
    name : str
        Name of the index.
    """

    def __init__(self, adapter: BaseAdapter, index: Any, name: str) -> None:
        self.adapter = adapter
        self.index = index
        self.name = name

    def __repr__(self) -> str:
        return f"<Searcher {self.name!r} ({self.adapter.name})>"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the search options."""
        return self.adapter.options("search").model_json_schema()

    def describe(self) -> dict[str, Any]:
        """Return title, subtitle, count and credits of the index."""
        return {"title": self.name, "subtitle": "", "credits": [], **self.adapter.describe_index(self.index)}

    def sample_queries(self) -> list[SampleQuery]:
        """Return queries worth trying."""
        return list(self.adapter.sample_queries(self.index))

    def by_text(self, query: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with a text.

        Raises
        ------
        BadInput
            An empty or over-long query, or ``k`` below 1.
        BadOptions
            Options that are not the adapter's.
        """
        if not isinstance(query, str) or not query.strip():
            raise BadInput("the query is empty", hint="Type a word or two.")
        if len(query) > MAX_QUERY_CHARACTERS:
            limit = f"{MAX_QUERY_CHARACTERS:,}"
            raise BadInput(f"the query has {len(query):,} characters; at most {limit} are taken")
        return self._ask(self.adapter.search_by_text, query.strip(), k, options)

    def by_image(self, data: bytes, k: int = 20, **options: Any) -> SearchResult:
        """Search with an encoded picture (PNG, JPEG, WebP).

        Raises
        ------
        BadInput
            No bytes, or bytes that are not a picture.
        TooLarge
            More than :data:`MAX_IMAGE_BYTES`.
        """
        if not data:
            raise BadInput("the picture is empty (0 bytes)")
        if len(data) > MAX_IMAGE_BYTES:
            size, limit = f"{len(data) / 2**20:.1f}", MAX_IMAGE_BYTES // 2**20
            raise TooLarge(
                f"the picture has {size} MiB; at most {limit} MiB are taken",
                hint="Make it smaller and try again.",
            )
        return self._ask(self.adapter.search_by_image, bytes(data), k, options)

    def by_item(self, item_id: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with an item of the index itself."""
        return self._ask(self.adapter.search_by_item, item_id, k, options)

    def _ask(self, method: Callable[..., SearchResult], query: Any, k: int, options: Any) -> SearchResult:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise BadInput(f"k must be a whole number of at least 1, not {k!r}")
        checked = check_options(self.adapter, "search", options)
        start = time.perf_counter()
        result = method(self.index, query, k, checked)
        result.took_ms.setdefault("total", (time.perf_counter() - start) * 1e3)
        return result
