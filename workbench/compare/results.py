"""Results of several jobs side by side: their metrics, their views, and which differences are significant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.compare.bootstrap import Interval, paired_intervals
from workbench.compare.finals import (
    DeclaredMetric,
    FinalRow,
    delta_text,
    final_rows,
)
from workbench.compare.settings import config_rows
from workbench.errors import BadInput
from workbench.results.result import Better, Metric, Result, View

#: Confidence level of the intervals.
LEVEL = 0.95


@dataclass(frozen=True)
class NamedResult:
    """A result and its job.

    Attributes
    ----------
    id : int
        Id of the job.
    name : str
        Display name.
    result : Result
        The result of the job.
    options : mapping
        Options of the job, to show in which the jobs differ.
    """

    id: int
    name: str
    result: Result
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultRow:
    """One metric across results.

    Attributes
    ----------
    final : FinalRow
        Values, best marks, and differences to the baseline.
    intervals : tuple of Interval or None
        One per result, for its difference to the baseline; None for the baseline itself, and if the two have
        no scores for the same questions.
    """

    final: FinalRow
    intervals: tuple[Interval | None, ...]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdict of each interval: ``"real"`` or ``"within noise"``; empty if there is no interval."""
        return tuple("" if one is None else "real" if one.real else "within noise" for one in self.intervals)

    @property
    def interval_texts(self) -> tuple[str, ...]:
        """Each interval as text; empty if there is none."""
        out = []
        for one in self.intervals:
            bounds = () if one is None else (one.low, one.high)
            out.append(" to ".join(delta_text(bound, 0.0, self.final.format) for bound in bounds))
        return tuple(out)


@dataclass(frozen=True)
class ViewGroup:
    """Views of one kind and title, one per result; None if a result has no such view."""

    kind: str
    title: str
    views: tuple[View | None, ...]


class ResultsComparison:
    """Results of jobs, side by side.

    A difference is called real if the interval of the paired bootstrap excludes zero; questions are drawn in
    the groups that belong together (:func:`workbench.compare.bootstrap.paired_intervals`). This tells whether
    other questions of the same kind would show the difference too; it does not account for variation between
    training seeds.

    Parameters
    ----------
    results : sequence of NamedResult
        The results, in column order.
    metrics : mapping of int to sequence of DeclaredMetric, optional
        By job id, the metrics that the job's adapter declares, with directions, formats and descriptions.
    baseline : int, optional
        Id of the job to compare the others to; default: the first.
    better : mapping of str to {"higher", "lower", None}, optional
        Directions by metric name or glob pattern; they override the declared ones.
    seed : int
        Random seed of the bootstrap.

    Raises
    ------
    BadInput
        There is no result, a job is repeated, or the baseline is not among the jobs.
    """

    def __init__(
        self,
        results: Sequence[NamedResult],
        metrics: Mapping[int, Sequence[DeclaredMetric]] | None = None,
        *,
        baseline: int | None = None,
        better: Mapping[str, Better | None] | None = None,
        seed: int = 0,
    ) -> None:
        ids = [one.id for one in results]
        if not ids:
            raise BadInput("no results to compare", hint="Name at least one job.")
        if len(set(ids)) != len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise BadInput(f"jobs must be unique; repeated: {twice}", hint="Name each job once.")
        if baseline is not None and baseline not in ids:
            raise BadInput(
                f"baseline {baseline!r} is not among the compared jobs: {', '.join(map(str, ids))}",
                hint="Name one of them.",
            )
        self.results = tuple(results)
        self.base = 0 if baseline is None else ids.index(baseline)
        declared = [[*(metrics or {}).get(one.id, ()), *_column_directions(one.result)] for one in results]
        summaries = [
            {name: {"last": value} for name, value in _numbers(one.result).items()} for one in results
        ]
        finals = final_rows(summaries, declared, base=self.base, better=better)
        self.rows = _with_intervals(finals, results, self.base, seed)
        place = None if baseline is None else self.base
        self.config = config_rows([one.options for one in results], only_differences=True, baseline=place)
        self.views = _paired_views(results)

    def __repr__(self) -> str:
        names = ", ".join(f"{one.id} {one.name!r}" for one in self.results)
        real = sum(verdict == "real" for row in self.rows for verdict in row.verdicts)
        return f"<ResultsComparison of {names}: {len(self.rows)} metrics, {real} real differences>"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``results``, ``baseline`` and ``metrics``, with the cells in result order."""
        return {
            "results": [
                {"id": one.id, "name": one.name, "summary": one.result.summary} for one in self.results
            ],
            "baseline": self.results[self.base].id,
            "level": LEVEL,
            "options": [
                {"key": row.key, "values": list(row.texts), "odd": list(row.odd)} for row in self.config
            ],
            "metrics": [_plain_row(row) for row in self.rows],
        }


def _plain_row(row: ResultRow) -> dict[str, Any]:
    final = row.final
    return {
        "name": final.name,
        "better": final.better,
        "values": [value if value is not None and math.isfinite(value) else None for value in final.values],
        "texts": list(final.texts),
        "deltas": list(final.deltas),
        "best": list(final.best),
        "intervals": [
            None if one is None else {"low": one.low, "high": one.high, "pairs": one.pairs, "real": one.real}
            for one in row.intervals
        ],
    }


def _numbers(result: Result) -> dict[str, float]:
    """Return a result's metrics, and the means of scores that are not among its metrics."""
    out = {}
    for samples in result.samples:
        for name, scores in samples.scores.items():
            known = [score for score in scores if score is not None]
            if known:
                out[name] = math.fsum(known) / len(known)
    return {**out, **result.metrics}


