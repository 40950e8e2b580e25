"""Results as HTML: the tables, texts and plots that a reader sees."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

import workbench as wb
from workbench.panels import save_figures
from workbench.panels.results import plots
from workbench.panels.results.html import figure
from workbench.panels.results.show import render_html


class Reader(HTMLParser):
    """Collects the cells of a page's tables, and all other text."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        elif data.strip():
            self.texts.append(data.strip())


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def drawn(kind: str, data: dict[str, Any], **more: Any) -> str:
    return render_html(wb.Result(views=[wb.View(kind=kind, title="A view", data=data, **more)]))  # type: ignore[arg-type]


CURVE = {
    "x_label": "code length 길이",
    "y_label": "recall",
    "x": [8, 16, 32, 64, 128],
    "x_scale": "log2",
    "series": [
        {"name": "강아지", "y": [0.1, 0.2, None, 0.4, 0.5], "low": [0.0] * 5, "high": [0.6] * 5},
        {"name": "float", "y": [0.6] * 5, "dashed": True},
    ],
}  # fmt: skip


def test_a_retrieval_table_shows_groups_numbers_bounds_and_what_is_best() -> None:
    columns = [
        {"key": "name", "label": "Code"},
        {"key": "r", "label": "R@1", "better": "higher", "group": "text → image"},
        {"key": "m", "label": "mAP", "format": ".2f", "group": "text → image"},
        {"key": "n", "label": "Queries"},
    ]
    rows = [
        {"name": "8 <b>", "r": 0.1084, "m": {"value": 0.41, "low": 0.38, "high": 0.44}, "n": 1908},
        {"name": "float", "r": 0.5, "m": {"value": 0.5, "low": 0.5, "high": 0.5}, "n": None},
    ]
    html = drawn(
        "retrieval_table", {"columns": columns, "rows": rows}, notes=["ties by expectation & bounds"]
    )
    reader = read(html)
    assert reader.rows == [
        ["", "text → image", ""],
        ["Code", "R@1 ↑", "mAP", "Queries"],
        ["8 <b>", "0.108", "0.41 (0.38–0.44)", "1,908"],
        ["float", "0.500", "0.50", "–"],
    ]
    assert re.findall(r'<b class="wb-best">(.*?)</b>', html) == ["0.500"]
    assert "ties by expectation & bounds" in reader.texts
    assert "8 &lt;b&gt;" in html


def test_a_metrics_table_shows_notes_only_if_there_are_any() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "mAP", "value": 0.5, "low": 0.4, "high": 0.6},
        {"name": "R@1", "value": 0.25},
    ]
    assert read(drawn("metrics_table", {"rows": rows})).rows == [
        ["Metric", "Value"],
        ["mAP", "0.500 (0.400–0.600)"],
        ["R@1", "0.250"],
    ]
    named = read(drawn("metrics_table", {"rows": rows, "head": ["<b>", "Pictures"]}))
    assert named.rows[0] == ["<b>", "Pictures"]
    rows[0]["note"] = "all relevant items"
    assert read(drawn("metrics_table", {"rows": rows})).rows[1][2] == "all relevant items"


def test_a_result_without_views_shows_its_metrics() -> None:
    reader = read(render_html(wb.Result(summary="counted to 5", metrics={"loss": 0.2})))
    assert reader.rows[1] == ["loss", "0.200"]
    assert reader.texts[0] == "counted to 5"
    empty = read(render_html(wb.Result()))
    assert (empty.rows, len(empty.texts)) == ([], 1)  # a sentence instead of a table


@pytest.mark.parametrize(("count", "opened"), [(1, True), (6, False)])
def test_warnings_are_listed_and_many_are_folded(count: int, opened: bool) -> None:
    html = render_html(wb.Result(warnings=[f"IMG_{number}.jpg: <truncated>" for number in range(count)]))
    assert ('<details class="wb-warnings" open>' in html) == opened
    assert f"{count} warning" in html
    assert html.count("&lt;truncated&gt;") == count


