"""Comparing runs: which settings differ, and which final value is best.

Pure functions over plain records. Nothing here reads a database, and nothing guesses: a metric whose
direction nobody declared is shown and never crowned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from workbench.errors import BadInput

Better = Literal["higher", "lower"]

#: Which number of a metric's summary stands in the table.
STATISTICS = ("last", "best", "min", "max")


class DeclaredMetric(Protocol):
    """What an adapter says of a metric, or of a family of them."""

    @property
    def name(self) -> str:
        """A name or a glob pattern over names."""

    @property
    def better(self) -> Better | None:
        """The direction; None where there is none."""

    @property
    def format(self) -> str:
        """Format specification of one value."""

    @property
    def description(self) -> str:
        """What the number says."""


class ComparedRun(Protocol):
    """What is read of a run; a :class:`RunRecord` or an open run will do."""

    @property
    def id(self) -> int:
        """The run's id."""

    @property
    def name(self) -> str:
        """The run's name."""

    @property
    def experiment(self) -> str:
        """The experiment it belongs to."""

    @property
    def status(self) -> str:
        """How far it is."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings, nested as they were given."""

    @property
    def summary(self) -> Mapping[str, Mapping[str, Any]]:
        """For each metric its ``last``, ``min``, ``max``, ``best`` and, where declared, ``better``."""


@dataclass(frozen=True)
class RunRecord:
    """A run as plain data."""

    id: int
    name: str
    experiment: str
    status: str
    config: Mapping[str, Any]
    summary: Mapping[str, Mapping[str, Any]]


class _Missing:
    """A setting that a run does not have; None is a value and is not this."""

    def __repr__(self) -> str:
        return "–"

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