def _column_directions(result: Result) -> list[Metric]:
    """Return directions from a result's table columns that have the name of one of its metrics."""
    return [
        Metric(str(column["key"]), column["better"], column.get("format") or ".3f")
        for view in result.views
        if view.kind == "retrieval_table"
        for column in view.data.get("columns", ())
        if column.get("better") in ("higher", "lower") and column.get("key") in result.metrics
    ]


def _with_intervals(
    finals: Sequence[FinalRow], results: Sequence[NamedResult], base: int, seed: int
) -> list[ResultRow]:
    scores = [_scores(one.result) for one in results]
    group_of = [_groups(one.result) for one in results]
    cells: list[tuple[int, int]] = []
    differences, groups = [], []
    for row_number, row in enumerate(finals):
        for place in range(len(results)):
            if place == base or row.name not in scores[base] or row.name not in scores[place]:
                continue
            shared = sorted(scores[base][row.name].keys() & scores[place][row.name].keys())
            differences.append(_paired(scores[base][row.name], scores[place][row.name], shared))
            groups.append([group_of[base].get(one) or group_of[place].get(one, one) for one in shared])
            cells.append((row_number, place))
    drawn = paired_intervals(differences, groups, level=LEVEL, seed=seed)
    intervals = dict(zip(cells, drawn, strict=True))
    return [
        ResultRow(row, tuple(intervals.get((number, place)) for place in range(len(results))))
        for number, row in enumerate(finals)
    ]


def _scores(result: Result) -> dict[str, dict[str, float]]:
    """Return the scores for each metric by question id, without questions that do not count for it."""
    return {
        name: {one: score for one, score in zip(samples.ids, values, strict=True) if score is not None}
        for samples in result.samples
        for name, values in samples.scores.items()
    }


def _groups(result: Result) -> dict[str, str]:
    """Return the group of each question by its id; questions that stand alone are left out."""
    return {
        one: group
        for samples in result.samples
        if samples.groups is not None
        for one, group in zip(samples.ids, samples.groups, strict=True)
    }


def _paired(
    base: Mapping[str, float], other: Mapping[str, float], shared: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return score minus baseline score for the questions that both have."""
    return np.array([other[one] - base[one] for one in shared], dtype=np.float64)


def _paired_views(results: Sequence[NamedResult]) -> list[ViewGroup]:
    """Return views grouped by kind and title, in order of first appearance."""
    keys: dict[tuple[str, str, int], None] = {}
    found: dict[tuple[tuple[str, str, int], int], View] = {}
    for place, one in enumerate(results):
        seen: dict[tuple[str, str], int] = {}
        for view in one.result.views:
            again = seen.get((view.kind, view.title), 0)
            seen[view.kind, view.title] = again + 1
            key = (view.kind, view.title, again)
            keys[key] = None
            found[key, place] = view
    return [
        ViewGroup(key[0], key[1], tuple(found.get((key, place)) for place in range(len(results))))
        for key in keys
    ]