def test_a_curve_is_an_image_and_its_text_stays_text_within_it() -> None:
    html = drawn("curve", CURVE)
    source = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert source
    svg = base64.b64decode(source[1]).decode("utf-8")
    ElementTree.fromstring(svg)  # noqa: S314  # ours; an image that cannot be parsed shows nothing
    assert "강아지" in svg
    assert "code length 길이" in svg
    assert "https://matplotlib.org" not in svg
    # Where a notebook is not trusted, Jupyter removes inline drawings and leaves their words.
    assert "<svg" not in html
    assert "code length 길이" not in html


def test_a_figure_has_the_real_ticks_and_leaves_pyplot_alone() -> None:
    sys.modules.pop("matplotlib.pyplot", None)
    drawing = figure(wb.View(kind="curve", title="A view", data=CURVE))
    axes = drawing.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16", "32", "64", "128"]
    assert [line.get_label() for line in axes.get_lines()] == ["강아지", "float"]
    assert axes.get_lines()[1].get_linestyle() == "--"
    assert "matplotlib.pyplot" not in sys.modules


def test_pictures_are_shown_with_their_actual_type() -> None:
    import io

    pictures = []
    for kind in ("PNG", "JPEG", "WEBP"):
        out = io.BytesIO()
        Image.new("RGB", (4, 4), "red").save(out, kind)
        pictures.append({"caption": f'a {kind} "quoted"', "image": base64.b64encode(out.getvalue()).decode()})
    html = drawn("image_grid", {"items": pictures})
    assert re.findall(r"data:image/(\w+);", html) == ["png", "jpeg", "webp"]
    assert 'alt="a PNG &quot;quoted&quot;"' in html
    empty = drawn("image_grid", {"items": []})
    assert "<img" not in empty
    assert len(read(empty).texts) == 2  # the title, and a sentence instead of pictures


