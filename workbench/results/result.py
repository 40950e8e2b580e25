"""The result of a job: metrics, views, and scores per question."""

from __future__ import annotations

import base64
import math
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from workbench.values import plain

#: The better direction of a metric.
Better = Literal["higher", "lower"]


def fits(name: str, pattern: str) -> bool:
    """Return whether a metric's name is a pattern, or matches it as a glob.

    Brackets may also stand for themselves, since metrics have names such as ``f1[macro]``.
    """
    if name == pattern or fnmatchcase(name, pattern):
        return True
    return "[" in pattern and fnmatchcase(name, pattern.replace("[", "[[]"))


@dataclass(frozen=True)
class Metric:
    """One metric an adapter reports, or a family of them.

    Attributes
    ----------
    name : str
        A name, or a glob pattern over names such as ``"val/R@*"``.
    better : {"higher", "lower"} or None
        The better direction; None means that no value is marked as best.
    format : str
        Format specification of a value, such as ``".3f"``.
    description : str
        What the metric measures, with its protocol.
    """

    name: str
    better: Better | None = None
    format: str = ".3f"
    description: str = ""


class View(BaseModel):
    """One part of a result, with a generic kind that determines how it is rendered.

    The shape of ``data`` for each kind:

    ``metrics_table``
        ``{"rows": [{"name", "value", "low"?, "high"?, "note"?}], "head"?: [name, value]}``; ``head`` names
        the columns, where the rows are no metrics
    ``retrieval_table``
        ``{"columns": [{"key", "label", "format"?, "better"?, "group"?}], "rows": [{key: value}]}``;
        a cell is a number, text or null, or ``{"value", "low", "high"}``.
    ``curve``
        ``{"x_label", "y_label", "x": [...], "x_scale": "linear" | "log2",
        "series": [{"name", "y": [...], "low"?: [...], "high"?: [...], "dashed"?: bool, "connect"?: bool}]}``;
        a null in ``y`` is a gap in the line, or is skipped if the series sets ``connect``
    ``image_grid``
        ``{"items": [{"caption", "subtitle"?, "image": base64, "note"?}]}``
    ``cells``
        ``{"labels": [left, right], "rows": [{"name", "left", "right", "note"?}]}``; ``left`` and ``right``
        are texts of equal length, one character per cell. Places where they differ are marked.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["metrics_table", "retrieval_table", "curve", "image_grid", "cells"]
    title: str
    data: dict[str, Any]
    notes: list[str] = []


#: Maximum number of scores of one :class:`Samples` metric; more are refused before they are unpacked.
MAX_SAMPLES = 5_000_000


class Samples(BaseModel):
    """Scores per question; some of a result's metrics are their means.

    Two results are compared question by question, paired by id. So an id must identify the question itself
    (``"ko:강아지"``), not its position in a list.

    Attributes
    ----------
    ids : list of str
        One id per question; ids must be unique.
    scores : dict of str to list of float or None
        For each metric, one score per question in the order of ``ids``; None (or NaN) if a question does not
        count for that metric. Arrays are accepted too. In JSON each list is text: base64 of zlib of
        little-endian float32, with NaN for None.
    groups : list of str or None
        The group of each question, such as the concept that is asked for in two languages. Questions of one
        group succeed or fail together, so that a comparison draws whole groups. None: each stands alone.
    """

    model_config = ConfigDict(extra="forbid")

    ids: list[str]
    scores: dict[str, list[float | None]]
    groups: list[str] | None = None

    @field_validator("ids", "groups", mode="before")
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
            raise ValueError(f"ids must be unique, but {twice!r} is repeated")
        if self.groups is not None and len(self.groups) != len(self.ids):
            raise ValueError(f"groups must be one per id, {len(self.ids):,}, got {len(self.groups):,}")
        for name, values in self.scores.items():
            if len(values) != len(self.ids):
                raise ValueError(
                    f"{name!r} must have {len(self.ids):,} scores, one per id, got {len(values):,}"
                )
            if any(value is not None and math.isinf(value) for value in values):
                raise ValueError(f"scores of {name!r} must not be infinite")
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
    """Return a list, array or packed text of scores as a plain list; pydantic refuses anything else."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str):
        try:
            opened = zlib.decompressobj()
            data = opened.decompress(base64.b64decode(values, validate=True), 4 * MAX_SAMPLES)
            numbers = array("f", data)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{name!r}: invalid packed scores ({error})") from None
        if opened.unconsumed_tail or not opened.eof:
            raise ValueError(f"{name!r}: packed scores are truncated, or more than {MAX_SAMPLES:,}")
        if sys.byteorder == "big":
            numbers.byteswap()
        values = numbers.tolist()
    if not isinstance(values, (list, tuple)):
        return values
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


class Result(BaseModel):
    """The result of a job: plain JSON, rendered only through its views.

    Attributes
    ----------
    summary : str
        One sentence for a list of jobs.
    metrics : dict of str to float
        Final values by name.
    headline : list of str
        Names of the metrics to show if space is limited; all of them if empty.
    views : list of View
        The views to show, in order.
    made : dict
        The job's outputs: ``{"run": 3}``, ``{"index": "photos"}``, ``{"checkpoint": ...}``.
    warnings : list of str
        Warnings for the reader, such as skipped files with their reasons.
    samples : list of Samples
        Scores per question, one entry per set of questions. They are not drawn; comparing two results uses
        them to test whether a difference is more than chance.
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
            raise ValueError(f"samples: the metric {twice!r} must be in one entry only")
        return self


def plain_result(result: Result) -> dict[str, Any]:
    """Return a result as JSON; metrics that are not finite become warnings, other such values become null."""
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
