"""Comparison of runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.compare import writing
from workbench.compare.finals import DeclaredMetric, final_rows
from workbench.compare.records import ComparedRun, RunSnapshot
from workbench.compare.settings import ConfigRow, config_rows
from workbench.errors import BadInput
from workbench.results.result import Better


class Comparison:
    """Several runs, side by side.

    Parameters
    ----------
    runs : sequence of ComparedRun
        The runs, in column order.
    metrics : mapping of int to sequence of DeclaredMetric, optional
        By run id, the metrics that the run's adapter declares, with directions, formats and descriptions.
    statistic : {"last", "best", "min", "max"}
        Which value of a metric's summary to use.
    baseline : int, optional
        Id of the run to compare the others to. Without one, differences of numbers are relative to the first
        run, and odd values are marked among the settings.
    better : mapping of str to {"higher", "lower", None}, optional
        Directions by metric name or glob pattern; they override the declared ones.

    Raises
    ------
    BadInput
        There is no run, a run is repeated, the baseline is not among the runs, or the statistic or a
        direction is unknown.
    """

    def __init__(
        self,
        runs: Sequence[ComparedRun],
        metrics: Mapping[int, Sequence[DeclaredMetric]] | None = None,
        *,
        statistic: str = "last",
        baseline: int | None = None,
        better: Mapping[str, Better | None] | None = None,
    ) -> None:
        if not runs:
            raise BadInput("no runs to compare", hint="Name at least one run.")
        ids = [run.id for run in runs]
        twice = sorted(one for one, count in Counter(ids).items() if count > 1)
        if twice:
            raise BadInput(
                f"runs must be unique; repeated: {', '.join(map(str, twice))}", hint="Name each run once."
            )
        if baseline is not None and baseline not in ids:
            raise BadInput(
                f"baseline {baseline!r} is not among the compared runs: {', '.join(map(str, ids))}",
                hint="Name one of them.",
            )
        self.runs = tuple(
            RunSnapshot(run.id, run.name, run.experiment, run.status, dict(run.config), dict(run.summary))
            for run in runs
        )
        self.statistic = statistic
        self.baseline = baseline
        place = None if baseline is None else ids.index(baseline)
        summaries = [run.summary for run in self.runs]
        declared = [(metrics or {}).get(run_id, ()) for run_id in ids]
        self.final = final_rows(summaries, declared, statistic=statistic, base=place or 0, better=better)
        self.config = config_rows([run.config for run in self.runs], baseline=place)

    def __repr__(self) -> str:
        names = ", ".join(f"{run.id} {run.name!r}" for run in self.runs)
        return f"<Comparison of {names}: {len(self.final)} metrics, {len(self.differences)} settings differ>"

    @property
    def differences(self) -> list[ConfigRow]:
        """The settings in which the runs differ."""
        return [row for row in self.config if row.differs]

    def to_csv(self) -> str:
        """Return CSV with one line per run: settings, and final numbers in full precision."""
        return writing.to_csv(self)

    def to_markdown(self) -> str:
        """Return the differing settings and the final numbers as Markdown tables, the best in bold."""
        return writing.to_markdown(self)

    def to_latex(self) -> str:
        """Return the same as LaTeX tables in booktabs style, the best in bold."""
        return writing.to_latex(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``runs``, ``config`` and ``final``, with the cells in run order."""
        return {
            "statistic": self.statistic,
            "baseline": self.baseline,
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
    """Return a finite number, or None, for JSON; ``texts`` contains NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None
