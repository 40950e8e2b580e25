"""Curves of a run that grow in the notebook while it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput
from workbench.notebooks.cells import shell
from workbench.results.result import fits
from workbench.text import short_number, shown

if TYPE_CHECKING:
    from workbench.runs.run import Run

#: Least seconds between two drawings, and most of the time that drawing may take, as a share.
SECONDS, SHARE = 2.0, 0.05

#: Maximum number of curves in a plot.
CURVES = 10

#: The points of each metric, (step, value) in the order logged, by plot.
Plots = dict[str, dict[str, list[tuple[int, float]]]]


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

    @property
    def plots(self) -> Plots:
        """The points by title and metric, as last read; plots without a point are left out."""
        out: Plots = {}
        for title, patterns in self._plots.items():
            for name, points in self._points.items():
                if points and any(fits(name, pattern) for pattern in patterns):
                    out.setdefault(title, {})[name] = points
        return out

    def __call__(self, run: Run) -> None:
        """Draw the run's curves if it is time to; nothing outside of a notebook."""
        if shell() is None:
            return
        ended = run.status != "running"
        if run.id != self._run_id:  # a run of its own has a drawing of its own
            self._run_id, self._points, self._counts, self._handle = run.id, {}, {}, None
            self._due = time.monotonic() + SECONDS
        began = time.monotonic()
        if began < self._due and not ended:
            return
        self._read(run)
        self._show(run)
        now = time.monotonic()
        self._due = now + max(SECONDS, (now - began) / SHARE)

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

        drawn = _Drawn(run.name, self.plots)
        if self._handle is None:
            self._handle = display(drawn, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(drawn)


class _Drawn:
    """A drawing, with its words for where no HTML is shown."""

    def __init__(self, name: str, plots: Plots) -> None:
        self._name = name
        self._plots = plots

    def __repr__(self) -> str:
        lasts = [
            f"{name} {short_number(points[-1][1])}"
            for lines in self._plots.values()
            for name, points in lines.items()
        ]
        return f"{self._name}: {', '.join(lasts) or 'nothing logged yet'}"

    def _repr_html_(self) -> str:
        from workbench.panels.results.html import result_style

        charts = "".join(_chart(title, lines) for title, lines in self._plots.items())
        if not charts:
            charts = f'<p class="wb-none">{escape(self._name)}: nothing logged yet</p>'
        return f'<div class="wb-result">{result_style()}<div class="wb-charts">{charts}</div></div>'


def _chart(title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Return one plot with the last value of each curve below it."""
    import numpy as np

    from workbench.compare.curves import Line
    from workbench.panels.compare.html import chart_svg, line_mark
    from workbench.panels.results.plots import svg_image

    shown_lines = dict(list(lines.items())[:CURVES])
    curves = []
    for points in shown_lines.values():
        x, y = np.array(points, dtype=np.float64).T
        curves.append(Line((0,), x, y))
    svg = chart_svg(title, curves, range(len(curves)))
    image = svg_image(svg, f"curves of {title}", 540) if svg else '<p class="wb-none">No finite value.</p>'
    keys = " ".join(
        f'<span style="white-space:nowrap;margin-right:14px">{line_mark(slot)}{escape(name)} '
        f"{escape(short_number(points[-1][1]))}</span>"
        for slot, (name, points) in enumerate(shown_lines.items())
    )
    more = f" and {len(lines) - CURVES} more" if len(lines) > CURVES else ""
    return (
        f'<section class="wb-view"><h3>{escape(title)}</h3>{image}'
        f'<p class="wb-note">{keys}{more}</p></section>'
    )
