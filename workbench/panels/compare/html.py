"""A comparison as plain HTML: tables and curves without scripts, for saved notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from workbench.compare import Comparison, setting_text
from workbench.compare.curves import Floats, Line, thinned
from workbench.compare.records import run_label
from workbench.panels.base.assets import TROPHY
from workbench.panels.base.colours import SERIES_COLOURS
from workbench.panels.results.html import result_style, table_html
from workbench.panels.results.plots import svg_image
from workbench.values import as_moment

#: Maximum number of runs in the tables, and of runs shown as columns; more become rows.
STATIC_RUNS, COLUMNS = 20, 6


#: Buckets per curve, as fine as a chart of this size can show, and maximum number of charts.
_BUCKETS, _STATIC_CHARTS = 60, 4


_DASHES = ("", "6 3", "2 3")


_ARROWS = {"higher": " ↑ best", "lower": " ↓ best"}


_WIDTH, _HEIGHT = 540, 220


_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 10, 26


#: Shown in place of final values: where there are none, and where they are damaged.
NO_METRICS = "These runs have not logged any metrics yet."
UNREAD_METRICS = "The metrics of these runs cannot be read."


def page_html(
    comparison: Comparison | None,
    lines: Sequence[tuple[str, Line]],
    slots: Sequence[int],
    nothing: str,
    *,
    axis: str = "step",
    log: bool = False,
    no_metrics: str = NO_METRICS,
) -> str:
    """Return the panel's content as HTML without scripts or links.

    Parameters
    ----------
    comparison : Comparison or None
        None if there is nothing to compare; ``nothing`` is shown instead.
    lines : sequence of (metric, Line)
        The curves.
    slots : sequence of int
        One colour per run.
    nothing : str
        The text shown if there is no comparison.
    axis : str
        The x axis of the curves.
    log : bool
        Whether the y axis is logarithmic.
    no_metrics : str
        The text shown in place of final values, if there are none.
    """
    if comparison is None:
        return f'<div class="wb-result"><p class="wb-none">{escape(nothing)}</p></div>'
    shown = len(comparison.runs[:STATIC_RUNS])
    more = len(comparison.runs) - shown
    note = f'<p class="wb-note">The first {shown} of {len(comparison.runs)} runs.</p>' if more else ""
    charts = _charts([(m, line) for m, line in lines], comparison, slots, axis, log)
    body = _settings(comparison, slots, shown) + charts + _finals(comparison, slots, shown, no_metrics) + note
    return f'<div class="wb-result">{result_style()}{body}</div>'


def line_mark(slot: int) -> str:
    """Return a piece of the line in a slot, for beside its name."""
    dash = (
        f' stroke-dasharray="{_DASHES[slot // len(SERIES_COLOURS) % 3]}"'
        if slot >= len(SERIES_COLOURS)
        else ""
    )
    colour = SERIES_COLOURS[slot % len(SERIES_COLOURS)]
    return (
        '<svg class="wb-line-mark" width="16" height="8" viewBox="0 0 16 8" aria-hidden="true">'
        f'<path d="M0 4H16" stroke="{colour}" stroke-width="3"{dash}/></svg> '
    )


def _run_heads(comparison: Comparison, slots: Sequence[int], shown: int) -> list[str]:
    return [
        f"{line_mark(slot)}{escape(run_label(run))}"
        for run, slot in zip(comparison.runs[:shown], slots, strict=False)
    ]


def _table(first: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], side: str) -> str:
    """Return a table with runs as columns, or as rows if there are many."""
    if len(heads) > COLUMNS:
        rows, heads = (
            [(head, [cells[place] for _, cells in rows]) for place, head in enumerate(heads)],
            [name for name, _ in rows],
        )
    text = ' class="wb-text" style="text-align:left"' if side == "left" else ""
    head = "".join(f'<th scope="col" align="{side}"{text}>{one}</th>' for one in heads)
    body = "".join(
        f'<tr><th scope="row" align="left">{name}</th>'
        f"{''.join(f'<td align={chr(34)}{side}{chr(34)}{text}>{inner}</td>' for inner in cells)}</tr>"
        for name, cells in rows
    )
    corner = f'<th scope="col" align="left" class="wb-text">{first}</th>'
    return f'<section class="wb-view">{table_html(f"<tr>{corner}{head}</tr>", body, first)}</section>'


def _settings(comparison: Comparison, slots: Sequence[int], shown: int) -> str:
    rows = [
        (
            escape(row.key),
            [
                f"<b>{escape(setting_text(value))}</b>" if odd else escape(setting_text(value))
                for value, odd in zip(row.values[:shown], row.odd, strict=False)
            ],
        )
        for row in comparison.differences
    ]
    heads = _run_heads(comparison, slots, shown)
    return _table("Config that differs", heads, rows, "left") if rows else ""


def _finals(comparison: Comparison, slots: Sequence[int], shown: int, no_metrics: str) -> str:
    rows = []
    for row in comparison.final:
        cells = []
        for text, delta, best in zip(row.texts[:shown], row.deltas, row.best, strict=False):
            inner = f"{TROPHY}<b>{escape(text)}</b>" if best else escape(text)
            cells.append(f'{inner} <small class="wb-note">{escape(delta)}</small>' if delta else inner)
        arrow = f'<small class="wb-note">{_ARROWS[row.better]}</small>' if row.better else ""
        rows.append((escape(row.name) + arrow, cells))
    if not rows:
        return f'<p class="wb-none">{escape(no_metrics)}</p>'
    first = "Final" if comparison.statistic == "last" else comparison.statistic.capitalize()
    return _table(first, _run_heads(comparison, slots, shown), rows, "right")


# Curves ------------------------------------------------------------------------------------------


def _charts(
    lines: Sequence[tuple[str, Line]], comparison: Comparison, slots: Sequence[int], axis: str, log: bool
) -> str:
    colours = dict(zip((run.id for run in comparison.runs), slots, strict=True))
    parts = []
    for metric in list(dict.fromkeys(name for name, _ in lines))[:_STATIC_CHARTS]:
        curves = [line for name, line in lines if name == metric][:STATIC_RUNS]
        svg = chart_svg(metric, curves, [colours.get(line.runs[0], 0) for line in curves], axis=axis, log=log)
        if not svg:
            continue
        image = svg_image(svg, f"curves of {metric}", _WIDTH)
        parts.append(f'<section class="wb-view"><h3>{escape(metric)}</h3>{image}</section>')
    return f'<div class="wb-charts">{"".join(parts)}</div>' if parts else ""


def chart_svg(
    metric: str, lines: Sequence[Line], slots: Sequence[int], *, axis: str = "step", log: bool = False
) -> str:
    """Draw lines as one SVG; empty if no line has a point to draw."""
    curves = [(slot, *_points(line, log)) for line, slot in zip(lines, slots, strict=True)]
    drawn = [(slot, x, y) for slot, x, y in curves if np.isfinite(y).any()]
    if not drawn:
        return ""
    xs = np.concatenate([x[np.isfinite(y)] for _, x, y in drawn])
    ys = np.concatenate([y[np.isfinite(y)] for _, _, y in drawn])
    (x0, x1), (y0, y1) = _range(xs), _range(ys, 0.06)
    finest = 1.0 if axis == "step" else 0.0  # there is nothing between two steps
    if finest and xs.min() == xs.max():
        x0, x1 = float(xs.min()) - 0.5, float(xs.max()) + 0.5
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0) * inner_width

    def down(y: float) -> float:
        return _TOP + (y1 - y) / (y1 - y0) * inner_height

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(metric, quote=True)}" font-family="system-ui, sans-serif" font-size="11">'
    ]
    for tick in log_ticks(y0, y1, 4) if log else ticks(y0, y1, 4):
        label = number(10**tick if log else tick)
        parts.append(
            f'<path d="M{_LEFT} {down(tick):.1f}H{_WIDTH - _RIGHT}" stroke="#e6e6e4"/>'
            f'<text x="{_LEFT - 7}" y="{down(tick) + 4:.1f}" text-anchor="end" fill="#71757c">{label}</text>'
        )
    for tick in ticks(x0, x1, 5, finest):
        last = across(tick) > _WIDTH - 30
        at, anchor = (_WIDTH - 2.0, "end") if last else (across(tick), "middle")
        parts.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}" fill="#71757c">'
            f"{escape(_x_text(tick, axis))}</text>"
        )
    for slot, x, y in drawn:
        colour, dash = SERIES_COLOURS[slot % len(SERIES_COLOURS)], _DASHES[slot // len(SERIES_COLOURS) % 3]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        points = [(across(one), down(other)) for one, other in zip(x, y, strict=True)]
        path = _path(points)
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" '
            f'stroke-linejoin="round" stroke-linecap="round"{dashed}/>'
        )
        parts += [
            f'<circle cx="{one:.1f}" cy="{other:.1f}" r="3" fill="{colour}"/>' for one, other in _lone(points)
        ]
    return "".join([*parts, "</svg>"])


def _points(line: Line, log: bool) -> tuple[Floats, Floats]:
    y = line.y
    if log:
        with np.errstate(invalid="ignore", divide="ignore"):
            y = np.where(y > 0, np.log10(y), np.nan)
    kept = thinned(line.x, y, _BUCKETS)
    return line.x[kept], y[kept]


def _path(points: Sequence[tuple[float, float]]) -> str:
    out, pen = [], "M"
    for x, y in points:
        if not math.isfinite(y):
            pen = "M"
            continue
        # A point between two gaps is a dot: a line of length zero with round ends.
        out.append(f"{pen}{x:.1f} {y:.1f}" + ("h0" if pen == "M" else ""))
        pen = "L"
    return "".join(out)


def _lone(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points without a neighbour, which no line shows."""
    seen = [False, *(math.isfinite(y) for _, y in points), False]
    return [
        point
        for place, point in enumerate(points, 1)
        if seen[place] and not (seen[place - 1] or seen[place + 1])
    ]


