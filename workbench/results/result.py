"""What a job returns: metrics, views, and scores of single questions."""

from __future__ import annotations

import base64
import math
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from workbench.values import plain


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
        "series": [{"name", "y": [...], "low"?: [...], "high"?: [...], "dashed"?: bool, "connect"?: bool}]}``;
        a null in ``y`` is a gap in the line, or is passed over where the series says ``connect``
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


def plain_result(result: Result) -> dict[str, Any]:
    """Return a result as JSON; a metric that is no number is left out with a word, elsewhere it is null."""
    data = result.model_dump()
    odd = sorted(name for name, value in result.metrics.items() if not math.isfinite(value))
    data["metrics"] = {name: value for name, value in result.metrics.items() if name not in odd}
    data["warnings"] = [*result.warnings, *(f"{name} is {result.metrics[name]}" for name in odd)]
    data["views"] = [_without_nan(plain_view) for plain_view in data["views"]]
    return {key: plain(value, f"result.{key}") for key, value in data.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