@pytest.mark.parametrize(
    ("kind", "data", "parts"),
    [
        ("retrieval_table", {"rows": []}, ["KeyError 'columns'"]),
        ("metrics_table", {"rows": [{"value": 1}]}, ["KeyError 'name'"]),
        (
            "curve",
            {"x": [1, 2], "series": [{"name": "a", "y": [1]}]},
            ["'y' of series 'a'", "1 values", "x has 2"],
        ),
        ("curve", {"x": [0, 2], "x_scale": "log2", "series": []}, ["log2", "above 0"]),
        ("curve", {"x": [1], "series": [{"name": "a"}]}, ["KeyError 'y'"]),
        ("image_grid", {"items": [{"caption": "c", "image": "%%"}]}, ["'c'", "base64"]),
        ("image_grid", {"items": [{"caption": "c", "image": "PHN2Zz4="}]}, ["'c'", "PNG, JPEG or WebP"]),
    ],
)
def test_data_that_do_not_fit_are_refused_by_name(kind: str, data: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(wb.BadInput) as refused:
        drawn(kind, data)
    message = str(refused.value)
    assert [part for part in ["A view", *parts] if part not in message] == []


def test_an_unknown_kind_lists_the_known_ones() -> None:
    view = wb.View.model_construct(kind="hologram", title="A view", data={}, notes=[])
    with pytest.raises(
        wb.BadInput, match=r"hologram.*known: cells, curve, image_grid, metrics_table, retrieval_table"
    ):
        render_html(wb.Result.model_construct(views=[view], summary="", metrics={}, warnings=[], made={}))


def test_only_a_result_can_be_shown() -> None:
    with pytest.raises(wb.BadInput, match="NoneType") as refused:
        wb.show(None)  # type: ignore[arg-type]
    assert "job.result is None" in refused.value.hint
    with pytest.raises(wb.BadInput, match=r"'metrics_table'.*'curve'"):
        figure(wb.View(kind="metrics_table", title="t", data={"rows": []}))


def test_outside_of_a_notebook_show_prints_text(capsys: pytest.CaptureFixture[str]) -> None:
    wb.show(wb.Result(summary="counted to 5", metrics={"loss": 0.2}))
    assert capsys.readouterr().out == "counted to 5\nloss = 0.2\n"


def test_leading_texts_are_shown_once_and_the_best_is_marked_per_group() -> None:
    columns = [
        {"key": "split", "label": "Split"},
        {"key": "length", "label": "Length"},
        {"key": "R", "label": "R", "better": "higher", "format": ".1f"},
    ]
    rows = [
        {"split": split, "length": length, "R": value}
        for split, values in {"hard": (0.1, 0.2), "easy": (0.8, 0.7)}.items()
        for length, value in zip(("8", "16"), values, strict=True)
    ]
    view = wb.View(kind="retrieval_table", title="T", data={"columns": columns, "rows": rows})
    html = render_html(wb.Result(views=[view]))
    reader = Reader()
    reader.feed(html)
    assert [row for row in reader.rows if row][1:] == [
        ["hard", "8", "0.1"],
        ["16", "0.2"],
        ["easy", "8", "0.8"],
        ["16", "0.7"],
    ]
    assert html.count('rowspan="2"') == 2
    assert re.findall(r'class="wb-best">([^<]*)', html) == ["0.2", "0.8"]


def test_a_dashed_line_has_the_colour_of_its_solid_line() -> None:
    names = ("image, en", "image, en, float", "text, en", "text, en, float")
    series = [{"name": name, "y": [1, 2], "dashed": "float" in name} for name in names]
    data = {"x_label": "x", "y_label": "y", "x": [1, 2], "series": series}
    axes = figure(wb.View(kind="curve", title="T", data=data)).axes[0]
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_curves_are_saved_as_files_with_text_as_text(tmp_path: Path) -> None:
    views = [
        wb.View(kind="metrics_table", title="Numbers", data={"rows": []}),
        wb.View(kind="curve", title="Recall by length: 한국어 / ../../etc", data=CURVE),
        wb.View(kind="curve", title="길이", data=CURVE),
    ]
    files = save_figures(wb.Result(views=views), tmp_path / "plots")
    assert [path.name for path in files] == [
        "02-recall-by-length-etc.svg",
        "02-recall-by-length-etc.png",
        "03-curve.svg",
        "03-curve.png",
    ]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(path.name for path in files)
    assert ">recall</text>" in files[0].read_text(encoding="utf-8")
    with Image.open(files[1]) as picture:
        assert picture.width > 1000
    # saved again under the same names
    assert save_figures(wb.Result(views=views), tmp_path / "plots") == files


def test_a_result_without_curves_leaves_no_folder(tmp_path: Path) -> None:
    assert save_figures(wb.Result(summary="none"), tmp_path / "plots") == []
    assert not (tmp_path / "plots").exists()


def test_a_curve_that_a_report_shows_and_keeps_is_drawn_once_as_svg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []
    draw = plots.figure_bytes
    monkeypatch.setattr(plots, "figure_bytes", lambda figure, kind: kinds.append(kind) or draw(figure, kind))
    view = wb.View(
        kind="curve", title="once", data={"x": [1, 2], "series": [{"name": "a", "y": [0.25, 4.5]}]}
    )
    shown = plots.curve_html(view)
    assert [path.suffix for path in save_figures(wb.Result(views=[view]), tmp_path)] == [".svg", ".png"]
    assert sorted(kinds) == ["png", "svg"]
    other = view.model_copy(update={"data": {"x": [1, 2], "series": [{"name": "a", "y": [0.25, 4.75]}]}})
    assert plots.curve_html(other) != shown
    assert sorted(kinds) == ["png", "svg", "svg"]


def test_a_line_of_many_points_has_no_markers() -> None:
    def marks(points: int) -> str:
        series = [{"name": "a", "y": [0.5] * points}]
        data = {"x_label": "x", "y_label": "y", "x": list(range(1, points + 1)), "series": series}
        return str(figure(wb.View(kind="curve", title="A view", data=data)).axes[0].lines[0].get_marker())

    assert marks(5) == "o"
    assert marks(128) == ""


def test_tables_can_be_scrolled_by_keyboard_and_have_no_empty_headers() -> None:
    columns = [{"key": "task", "label": "Task"}, {"key": "r", "label": "R@1", "group": "text → image"}]
    html = drawn("retrieval_table", {"columns": columns, "rows": [{"task": "a", "r": 0.5}]})
    assert re.search(r'<div class="wb-scroll" tabindex="0" role="region" aria-label="[^"]+">', html)
    assert not re.search(r"<th[^>]*></th>", html)
    assert "<h3>" in html  # below the notebook's "##"