def _range(values: Floats, margin: float = 0.0) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    pad = (high - low) * margin
    return low - pad, high + pad


def ticks(low: float, high: float, about: int, finest: float = 0.0) -> list[float]:
    """Return round numbers between two values: steps of 1, 2 or 5 times a power of ten, or ``finest``."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about * 1.2)
    step = max(step, finest)
    first = math.ceil(low / step)
    return [place * step for place in range(first, math.floor(high / step) + 1)]


def log_ticks(low: float, high: float, about: int) -> list[float]:
    """Return logarithms of round numbers between two values: powers of ten, or numbers between them."""
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        powers = range(math.floor(low), math.floor(high) + 1)
        candidates = [power + math.log10(factor) for power in powers for factor in factors]
        inside = [tick for tick in candidates if low <= tick <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / (about + 2))]
    return [math.log10(tick) for tick in ticks(10**low, 10**high, about) if tick > 0]


def number(value: float) -> str:
    """Format the number of a tick briefly."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}".replace(".0e", "e").replace("e+0", "e").replace("e-0", "e-").replace("-", "−")
    return f"{value:,.4g}".replace("-", "−")


def _x_text(value: float, axis: str) -> str:
    if axis == "time":
        moment = as_moment(value)
        return "" if moment is None else moment.strftime("%H:%M")
    if axis == "relative":
        return f"{value / 3600:.3g} h" if abs(value) >= 3600 else f"{value / 60:.3g} min"
    return number(value)
