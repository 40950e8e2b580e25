"""Results of several jobs side by side, as plain HTML: each view by its kind, with differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from workbench.compare import best_marks, cell_number, delta_text
from workbench.compare.results import LEVEL, ResultsComparison, ViewGroup
from workbench.errors import BadInput
from workbench.panels.base.assets import TROPHY
from workbench.panels.results.html import cell_html, result_style, table_html, view_html
from workbench.results.result import View

_ARROWS = {"higher": " ↑ best", "lower": " ↓ best"}


_LEFT = 'class="wb-text" align="left" style="text-align:left"'


def comparison_html(comparison: ResultsComparison) -> str:
    """Return results side by side as one piece of HTML; every text in it is escaped.

    Raises
    ------
    BadInput
        A view whose data do not fit its kind.
    """
    names = [escape(one.name) for one in comparison.results]
    parts = [_options(comparison, names), _metrics(comparison, names)]
    for group in comparison.views:
        draw = _DRAWN.get(group.kind, _side_by_side)
        try:
            body = draw(group, comparison, names)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"view {group.title!r}: data do not fit kind {group.kind!r}: {type(error).__name__} {error}",
                hint="The shape of each kind is documented in workbench.View.",
            ) from error
        if body:
            parts.append(f'<section class="wb-view"><h3>{escape(group.title)}</h3>{body}</section>')
    return f'<div class="wb-result">{result_style()}{"".join(parts)}</div>'


def _heads(names: Sequence[str], side: str = "right") -> str:
    text = ' style="text-align:left"' if side == "left" else ""
    return "".join(f'<th scope="col" align="{side}"{text}>{name}</th>' for name in names)


def _options(comparison: ResultsComparison, names: Sequence[str]) -> str:
    rows = []
    for row in comparison.config:
        cells = "".join(
            f"<td {_LEFT}>{f'<b>{escape(text)}</b>' if odd else escape(text)}</td>"
            for text, odd in zip(row.texts, row.odd, strict=True)
        )
        rows.append(f'<tr><th scope="row" align="left">{escape(row.key)}</th>{cells}</tr>')
    if not rows:
        return ""
    head = f"<tr><th {_LEFT}>Options that differ</th>{_heads(names, 'left')}</tr>"
    return f'<section class="wb-view">{table_html(head, "".join(rows), "Options that differ")}</section>'


def _metrics(comparison: ResultsComparison, names: Sequence[str]) -> str:
    rows = []
    for row in comparison.rows:
        final = row.final
        cells = []
        for place, text in enumerate(final.texts):
            inner = f"{TROPHY}<b>{escape(text)}</b>" if final.best[place] else escape(text)
            if final.deltas[place]:
                inner += f' <small class="wb-note">{escape(final.deltas[place])}</small>'
            if row.interval_texts[place]:
                interval = f"{row.interval_texts[place]}, {row.verdicts[place]}"
                kind = "wb-real" if row.verdicts[place] == "real" else "wb-noise"
                inner += f'<br><small class="{kind}">{escape(interval)}</small>'
            cells.append(f'<td align="right">{inner}</td>')
        arrow = f'<small class="wb-note">{_ARROWS[final.better]}</small>' if final.better else ""
        title = escape(final.description or final.name, quote=True)
        name = f'<th scope="row" align="left" title="{title}">{escape(final.name)}{arrow}</th>'
        rows.append(f"<tr>{name}{''.join(cells)}</tr>")
    if not rows:
        return '<p class="wb-none">These results have no metrics.</p>'
    base = names[comparison.base]
    head = f"<tr><th {_LEFT}>Metric</th>{_heads(names)}</tr>"
    return (
        '<section class="wb-view">'
        + table_html(head, "".join(rows), "Metrics")
        + f'<ul class="wb-notes"><li>Differences are relative to {base}.</li>'
        + f"{_interval_note(comparison)}</ul></section>"
    )


def _interval_note(comparison: ResultsComparison) -> str:
    pairs = {one.pairs for row in comparison.rows for one in row.intervals if one is not None}
    if not pairs:
        return (
            "<li>No intervals: these results share no scores per question, so it is unknown whether a "
            "difference is more than chance.</li>"
            if len(comparison.results) > 1
            else ""
        )
    counted = f"{min(pairs):,}" if len(pairs) == 1 else f"{min(pairs):,} to {max(pairs):,}"
    return (
        f"<li>Below a difference: its {LEVEL:.0%} interval, from a paired bootstrap (BCa) over the {counted} "
        "questions that both results answered. “Real” means that the interval excludes zero: other questions "
        "of this kind would show the difference too. It does not account for variation between training "
        "seeds, and about one in twenty metrics is “real” by chance.</li>"
    )


# Views -------------------------------------------------------------------------------------------


def _missing(name: str) -> str:
    return f'<p class="wb-none">{name} does not have this view.</p>'


def _side_by_side(group: ViewGroup, comparison: ResultsComparison, names: Sequence[str]) -> str:
    parts = []
    for view, name in zip(group.views, names, strict=True):
        body = _missing(name) if view is None else view_html(view.model_copy(update={"title": ""}))
        parts.append(f'<div class="wb-beside"><h4>{name}</h4>{body}</div>')
    return f'<div class="wb-sides">{"".join(parts)}</div>'


def _metrics_tables(group: ViewGroup, comparison: ResultsComparison, names: Sequence[str]) -> str:
    """Draw tables of numbers by name, without the names that the table of all metrics already shows."""
    shown = {row.final.name for row in comparison.rows}
    tables = [{str(row["name"]): row for row in view.data["rows"]} if view else {} for view in group.views]
    order = dict.fromkeys(name for table in tables for name in table if name not in shown)
    rows = []
    for name in order:
        base = tables[comparison.base].get(name)
        cells = "".join(
            f'<td align="right">{_with_delta(table.get(name), base if table is not tables[comparison.base] else None, (table.get(name) or {}).get("format"))}</td>'  # noqa: E501
            for table in tables
        )
        rows.append(f'<tr><th scope="row" align="left">{escape(name)}</th>{cells}</tr>')
    if not rows:
        return ""
    return table_html(f"<tr><th {_LEFT}>Metric</th>{_heads(names)}</tr>", "".join(rows), group.title)


def _with_delta(cell: Any, base: Any, spec: str | None, best: bool = False) -> str:
    inner = cell_html(cell, spec)
    if best:
        inner = f'<b class="wb-best">{inner}</b>'
    delta = delta_text(cell_number(cell), cell_number(base), spec or ".3f")
    return f'{inner} <small class="wb-note">{escape(delta)}</small>' if delta else inner


def _retrieval_tables(group: ViewGroup, comparison: ResultsComparison, names: Sequence[str]) -> str:
    """Draw one table with the rows of all results: for each row, one line per result."""
    columns: dict[str, Mapping[str, Any]] = {}
    for view in group.views:
        for column in view.data["columns"] if view else ():
            columns.setdefault(str(column["key"]), column)
    rows = [row for view in group.views if view for row in view.data["rows"]]
    textual = {key: all(cell_number(row.get(key)) is None for row in rows) for key in columns}
    texts = [key for key, text in textual.items() if text]
    numbers = [key for key, text in textual.items() if not text]
    tables = [_by_texts(view, texts) if view else {} for view in group.views]
    order = dict.fromkeys(key for table in tables for key in table)
    head = "".join(f'<th scope="col" {_LEFT}>{escape(str(columns[key]["label"]))}</th>' for key in texts)
    head += f'<th scope="col" {_LEFT}>Result</th>'
    for key in numbers:
        group_label = [str(columns[key]["group"])] if columns[key].get("group") else []
        arrow = {"higher": " ↑", "lower": " ↓"}.get(columns[key].get("better") or "", "")
        label = " ".join([*group_label, str(columns[key]["label"])])
        head += f'<th scope="col" align="right">{escape(label)}{arrow}</th>'
    body = "".join(_row_group(key, tables, columns, numbers, comparison.base, names) for key in order)
    return table_html(f"<tr>{head}</tr>", body, group.title)


def _by_texts(view: View, texts: Sequence[str]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    out: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in view.data["rows"]:
        key = tuple(str(row.get(name) if row.get(name) is not None else "–") for name in texts)
        while key in out:  # rows that differ only in numbers are paired in order
            key = (*key, "")
        out[key] = row
    return out


def _row_group(
    key: tuple[str, ...],
    tables: Sequence[Mapping[tuple[str, ...], Mapping[str, Any]]],
    columns: Mapping[str, Mapping[str, Any]],
    numbers: Sequence[str],
    base: int,
    names: Sequence[str],
) -> str:
    rows = [table.get(key) for table in tables]
    marks = {
        name: best_marks([cell_number((row or {}).get(name)) for row in rows], columns[name].get("better"))
        for name in numbers
    }
    texts = [text for text in key if text]
    side = f'{_LEFT[:-1]};vertical-align:top" valign="top"'
    out = []
    for place, row in enumerate(rows):
        lead = ""
        if place == 0:
            lead = "".join(
                f'<th scope="rowgroup" rowspan="{len(rows)}" {side}>{escape(text)}</th>' for text in texts
            )
        cells = ""
        for name in numbers:
            # For a column without a direction (a count, for example), a difference of zero is not shown.
            other = (rows[base] or {}).get(name) if place != base else None
            if not columns[name].get("better") and cell_number(other) == cell_number((row or {}).get(name)):
                other = None
            inner = _with_delta((row or {}).get(name), other, columns[name].get("format"), marks[name][place])
            cells += f'<td align="right">{inner}</td>'
        out.append(f"<tr>{lead}<td {_LEFT}>{names[place]}</td>{cells}</tr>")
    return "".join(out)


def _curves(group: ViewGroup, comparison: ResultsComparison, names: Sequence[str]) -> str:
    """Draw the curves of all results in one plot, over every x that any of them has."""
    from workbench.panels.results.plots import curve_html

    views = [view for view in group.views if view]
    series = []
    axis = sorted({float(x) for view in views for x in view.data["x"]})
    for view, one in zip(group.views, comparison.results, strict=True):
        for line in view.data["series"] if view else ():
            series.append(_on_axis(line, view.data["x"], axis, one.name))  # type: ignore[union-attr]
    merged = View(kind="curve", title=group.title, data={**views[0].data, "x": axis, "series": series})
    return curve_html(merged)


def _on_axis(line: Mapping[str, Any], x: Sequence[Any], axis: Sequence[float], name: str) -> dict[str, Any]:
    out: dict[str, Any] = {"name": " · ".join(filter(None, [name, str(line.get("name", ""))]))}
    out["connect"] = len(x) < len(axis)  # draw through the x values that only other results have
    for key in ("y", "low", "high"):
        if key in line:
            at = dict(zip(map(float, x), line[key], strict=True))
            out[key] = [at.get(place) for place in axis]
    if line.get("dashed"):
        out["dashed"] = True
    return out


_DRAWN: Mapping[str, Callable[[ViewGroup, ResultsComparison, Sequence[str]], str]] = {
    "metrics_table": _metrics_tables,
    "retrieval_table": _retrieval_tables,
    "curve": _curves,
    "image_grid": _side_by_side,
}
