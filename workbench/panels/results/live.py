"""Curves of a run that grow in the notebook while it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput
from workbench.notebooks.cells import shell
from workbench.panels.results.html import result_html
from workbench.results.result import Result, View, fits
from workbench.text import short_number, shown

if TYPE_CHECKING:
    from workbench.runs.run import Run

#: Least seconds between two drawings, and most of the time that drawing may take, as a share.
SECONDS, SHARE = 2.0, 0.05

#: Most points that are drawn of a curve; of longer ones evenly spread points.
MOST_POINTS = 400


class LiveCurves:
    """Draws metrics of a run below the running cell, and again while the run logs.

    Call it with the run as often as you like, for example at each step: it draws every two seconds at most,
    and takes at most a twentieth of the time. When the run has ended it draws once more.

    Parameters
    ----------
    plots : mapping of str to str or sequence of str
        Title of each plot, and the metrics in it: names, or patterns such as ``"val/R@10@*"``.

    Examples
    --------
    >>> curves = LiveCurves({"Loss": "train/loss"})              # doctest: +SKIP
    >>> with ws.start_run("colours") as run:                     # doctest: +SKIP
    ...     for step in range(1000):
    ...         run.log({"train/loss": 1 / (step + 1)}, step=step)
    ...         curves(run)
    >>> curves(run)                                              # doctest: +SKIP
    """

    def __init__(self, plots: Mapping[str, str | Sequence[str]]) -> None:
        if not isinstance(plots, Mapping) or not plots:
            raise BadInput(
                f"plots must map titles to metrics, got {shown(plots)}",
                hint='Example: {"Loss": "train/loss"}.',
            )
        self._plots = {
            str(title): (names,) if isinstance(names, str) else tuple(names) for title, names in plots.items()
        }
        self._run_id: int | None = None
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._counts: dict[str, int] = {}
        self._due = 0.0
        self._handle: Any = None

    def __call__(self, run: Run) -> None:
        """Draw the run's curves if it is time to; nothing outside of a notebook."""
        if shell() is None:
            return
        ended = run.status != "running"
        if run.id != self._run_id:  # a run of its own has a drawing of its own
            self._run_id, self._points, self._counts, self._handle, self._due = run.id, {}, {}, None, 0.0
        began = time.monotonic()
        if began < self._due and not ended:
            return
        self._read(run)
        self._show(run)
        now = time.monotonic()
        self._due = now + max(SECONDS, (now - began) / SHARE)

    def views(self) -> list[View]:
        """Return the plots as they are now, those without a point left out."""
        out = []
        for title, patterns in self._plots.items():
            lines = {
                name: points
                for name, points in self._points.items()
                if points and any(fits(name, pattern) for pattern in patterns)
            }
            if lines:
                out.append(_curve(title, lines))
        return out

    def _read(self, run: Run) -> None:
        """Read what was logged since the last time."""
        wanted = [pattern for patterns in self._plots.values() for pattern in patterns]
        for name in run.refresh().summary:
            if any(fits(name, pattern) for pattern in wanted):
                new = run.metric_points(name, self._counts.get(name, 0) - 1)
                self._counts[name] = self._counts.get(name, 0) + len(new)
                self._points.setdefault(name, []).extend((step, value) for step, _, value in new)

    def _show(self, run: Run) -> None:
        from IPython.display import display

        drawn = _Drawn(run.name, self.views())
        if self._handle is None:
            self._handle = display(drawn, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(drawn)


def _curve(title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> View:
    thinned = {name: dict(_thinned(points)) for name, points in lines.items()}
    steps = sorted({step for points in thinned.values() for step in points})
    return View(
        kind="curve",
        title=title,
        data={
            "x_label": "step",
            "y_label": "",
            "x": steps,
            "x_scale": "linear",
            "series": [
                {"name": name, "y": [_finite(points.get(step)) for step in steps], "connect": True}
                for name, points in thinned.items()
            ],
        },
    )


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most :data:`MOST_POINTS` points, evenly spread, the last one among them."""
    every = -(-len(points) // MOST_POINTS)
    return list(points[:: every or 1]) + ([points[-1]] if every > 1 else [])


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


class _Drawn:
    """A drawing with its words for where no HTML is shown."""

    def __init__(self, name: str, views: Sequence[View]) -> None:
        self._name = name
        self._views = views

    def __repr__(self) -> str:
        lasts = []
        for view in self._views:
            for series in view.data["series"]:
                values = [value for value in series["y"] if value is not None]
                lasts += [f"{series['name']} {short_number(values[-1])}"] if values else []
        return f"{self._name}: {', '.join(lasts) or 'nothing logged yet'}"

    def _repr_html_(self) -> str:
        summary = "" if self._views else f"{self._name}: nothing logged yet"
        return result_html(Result(summary=summary, views=list(self._views)))