@dataclass(frozen=True)
class ConfigRow:
    """One setting across the runs.

    Attributes
    ----------
    key : str
        The dotted path.
    values : tuple
        One a run, in their order; :data:`MISSING` where a run has no such setting.
    differs : bool
        Whether any two runs differ in it.
    odd : tuple of bool
        Whether a run's value is not the baseline's, the first run's.
    """

    key: str
    values: tuple[Any, ...]
    differs: bool
    odd: tuple[bool, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as people read them."""
        return tuple(setting_text(value) for value in self.values)


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
        One a run; None where the run never logged it.
    best : tuple of bool
        Which runs hold the best value. All False without a declared direction, with fewer than two
        values, and where every run has the same one; runs that share the best value share the mark.
    """

    name: str
    better: Better | None
    format: str
    description: str
    values: tuple[float | None, ...]
    best: tuple[bool, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as people read them."""
        return tuple("–" if value is None else number_text(value, self.format) for value in self.values)

    @property
    def deltas(self) -> tuple[str, ...]:
        """Difference to the first run, signed; empty for the first run and where a value is missing."""
        base = self.values[0] if self.values else None
        out = []
        for place, value in enumerate(self.values):
            if place == 0 or base is None or value is None or not math.isfinite(value - base):
                out.append("")
                continue
            delta = value - base
            sign = "+" if delta > 0 else "−" if delta < 0 else "±"
            out.append(sign + number_text(abs(delta), self.format))
        return tuple(out)


def number_text(value: float, spec: str = ".3f") -> str:
    """Write one number; a value that its format would show as zero, or as too long, is written shortly."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    try:
        text = format(value, spec)
    except (ValueError, TypeError):
        raise BadInput(f"{spec!r} is not a format for numbers", hint="Declare one such as '.3f'.") from None
    hidden = value != 0 and not text.strip("-+0.%")
    return (format(value, ".2g") if hidden else text).replace("-", "−")


def setting_text(value: Any) -> str:
    """Write one setting; texts bare, everything else as JSON."""
    if value is MISSING:
        return "–"
    if isinstance(value, str):
        return value if value else '""'
    return json.dumps(value, ensure_ascii=False, default=str)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping as one level of dotted paths.

    Lists stay whole. A key that holds a dot itself is written in quotes, so that no two paths collide.
    """

    def walk(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            part = json.dumps(str(key), ensure_ascii=False) if "." in str(key) else str(key)
            here = f"{path}.{part}" if path else part
            if isinstance(value, Mapping) and value:
                yield from walk(value, here)
            else:
                yield here, value

    return dict(walk(config, ""))


def _same(one: Any, other: Any) -> bool:
    """Say whether two settings are equal; True is not 1, and NaN equals itself."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return bool(one == other)


def config_rows(configs: Sequence[Mapping[str, Any]], *, only_differences: bool = False) -> list[ConfigRow]:
    """Return every setting of several configs, sorted by path.

    Parameters
    ----------
    configs : sequence of mapping
        The first is the baseline.
    only_differences : bool
        Leave out what is the same everywhere.
    """
    flat = [flatten(config) for config in configs]
    rows = []
    for key in sorted({key for config in flat for key in config}):
        values = tuple(config.get(key, MISSING) for config in flat)
        odd = tuple(not _same(values[0], value) for value in values)
        if any(odd) or not only_differences:
            rows.append(ConfigRow(key, values, any(odd), odd))
    return rows


def declared(name: str, metrics: Sequence[DeclaredMetric]) -> DeclaredMetric | None:
    """Return what is declared of a metric: its own entry, else the first pattern that fits, else None."""
    exact = (metric for metric in metrics if metric.name == name)
    fitting = (metric for metric in metrics if fnmatchcase(name, metric.name))
    return next(exact, None) or next(fitting, None)


def best_marks(values: Sequence[float | None], better: Better | None) -> tuple[bool, ...]:
    """Mark the best of several values by a declared direction; see :class:`FinalRow` for when none is."""
    if better not in (None, "higher", "lower"):
        raise BadInput(f"a direction is 'higher', 'lower' or None, not {better!r}")
    known = [value for value in values if value is not None and not math.isnan(value)]
    if better is None or len(known) < 2 or min(known) == max(known):
        return (False,) * len(values)
    top = max(known) if better == "higher" else min(known)
    return tuple(value == top for value in values)


def final_rows(
    summaries: Sequence[Mapping[str, Mapping[str, Any]]],
    metrics: Sequence[DeclaredMetric] = (),
    *,
    statistic: str = "last",
) -> list[FinalRow]:
    """Return one row a metric, those with a declared direction first, then by name.

    Parameters
    ----------
    summaries : sequence of mapping
        One a run, as ``run.summary`` returns it.
    metrics : sequence of DeclaredMetric
        Directions, formats and descriptions; without them a direction is the one the runs declared.
    statistic : {"last", "best", "min", "max"}
        Which number of the summary to show.

    Raises
    ------
    BadInput
        An unknown statistic.
    """
    if statistic not in STATISTICS:
        raise BadInput(f"no statistic {statistic!r}; allowed: {', '.join(STATISTICS)}")
    rows = []
    for name in sorted({name for summary in summaries for name in summary}):
        found = declared(name, metrics)
        values = tuple(_number(summary.get(name, {}).get(statistic)) for summary in summaries)
        better = found.better if found else _agreed([summary.get(name, {}) for summary in summaries])
        form = found.format if found else _fitting_format(values)
        description = found.description if found else ""
        rows.append(FinalRow(name, better, form, description, values, best_marks(values, better)))
    return sorted(rows, key=lambda row: (row.better is None, row.name))


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


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def compare(
    runs: Sequence[ComparedRun], metrics: Sequence[DeclaredMetric] = (), *, statistic: str = "last"
) -> Comparison:
    """Put runs beside each other; see :class:`Comparison`."""
    return Comparison(runs, metrics, statistic=statistic)


class Comparison:
    """Some runs beside each other; the first is the baseline.

    Parameters
    ----------
    runs : sequence of ComparedRun
        In the order of the columns.
    metrics : sequence of DeclaredMetric
        What the adapters declare: directions, formats, descriptions.
    statistic : {"last", "best", "min", "max"}
        Which number of a metric's summary counts.

    Raises
    ------
    BadInput
        No run, the same run twice, or an unknown statistic.
    """

    def __init__(
        self,
        runs: Sequence[ComparedRun],
        metrics: Sequence[DeclaredMetric] = (),
        *,
        statistic: str = "last",
    ) -> None:
        if not runs:
            raise BadInput("no run to compare", hint="Name at least one run; two or more make a comparison.")
        twice = sorted({run.id for run in runs if sum(run.id == other.id for other in runs) > 1})
        if twice:
            raise BadInput(
                f"run {', '.join(map(str, twice))} is named more than once", hint="Name each once."
            )
        self.runs = tuple(
            RunRecord(run.id, run.name, run.experiment, run.status, dict(run.config), dict(run.summary))
            for run in runs
        )
        self.statistic = statistic
        self.final = final_rows([run.summary for run in self.runs], metrics, statistic=statistic)
        self.config = config_rows([run.config for run in self.runs])

    def __repr__(self) -> str:
        names = ", ".join(f"{run.id} {run.name!r}" for run in self.runs)
        return f"<Comparison of {names}: {len(self.final)} metrics, {len(self.differences)} settings differ>"

    @property
    def differences(self) -> list[ConfigRow]:
        """The settings in which the runs differ."""
        return [row for row in self.config if row.differs]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``runs``, ``config`` and ``final``, the cells in the order of the runs."""
        return {
            "statistic": self.statistic,
            "runs": [
                {"id": run.id, "name": run.name, "experiment": run.experiment, "status": run.status}
                for run in self.runs
            ],
            "config": [
                {"key": row.key, "values": list(row.texts), "differs": row.differs, "odd": list(row.odd)}
                for row in self.config
            ],
            "final": [
                {
                    "name": row.name,
                    "better": row.better,
                    "description": row.description,
                    "values": [_finite(value) for value in row.values],
                    "texts": list(row.texts),
                    "deltas": list(row.deltas),
                    "best": list(row.best),
                }
                for row in self.final
            ],
        }


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can carry; NaN and the infinities stand in the texts beside."""
    return value if value is not None and math.isfinite(value) else None
