"""Final values of metrics side by side, with the best marked by the declared direction."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workbench.errors import BadInput
from workbench.results.result import Better, fits
from workbench.store.outcome import of_training

#: Choices for the value of a metric's summary to show.
STATISTICS = ("last", "best", "min", "max")

#: Metrics are ordered by the data they were measured on, given by the first part of their names.
STAGES = ("val", "test", "train")


class DeclaredMetric(Protocol):
    """An adapter's declaration of a metric, or of a family of them."""

    @property
    def name(self) -> str:
        """A name, or a glob pattern over names."""

    @property
    def better(self) -> Better | None:
        """The better direction; None if there is none."""

    @property
    def format(self) -> str:
        """Format specification of a value."""

    @property
    def description(self) -> str:
        """What the metric measures."""


@dataclass(frozen=True)
class FinalRow:
    """One metric across the runs.

    Attributes
    ----------
    name : str
        The metric.
    better : {"higher", "lower"} or None
        The declared direction.
    format : str
        Format specification of a value.
    description : str
        What the metric measures, if the adapter declares it.
    values : tuple of float or None
        One per run; None if the run never logged it, NaN if it logged NaN.
    best : tuple of bool
        Which runs have the best value; see :func:`best_marks`.
    base : int
        Index of the run that differences are relative to.
    """

    name: str
    better: Better | None
    format: str
    description: str
    values: tuple[float | None, ...]
    best: tuple[bool, ...]
    base: int

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as text."""
        return tuple("–" if value is None else number_text(value, self.format) for value in self.values)

    @property
    def deltas(self) -> tuple[str, ...]:
        """Signed difference to the base; empty for the base itself and if a value is missing."""
        base = self.values[self.base]
        return tuple(
            "" if place == self.base else delta_text(value, base, self.format)
            for place, value in enumerate(self.values)
        )


def number_text(value: float, spec: str = ".3f") -> str:
    """Format a number; if its format would show it as zero, use a short general format instead."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    try:
        text = format(value, spec)
    except (ValueError, TypeError):
        raise BadInput(f"{spec!r} is not a number format", hint="Declare one such as '.3f'.") from None
    hidden = value != 0 and not text.strip("-+0.%")
    return (format(value, ".2g") if hidden else text).replace("-", "−")


def cell_number(value: Any) -> float | None:
    """Return the number in a cell of a result's table; None for text, an empty cell, or NaN."""
    inner = value.get("value") if isinstance(value, Mapping) else value
    if isinstance(inner, bool) or not isinstance(inner, (int, float)) or math.isnan(inner):
        return None
    return float(inner)


def delta_text(value: float | None, base: float | None, spec: str) -> str:
    """Format a difference with its sign; empty if one of the two values is missing or not finite."""
    if value is None or base is None or not math.isfinite(value - base):
        return ""
    delta = value - base
    return ("+" if delta > 0 else "−" if delta < 0 else "±") + number_text(abs(delta), spec)


def declared(name: str, metrics: Sequence[DeclaredMetric]) -> DeclaredMetric | None:
    """Return the declaration of a metric: its own entry, else the first matching pattern, else None."""
    exact = (metric for metric in metrics if metric.name == name)
    fitting = (metric for metric in metrics if fits(name, metric.name))
    return next(exact, None) or next(fitting, None)


def best_marks(values: Sequence[float | None], better: Better | None) -> tuple[bool, ...]:
    """Mark the best of several values by a declared direction.

    All are False without a direction, with fewer than two numbers, and if all numbers are equal. NaN is never
    the best; infinity may be. All values equal to the best are marked.

    Raises
    ------
    BadInput
        The direction is unknown.
    """
    if better not in (None, "higher", "lower"):
        raise BadInput(f"a direction must be 'higher', 'lower' or None, got {better!r}")
    known = [value for value in values if value is not None and not math.isnan(value)]
    if better is None or len(known) < 2 or min(known) == max(known):
        return (False,) * len(values)
    top = max(known) if better == "higher" else min(known)
    return tuple(value == top for value in values)


def metric_order(name: str) -> tuple[Any, ...]:
    """Return the sort key of a metric: val/, test/, train/, then the rest; 2 before 10."""
    stage, slash, _ = name.partition("/")
    rank = STAGES.index(stage) if slash and stage in STAGES else len(STAGES)
    parts = re.split(r"(\d+)", name)
    return (rank, [int(part) if part.isdecimal() else part for part in parts])  # text and number in turn


