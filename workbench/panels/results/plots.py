"""Curves of results, drawn with matplotlib without touching its global state."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput
from workbench.host.files import write_whole
from workbench.panels.base.colours import SERIES_COLOURS
from workbench.results.result import Result, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_INK, _MUTED, _LINE = "#1c1d1f", "#6b6f76", "#e6e6e3"


#: Maximum number of points of a line that has a marker at each.
_MARKED = 32


#: Number of drawings that are remembered, by their data.
_REMEMBERED = 32


_DRAWN: dict[str, bytes] = {}


#: Fonts with Korean glyphs, in order of preference; the first installed one is the fallback font.
_KOREAN_FACES = (
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "NanumGothic",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
    "UnDotum",
)


def curve_figure(view: View) -> Figure:
    """Draw a ``curve`` view.

    Raises
    ------
    BadInput
        Data that do not fit a curve: a missing key, or a series whose length differs from that of ``x``.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    x, series = _checked(view)
    with rc_context(_settings()):
        figure = Figure(figsize=(7.2, 3.6), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
        axes = figure.add_subplot()
        for one, colour in zip(series, _colours(series), strict=True):
            _draw(axes, x, one, colour)
        _dress(axes, view.data, x)
        if any(one.get("name") for one in series):
            figure.legend(loc="outside right upper", frameon=False, labelcolor=_INK)
    return figure


def curve_html(view: View) -> str:
    """Return a ``curve`` view as HTML: an SVG in an image, which styles adapt to a dark page."""
    svg = _curve_svg(view).decode("utf-8")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return svg_image(svg, view.title, 720)


def svg_image(svg: str, name: str, width: int) -> str:
    """Return an SVG as an image of a width in pixels.

    Inline, a notebook that is not trusted would lose the drawing and keep its texts, as loose words below it.
    """
    data = base64.b64encode(svg.strip().encode("utf-8")).decode("ascii")
    label = escape(name, quote=True)
    source = f"data:image/svg+xml;base64,{data}"
    return f'<div class="wb-plot"><img alt="{label}" width="{width}" src="{source}"></div>'


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as ``"png"`` (on white, 200 dpi) or ``"svg"`` (transparent)."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context(_settings()), warnings.catch_warnings():
        # Without a Korean font the PNG shows boxes; the SVG holds the text itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if kind == "png":
            figure.savefig(out, format="png", dpi=200, facecolor="white")
        else:
            figure.savefig(out, format=kind, transparent=True)
    return out.getvalue()


def save_figures(result: Result, folder: Path) -> list[Path]:
    """Write every ``curve`` view of a result to files, as SVG (with text as text) and as PNG.

    Parameters
    ----------
    result : Result
    folder : Path
        Created if missing.

    Returns
    -------
    list of Path
        In the order of the views; a name is the view's number and title.

    Raises
    ------
    BadInput
        Data that do not fit a curve.
    """
    written = []
    for number, view in enumerate(result.views, 1):
        if view.kind != "curve":
            continue
        drawn = {"svg": _curve_svg(view), "png": figure_bytes(curve_figure(view), "png")}
        title = re.sub(r"[^a-z0-9]+", "-", view.title.lower()).strip("-")[:60].rstrip("-")
        for kind, data in drawn.items():
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{number:02d}-{title or 'curve'}.{kind}"
            write_whole(path, data)
            written.append(path)
    return written


def _curve_svg(view: View) -> bytes:
    """Draw a curve as SVG. A report shows it and keeps it as a file, so the newest ones are remembered."""
    key = repr(view.data)
    if (svg := _DRAWN.get(key)) is None:
        svg = _DRAWN[key] = figure_bytes(curve_figure(view), "svg")
        while len(_DRAWN) > _REMEMBERED:
            _DRAWN.pop(next(iter(_DRAWN)), None)
    return svg


def _checked(view: View) -> tuple[list[float], list[Mapping[str, Any]]]:
    try:
        x = [float(value) for value in view.data["x"]]
        series = list(view.data["series"])
        for one in series:
            for key in ("y", "low", "high"):
                if key in one and len(one[key]) != len(x):
                    name = f"{key!r} of series {one.get('name', '')!r}"
                    lengths = f"{len(one[key])} values, x has {len(x)}"
                    raise BadInput(f"curve {view.title!r}: {name} must be as long as x: {lengths}")
            one["y"]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"curve {view.title!r}: {type(error).__name__} {error}",
            hint="A curve has 'x' (numbers) and 'series', a list of {'name', 'y'}.",
        ) from None
    if view.data.get("x_scale") == "log2" and any(value <= 0 for value in x):
        raise BadInput(f"curve {view.title!r}: x on a log2 scale must be above 0, got {min(x):g}")
    return x, series


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def _colours(series: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one colour per series; a dashed line shares that of the solid line whose name begins its own."""
    solid = [str(one.get("name", "")) for one in series if not one.get("dashed")]
    own = {name: SERIES_COLOURS[place % len(SERIES_COLOURS)] for place, name in enumerate(solid)}
    out = []
    for place, one in enumerate(series):
        name = str(one.get("name", ""))
        akin = max((other for other in own if other and name.startswith(other)), key=len, default="")
        out.append(own.get(akin) or SERIES_COLOURS[place % len(SERIES_COLOURS)])
    return out


def _draw(axes: Axes, x: list[float], one: Mapping[str, Any], colour: str) -> None:
    dashed = bool(one.get("dashed"))
    kept = [place for place, y in enumerate(one["y"]) if y is not None or not one.get("connect")]
    x = [x[place] for place in kept]

    def numbers(key: str) -> list[float]:
        return _numbers([one[key][place] for place in kept])

    axes.plot(
        x,
        numbers("y"),
        label=str(one.get("name", "")),
        color=colour,
        linewidth=1.6 if dashed else 2,
        linestyle=(0, (4, 3)) if dashed else "-",
        marker="" if dashed or len(x) > _MARKED else "o",
        markersize=4.5,
    )
    if "low" in one and "high" in one:
        axes.fill_between(x, numbers("low"), numbers("high"), color=colour, alpha=0.13, linewidth=0)


def _dress(axes: Axes, data: Mapping[str, Any], x: list[float]) -> None:
    if data.get("x_scale") == "log2":
        axes.set_xscale("log", base=2)
        ticks = sorted(set(x))
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.set_xlabel(str(data.get("x_label", "")), color=_MUTED)
    axes.set_ylabel(str(data.get("y_label", "")), color=_MUTED)
    axes.tick_params(colors=_MUTED, length=0, pad=6)
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LINE)


def _settings() -> Any:
    return {
        "svg.fonttype": "none",
        "font.family": list(_faces()),
        "font.size": 9.5,
        "axes.unicode_minus": True,
    }


@cache
def _faces() -> tuple[str, ...]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    korean = [face for face in _KOREAN_FACES if face in installed][:1]
    return ("DejaVu Sans", *korean)
