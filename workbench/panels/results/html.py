"""Results as HTML: a table per view, and a plot per curve.

The HTML works without JavaScript and stays readable in a notebook that is not trusted, where Jupyter removes
its styles, so an executed notebook is a complete report.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from workbench.compare import best_marks, cell_number, number_text
from workbench.errors import BadInput
from workbench.panels.base.assets import assets
from workbench.results.explanation import Explanation, Side
from workbench.results.result import Result, View
from workbench.text import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Up to this many warnings are listed openly; more are folded behind their count.
_OPEN_WARNINGS = 5


_PICTURE_TYPES = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"RIFF", "webp"))


def result_html(result: Result) -> str:
    """Return a result as one piece of HTML; every text in it is escaped.

    Raises
    ------
    BadInput
        A view of an unknown kind, or data that do not fit their kind.
    """
    views = list(result.views)
    if not views and result.metrics:
        rows = [{"name": name, "value": value} for name, value in sorted(result.metrics.items())]
        views = [View(kind="metrics_table", title="Metrics", data={"rows": rows})]
    lead = f'<p class="wb-lead">{escape(result.summary)}</p>' if result.summary else ""
    parts = [lead, _warnings(result.warnings), *(view_html(view) for view in views)]
    if not any(parts):
        parts = ['<p class="wb-none">This result has nothing to show.</p>']
    return f'<div class="wb-result">{result_style()}{"".join(parts)}</div>'


def explanation_html(explanation: Explanation) -> str:
    """Return an explanation as one piece of HTML; every text in it is escaped.

    Raises
    ------
    BadInput
        A view of an unknown kind, or data that do not fit their kind.
    """
    sides = "".join(_compared(side) for side in (explanation.left, explanation.right))
    views = "".join(view_html(view) for view in explanation.views)
    return (
        f'<div class="wb-result wb-explained">{result_style()}'
        f'<div class="wb-compared-sides">{sides}</div>'
        f'<p class="wb-lead">{escape(explanation.summary)}</p><div class="wb-whys">{views}</div></div>'
    )


def _compared(side: Side) -> str:
    words = {"text": "text", "image": "picture", "item": "item"}[side.by]
    lines = [f"<b>{escape(side.caption)}</b>"]
    lines += [
        f'<span class="wb-note">{escape(text)}</span>'
        for text in (side.subtitle, f"{words} {side.id}".strip())
        if text
    ]
    picture = ""
    if side.thumbnail:
        source = _picture_source(side.thumbnail, f"the picture of {side.caption!r}")
        picture = f'<img alt="" width="72" src="{source}">'
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _picture_source(text: str, what: str) -> str:
    """Return a picture as a ``data:`` URL, from base64 text; errors begin with ``what``."""
    try:
        start = base64.b64decode(text, validate=True)[:12]
    except (binascii.Error, ValueError):
        raise BadInput(f"{what} is not base64") from None
    kind = next((kind for head, kind in _PICTURE_TYPES if start.startswith(head)), None)
    if kind is None:
        raise BadInput(f"{what} is not a PNG, JPEG or WebP file")
    return f"data:image/{kind};base64,{text}"


def result_style() -> str:
    """Return the styles of results, as the element that precedes them."""
    return f"<style>{assets('base/trophy.css', 'results/results.css')}</style>"


def figure(view: View) -> Figure:
    """Return a ``curve`` view as a matplotlib figure that is not registered with pyplot.

    Raises
    ------
    BadInput
        A view of another kind, or data that do not fit.
    """
    from workbench.panels.results.plots import curve_figure

    if view.kind != "curve":
        raise BadInput(f"a view of kind {view.kind!r} has no figure; only 'curve' has one")
    return curve_figure(view)


def view_html(view: View) -> str:
    """Return one view with its title and notes."""
    try:
        draw = _DRAWN[view.kind]
    except KeyError:
        known = ", ".join(sorted(_DRAWN))
        raise BadInput(f"view {view.title!r} has unknown kind {view.kind!r}; known: {known}") from None
    try:
        body = draw(view)
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"view {view.title!r}: data do not fit kind {view.kind!r}: {type(error).__name__} {error}",
            hint="The shape of each kind is documented in workbench.View.",
        ) from error
    notes = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
    foot = f'<ul class="wb-notes">{notes}</ul>' if notes else ""
    return f'<section class="wb-view"><h3>{escape(view.title)}</h3>{body}{foot}</section>'


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    count = "1 warning" if len(warnings) == 1 else f"{len(warnings):,} warnings"
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    opened = " open" if len(warnings) <= _OPEN_WARNINGS else ""
    return f'<details class="wb-warnings"{opened}><summary>{count}</summary><ul>{items}</ul></details>'


def table_html(head: str, body: str, name: str) -> str:
    """Return a table in a scrolling box of its own, which the keyboard can reach by its name."""
    label = escape(name, quote=True)
    return (
        f'<div class="wb-scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead>{head}</thead><tbody>{body}</tbody></table></div>"
    )


def _write(value: float, spec: str | None) -> str:
    if spec is None:
        spec = ",d" if isinstance(value, int) else ".3f"
    return number_text(value, spec)


def cell_html(value: Any, spec: str | None) -> str:
    """Return the content of a cell: a text, a number, or a number with its bounds in small print."""
    bounds = ""
    if isinstance(value, Mapping):
        low, high, value = value.get("low"), value.get("high"), value["value"]
        if value is not None and low is not None and high is not None:
            texts = [_write(low, spec), _write(high, spec)]
            if set(texts) != {_write(value, spec)}:
                bounds = f' <small class="wb-range">({"–".join(texts)})</small>'
    if value is None:
        return '<span class="wb-none">–</span>'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _write(value, spec) + bounds
    return escape(str(value))


def _metrics_table(view: View) -> str:
    rows = view.data["rows"]
    noted = any(row.get("note") for row in rows)
    name, value = (escape(str(word)) for word in view.data.get("head") or ("Metric", "Value"))
    head = f'<tr><th class="wb-text" scope="col" align="left">{name}</th><th scope="col">{value}</th>'
    head += '<th class="wb-text" scope="col" align="left">Note</th></tr>' if noted else "</tr>"
    body = []
    for row in rows:
        note = f'<td class="wb-text wb-note" align="left">{escape(str(row.get("note") or ""))}</td>'
        body.append(
            f'<tr><th scope="row" align="left">{escape(str(row["name"]))}</th>'
            f'<td align="right">{cell_html(row, row.get("format"))}</td>{note if noted else ""}</tr>'
        )
    return table_html(head, "".join(body), view.title)


def _retrieval_table(view: View) -> str:
    """Draw rows grouped by their leading texts, each shown once; the best of each group is marked."""
    columns, rows = view.data["columns"], view.data["rows"]
    textual = [all(cell_number(row.get(column["key"])) is None for row in rows) for column in columns]
    leading = next((place for place, text in enumerate(textual) if not text), len(textual))
    shared = [column["key"] for column in columns[: max(0, leading - 1)]]
    body = []
    for _, members in groupby(rows, key=lambda row: [row.get(key) for key in shared]):
        group = list(members)
        marks = [
            best_marks([cell_number(row.get(column["key"])) for row in group], column.get("better"))
            for column in columns
        ]
        for place, row in enumerate(group):
            cells = []
            for number, column in enumerate(columns):
                if number < len(shared) and place:
                    continue  # the cell above spans this row
                inner = cell_html(row.get(column["key"]), column.get("format"))
                if marks[number][place]:
                    inner = f'<b class="wb-best">{inner}</b>'
                cells.append(_retrieval_cell(inner, number, textual[number], leading, len(group)))
            body.append(f"<tr>{''.join(cells)}</tr>")
    return table_html(_retrieval_head(columns, textual), "".join(body), view.title)


def _retrieval_cell(inner: str, number: int, text: bool, leading: int, height: int) -> str:
    if not text:
        return f'<td align="right">{inner}</td>'
    # inline style as well: pages that show saved notebooks align every cell to the right
    side = 'class="wb-text" align="left" valign="top" style="text-align:left;vertical-align:top"'
    if number < leading - 1:
        return f'<th scope="rowgroup" rowspan="{height}" {side}>{inner}</th>'
    if number == leading - 1:
        return f'<th scope="row" {side}>{inner}</th>'
    return f"<td {side}>{inner}</td>"


def _retrieval_head(columns: Sequence[Mapping[str, Any]], textual: Sequence[bool]) -> str:
    groups = ""
    if any(column.get("group") for column in columns):
        for name, members in groupby(columns, key=lambda column: str(column.get("group") or "")):
            span = sum(1 for _ in members)
            groups += (
                f'<th class="wb-group" scope="colgroup" colspan="{span}" align="center">{escape(name)}</th>'
                if name
                else f'<td class="wb-group" colspan="{span}"></td>'
            )
        groups = f"<tr>{groups}</tr>"
    labels = ""
    for column, text in zip(columns, textual, strict=True):
        arrow = {"higher": " ↑", "lower": " ↓"}.get(column.get("better") or "", "")
        left = 'class="wb-text" align="left" style="text-align:left"'
        side = left if text else 'align="right"'
        labels += f'<th scope="col" {side}>{escape(str(column["label"]))}{arrow}</th>'
    return f"{groups}<tr>{labels}</tr>"


def _curve(view: View) -> str:
    from workbench.panels.results.plots import curve_html

    return curve_html(view)


def _image_grid(view: View) -> str:
    items = "".join(_picture(view, item) for item in view.data["items"])
    return f'<div class="wb-grid">{items}</div>' if items else '<p class="wb-none">No pictures.</p>'


def _picture(view: View, item: Mapping[str, Any]) -> str:
    caption = str(item.get("caption") or "")
    source = _picture_source(item["image"], f"view {view.title!r}: the picture of {caption!r}")
    lines = [f"<b>{escape(caption)}</b>"] if caption else []
    lines += [
        f'<span class="wb-note">{escape(str(item[key]))}</span>'
        for key in ("subtitle", "note")
        if item.get(key)
    ]
    return (
        f'<figure><img alt="{escape(caption, quote=True)}" width="116" src="{source}">'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


#: Cells that stay together when a row wraps, and maximum number of places that a description lists.
_CELLS_TOGETHER, _PLACES_LISTED = 8, 40


def _cells(view: View) -> str:
    """Draw two rows of cells above each other; places that differ are marked by type, not only by colour."""
    labels = [escape(shortened(str(label), 60)) for label in view.data["labels"]]
    if len(labels) != 2:
        raise ValueError(f"labels must be two, got {len(labels)}")
    parts = []
    for row in view.data["rows"]:
        left, right = str(row["left"]), str(row["right"])
        if len(left) != len(right):
            raise ValueError(f"row {row['name']!r} has {len(left)} cells and {len(right)}")
        head = f"<b>{escape(str(row['name']))}</b>"
        if row.get("note"):
            head += f' <span class="wb-note">{escape(str(row["note"]))}</span>'
        pairs = "".join(
            _cell_group(left[start : start + _CELLS_TOGETHER], right[start : start + _CELLS_TOGETHER])
            for start in range(0, len(left), _CELLS_TOGETHER)
        )
        description = escape(cells_differ(left, right), quote=True)
        parts.append(
            f'<div class="wb-cells-row"><p>{head}</p>'
            f'<div class="wb-cells" role="img" aria-label="{description}">{pairs}</div></div>'
        )
    key = f'<p class="wb-note wb-cells-key">Above: {labels[0]}. Below: {labels[1]}. Marked: different.</p>'
    return key + "".join(parts) if parts else '<p class="wb-none">Nothing to compare.</p>'


def _cell_group(left: str, right: str) -> str:
    lines = []
    for own, other in ((left, right), (right, left)):
        line = "".join(
            f"<mark><b>{escape(one)}</b></mark>" if one != two else escape(one)
            for one, two in zip(own, other, strict=True)
        )
        lines.append(f"<code>{line}</code>")
    return f"<span>{'<br>'.join(lines)}</span> "


def cells_differ(left: str, right: str) -> str:
    """Return in words where two rows of cells differ: ``"2 of 8 differ: 3, 5"``."""
    places = [place for place, (one, two) in enumerate(zip(left, right, strict=True), 1) if one != two]
    if not places:
        return f"none of {len(left)} differ"
    more = "" if len(places) <= _PLACES_LISTED else " …"
    return f"{len(places)} of {len(left)} differ: {', '.join(map(str, places[:_PLACES_LISTED]))}{more}"


_DRAWN: Mapping[str, Callable[[View], str]] = {
    "cells": _cells,
    "metrics_table": _metrics_table,
    "retrieval_table": _retrieval_table,
    "curve": _curve,
    "image_grid": _image_grid,
}