def final_rows(
    summaries: Sequence[Mapping[str, Mapping[str, Any]]],
    metrics: Sequence[Sequence[DeclaredMetric]] = (),
    *,
    statistic: str = "last",
    base: int = 0,
    better: Mapping[str, Better | None] | None = None,
) -> list[FinalRow]:
    """Return one row per metric: val/, test/, train/, then the rest; in each, those with a direction first.

    Parameters
    ----------
    summaries : sequence of mapping
        One per run, as returned by ``run.summary``.
    metrics : sequence of sequence of DeclaredMetric
        One per run: the metrics that the run's adapter declares. A direction that the run itself declares
        (``better`` in its summary) takes precedence. Empty: the runs have no adapter.
    statistic : {"last", "best", "min", "max"}
        Which value of the summary to show.
    base : int
        Index of the run that differences are relative to.
    better : mapping of str to {"higher", "lower", None}, optional
        Directions by name or glob pattern, which override the declared ones; a name takes precedence over
        patterns, and earlier patterns over later ones.

    Raises
    ------
    BadInput
        The statistic or a direction is unknown.
    """
    if statistic not in STATISTICS:
        raise BadInput(f"unknown statistic {statistic!r}; allowed: {', '.join(STATISTICS)}")
    families = _by_family(metrics, len(summaries))
    rows = []
    # What the machines did is no result.
    names = of_training({name for summary in summaries for name in summary})
    for name in sorted(names, key=metric_order):
        entries = [summary.get(name) for summary in summaries]
        metric, ways = None, set()
        for family, places in families:
            if not (present := [entry for place in places if (entry := entries[place])]):
                continue
            declaration = declared(name, family)
            metric = metric or declaration
            way = declaration.better if declaration else None
            ways |= {entry.get("better") or way for entry in present}
        way = _wished(name, better or {}, _agreed(ways))
        values = _numbers(entries, statistic, way)
        form = metric.format if metric else ".3f" if way else _fitting_format(values)
        description = metric.description if metric else ""
        rows.append(FinalRow(name, way, form, description, values, best_marks(values, way), base))
    return sorted(rows, key=lambda row: (metric_order(row.name)[0], row.better is None))


def _wished(name: str, better: Mapping[str, Better | None], way: Better | None) -> Better | None:
    if name in better:
        return better[name]
    return next((wish for pattern, wish in better.items() if fits(name, pattern)), way)


def _by_family(
    metrics: Sequence[Sequence[DeclaredMetric]], count: int
) -> list[tuple[Sequence[DeclaredMetric], list[int]]]:
    """Return each set of declared metrics with the positions of its runs."""
    if not metrics:
        return [((), list(range(count)))]
    places: dict[int, tuple[Sequence[DeclaredMetric], list[int]]] = {}
    for place, family in enumerate(metrics):
        places.setdefault(id(family), (family, []))[1].append(place)
    return list(places.values())


def _agreed(ways: Collection[Any]) -> Better | None:
    """Return the direction that is declared for the runs; None if there is none, or if they disagree."""
    (way, *others) = {*ways} - {None} or {None}
    return way if not others and way in ("higher", "lower") else None


def _fitting_format(values: Sequence[float | None]) -> str:
    """Return one format for a row whose metric declares none, so that its numbers align."""
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value)]
    if all(size == int(size) for size in sizes):
        return ".0f"
    return ".3f" if max(sizes) < 1000 and max(sizes) >= 0.01 else ".3g"


def _numbers(
    entries: Sequence[Mapping[str, Any] | None], statistic: str, better: Better | None
) -> tuple[float | None, ...]:
    if statistic == "last":  # fast path: nearly always all are present, and floats
        plain = [entry and entry.get("last") for entry in entries]
        if set(map(type, plain)) == {float}:
            return tuple(plain)  # type: ignore[arg-type]
    return tuple(_number(entry, statistic, better) for entry in entries)


def _number(entry: Mapping[str, Any] | None, statistic: str, better: Better | None) -> float | None:
    if entry is None:
        return None
    if statistic == "best" and better is not None:
        # The current direction may differ from the one that the run was logged with.
        value = entry.get("max" if better == "higher" else "min", entry.get("best"))
    else:
        value = entry.get(statistic)
    if value is None:
        # The last value was logged but is not a number, which the database stores as null.
        return math.nan if statistic == "last" and entry.get("count") else None
    return float(value)
