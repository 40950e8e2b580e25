"""Final values of metrics beside each other, the best marked by the direction that was declared."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from workbench.errors import BadInput

Better = Literal["higher", "lower"]

#: Which number of a metric's summary stands in the table.
STATISTICS = ("last", "best", "min", "max")

#: Metrics stand in the order of what they were measured on, by the first part of their names.
STAGES = ("val", "test", "train")


class DeclaredMetric(Protocol):
    """What an adapter says of a metric, or of a family of them."""

    @property
    def name(self) -> str:
        """A name or a glob pattern over names."""

    @property
    def better(self) -> Better | None:
        """The direction; None if no direction is declared."""

    @property
    def format(self) -> str:
        """Format specification of one value."""

    @property
    def description(self) -> str:
        """What the number says."""


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
        Format specification of one value.
    description : str
        What the number says, where the adapter declared it.
    values : tuple of float or None
        One a run; None where the run never logged it, NaN where that is what it logged.
    best : tuple of bool
        Which runs hold the best value; see :func:`best_marks`.
    base : int
        Place of the run that differences are taken to.
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
        """The values as people read them."""
        return tuple("–" if value is None else number_text(value, self.format) for value in self.values)

    @property
    def deltas(self) -> tuple[str, ...]:
        """Difference to the base, signed; empty for the base itself and where a value is missing."""
        base = self.values[self.base] if self.values else None
        return tuple(
            "" if place == self.base else delta_text(value, base, self.format)
            for place, value in enumerate(self.values)
        )


def number_text(value: float, spec: str = ".3f") -> str:
    """Write one number; a value that its format would show as zero is written shortly."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    try:
        text = format(value, spec)
    except (ValueError, TypeError):
        raise BadInput(f"{spec!r} is not a format for numbers", hint="Declare one such as '.3f'.") from None
    hidden = value != 0 and not text.strip("-+0.%")
    return (format(value, ".2g") if hidden else text).replace("-", "−")


def cell_number(value: Any) -> float | None:
    """Return the number in a cell of a result's table; None for a text, an empty cell, or NaN."""
    inner = value.get("value") if isinstance(value, Mapping) else value
    if isinstance(inner, bool) or not isinstance(inner, (int, float)) or math.isnan(inner):
        return None
    return float(inner)


def delta_text(value: float | None, base: float | None, spec: str) -> str:
    """Write a difference with its sign; empty where one of the two is missing or not finite."""
    if value is None or base is None or not math.isfinite(value - base):
        return ""
    delta = value - base
    return ("+" if delta > 0 else "−" if delta < 0 else "±") + number_text(abs(delta), spec)


def declared(name: str, metrics: Sequence[DeclaredMetric]) -> DeclaredMetric | None:
    """Return what is declared of a metric: its own entry, else the first pattern that fits, else None."""
    exact = (metric for metric in metrics if metric.name == name)
    fitting = (metric for metric in metrics if fnmatchcase(name, metric.name))
    return next(exact, None) or next(fitting, None)


def best_marks(values: Sequence[float | None], better: Better | None) -> tuple[bool, ...]:
    """Mark the best of several values by a declared direction.

    All False without a direction, with fewer than two numbers, and where all are the same. NaN is never the
    best and infinity may be. Those that share the best value share the mark.

    Raises
    ------
    BadInput
        A direction that is none of the two.
    """
    if better not in (None, "higher", "lower"):
        raise BadInput(f"a direction is 'higher', 'lower' or None, not {better!r}")
    known = [value for value in values if value is not None and not math.isnan(value)]
    if better is None or len(known) < 2 or min(known) == max(known):
        return (False,) * len(values)
    top = max(known) if better == "higher" else min(known)
    return tuple(value == top for value in values)


def metric_order(name: str) -> tuple[Any, ...]:
    """Return where a metric stands among others: val/, test/, train/, then the rest; 2 before 10."""
    stage, slash, _ = name.partition("/")
    rank = STAGES.index(stage) if slash and stage in STAGES else len(STAGES)
    parts = re.split(r"(\d+)", name)
    return (rank, [int(part) if part.isdecimal() else part for part in parts])  # text and number in turn


def final_rows(
    summaries: Sequence[Mapping[str, Mapping[str, Any]]],
    metrics: Sequence[DeclaredMetric] = (),
    *,
    statistic: str = "last",
    base: int = 0,
    better: Mapping[str, Better | None] | None = None,
) -> list[FinalRow]:
    """Return one row a metric: val/, test/, train/, then the rest, in each those with a direction first.

    Parameters
    ----------
    summaries : sequence of mapping
        One a run, as ``run.summary`` returns it.
    metrics : sequence of DeclaredMetric
        Directions, formats and descriptions; without them a direction is the one the runs declared.
    statistic : {"last", "best", "min", "max"}
        Which number of the summary to show.
    base : int
        Place of the run that differences are taken to.
    better : mapping of str to {"higher", "lower", None}, optional
        Directions by name or glob pattern that hold instead of what was declared.

    Raises
    ------
    BadInput
        An unknown statistic or direction.
    """
    if statistic not in STATISTICS:
        raise BadInput(f"no statistic {statistic!r}; allowed: {', '.join(STATISTICS)}")
    rows = []
    for name in sorted({name for summary in summaries for name in summary}, key=metric_order):
        found = declared(name, metrics)
        entries = [summary.get(name) for summary in summaries]
        way = found.better if found else _agreed([entry for entry in entries if entry])
        way = _wished(name, better or {}, way)
        values = _numbers(entries, statistic, way)
        form = found.format if found else _fitting_format(values)
        description = found.description if found else ""
        rows.append(FinalRow(name, way, form, description, values, best_marks(values, way), base))
    return sorted(rows, key=lambda row: (metric_order(row.name)[0], row.better is None))


def _wished(name: str, better: Mapping[str, Better | None], way: Better | None) -> Better | None:
    if name in better:
        return better[name]
    return next((wish for pattern, wish in better.items() if fnmatchcase(name, pattern)), way)


def _agreed(summaries: Sequence[Mapping[str, Any]]) -> Better | None:
    """Return the direction that the runs declared; None where none did, or where they contradict."""
    ways = {summary.get("better") for summary in summaries} - {None}
    way = ways.pop() if len(ways) == 1 else None
    return way if way in ("higher", "lower") else None


def _fitting_format(values: Sequence[float | None]) -> str:
    """Return one format for a row whose metric declares none, so that its numbers stand in line."""
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value)]
    if all(size == int(size) for size in sizes):
        return ".0f"
    return ".3f" if max(sizes) < 1000 and max(sizes) >= 0.01 else ".3g"


def _numbers(
    entries: Sequence[Mapping[str, Any] | None], statistic: str, better: Better | None
) -> tuple[float | None, ...]:
    if statistic == "last":  # nearly always all there, and floats: nothing to think about
        plain = [entry and entry.get("last") for entry in entries]
        if set(map(type, plain)) == {float}:
            return tuple(plain)  # type: ignore[arg-type]
    return tuple(_number(entry, statistic, better) for entry in entries)


def _number(entry: Mapping[str, Any] | None, statistic: str, better: Better | None) -> float | None:
    if entry is None:
        return None
    if statistic == "best" and better is not None:
        # The direction in force may be another than the one that the run was logged with.
        value = entry.get("max" if better == "higher" else "min", entry.get("best"))
    else:
        value = entry.get(statistic)
    if value is None:
        # A last value that is not a number was logged all the same; a database has no other word for it.
        return math.nan if statistic == "last" and entry.get("count") else None
    return float(value)
