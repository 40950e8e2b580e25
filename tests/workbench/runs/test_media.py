"""Pictures, figures, tables, texts and histograms: what each kind takes, and what is refused."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench.panels.results.show import render_html
from workbench.runs import media
from workbench.runs.media import checked, figure_bytes, histogram_bytes, image_bytes, table_bytes, text_bytes


def size_of(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize(
    "value",
    [
        Image.new("RGB", (4, 3)),
        Image.new("P", (4, 3)),
        np.zeros((3, 4), np.uint8),
        np.zeros((3, 4, 1), np.float32),
        np.full((3, 4, 3), math.nan),
        np.zeros((3, 4, 4), bool),
        torch.zeros(3, 3, 4),
        torch.zeros(3, 4, requires_grad=True),
        np.full((3, 4, 3), 255),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'shape', '')}",
)
def test_pictures_of_every_usual_kind_are_taken(value: Any, tmp_path: Path) -> None:
    data = image_bytes(value)
    assert size_of(data) == (4, 3)
    assert checked("image", data) == data
    (tmp_path / "강.png").write_bytes(data)
    assert size_of(image_bytes(tmp_path / "강.png")) == size_of(image_bytes(data)) == (4, 3)


def test_floats_are_brightness_from_0_to_1() -> None:
    picture = Image.open(io.BytesIO(image_bytes(np.array([[0.0, 0.5, 1.0, 7.0, -1.0]]))))
    assert list(picture.tobytes()) == [0, 128, 255, 255, 0]


def test_a_large_picture_is_made_smaller() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 5000, 3), np.uint8)
    data = image_bytes(noise)
    assert size_of(data) == (2048, 123)
    assert len(data) < 2**20


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, "an image must be a PIL image"),
        (b"no picture", "cannot be read"),
        ("none.png", "none.png"),
        (np.zeros((2, 2, 2, 2)), "shape"),
        (np.zeros((2, 2, 7)), "shape"),
        (np.zeros((0, 2)), "shape"),
        (np.array([[300]]), "0 to 255"),
        (np.array([["a"]]), "0 to 255"),
    ],
)
def test_what_is_no_picture_is_refused(value: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        image_bytes(value)


def test_figures_of_matplotlib_are_pictures() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(40, 10))
    axes = figure.subplots()
    axes.plot([1, 2])
    assert max(size_of(figure_bytes(figure))) <= 2048
    assert figure_bytes(axes)[:4] == b"\x89PNG"
    with pytest.raises(wb.BadInput, match="matplotlib figure"):
        figure_bytes("no figure")


class Frame:
    """The part of a data frame that is used."""

    columns = ("a", "b")

    def __len__(self) -> int:
        return 5000

    def head(self, most: int) -> Frame:
        self.most = most
        return self

    def itertuples(self, index: bool, name: None) -> list[tuple[int, str]]:
        return [(1, "x")] * self.most


@pytest.mark.parametrize(
    ("value", "columns", "kept"),
    [
        ([{"a": 1, "b": "x"}, {"a": 2.5}], None, {"columns": ["a", "b"], "rows": [[1, "x"], [2.5, None]]}),
        (
            {"a": [1, 2], "b": np.array([0.5, math.nan])},
            None,
            {"columns": ["a", "b"], "rows": [[1, 0.5], [2, None]]},
        ),
        (
            [[1, True], (math.inf, Path("p"))],
            ["a", "b"],
            {"columns": ["a", "b"], "rows": [[1, True], ["inf", "p"]]},
        ),
        (iter([[1]]), ["a"], {"columns": ["a"], "rows": [[1]]}),
    ],
)
def test_tables_of_every_usual_kind_are_taken(value: Any, columns: Any, kept: Any) -> None:
    document = checked("table", table_bytes(value, columns))
    assert document == {**kept, "left_out": 0}


def test_a_long_table_is_cut_and_says_so() -> None:
    document = checked("table", table_bytes(Frame()))
    assert (len(document["rows"]), document["left_out"]) == (1000, 4000)
    assert checked("table", table_bytes({"a": range(1500)}))["left_out"] == 500
    assert len(checked("table", table_bytes([["x" * 5000]], ["a"]))["rows"][0][0]) == 1001


@pytest.mark.parametrize(
    ("value", "columns", "says"),
    [
        ([[1]], None, "must be named"),
        ([[1, 2]], ["a"], "1 cells, got 2"),
        ({"a": [1], "b": []}, None, "equal length"),
        ({}, None, "1 to 100 columns, got 0"),
        ([], None, "must be named"),
        (5, None, "a data frame"),
        ({str(n): [1] for n in range(101)}, None, "got 101"),
    ],
)
def test_what_is_no_table_is_refused(value: Any, columns: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        table_bytes(value, columns)


def test_texts_and_histograms() -> None:
    assert checked("text", text_bytes("강\ud800")) == "강?"
    assert checked("text", text_bytes("x" * 200_000)).endswith("(100,000 more characters were not kept)")
    made = checked("histogram", histogram_bytes([0, 1, 1, math.nan, math.inf], bins=2))
    assert (made["edges"], made["counts"], made["nonfinite"]) == ([0.0, 0.5, 1.0], [1, 2], 2)
    assert checked("histogram", histogram_bytes(np.histogram([1, 2], bins=3)))["counts"] == [1.0, 0.0, 1.0]
    assert sum(checked("histogram", histogram_bytes(torch.ones(2, 3)))["counts"]) == 6
    assert sum(checked("histogram", histogram_bytes([]))["counts"]) == 0
    for value, bins, says in (
        ("ab", 3, "real numbers"),
        ([1], 0, "bins"),
        ([1], True, "bins"),
        ([1], 513, "bins"),
    ):
        with pytest.raises(wb.BadInput, match=says):
            histogram_bytes(value, bins)
    with pytest.raises(wb.BadInput, match="a text must be a string"):
        text_bytes(5)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image", b"<svg onload=alert(1)>"),
        ("figure", b""),
        ("text", b"\xff"),
        ("table", b"[]"),
        ("table", b'{"columns": ["a"], "rows": [[{}]]}'),
        ("table", b'{"columns": ["a"], "rows": [[1, 2]]}'),
        ("table", b'{"columns": [], "rows": []}'),
        ("table", b'{"columns": ["a"], "rows": [[NaN]]}'),
        ("histogram", b'{"edges": [1], "counts": [1]}'),
        ("histogram", b'{"edges": [2, 1], "counts": [1]}'),
        ("histogram", b'{"edges": "ab", "counts": [1]}'),
        ("histogram", b"5"),
        ("text", b"x" * (2**23 + 1)),
        ("table", b"[" * 100_000),
    ],
)
def test_an_uploaded_file_must_have_the_form_of_its_kind(kind: str, data: bytes) -> None:
    with pytest.raises(wb.BadInput, match=f"a logged {kind}"):
        checked(kind, data)


def test_media_are_read_by_name_and_step_and_shown(
    workspace: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with workspace.start_run("e") as run:
        run.log({"loss": 1.0}, step=7)
        run.log_image("val/worst", np.zeros((2, 2)), caption="<b>강</b>")
        run.log_image("val/worst", np.zeros((3, 2)), step=9)
        run.log_table("t", [{"a": "<i>"}])
        run.log_text("note", "one\ntwo")
        run.log_histogram("w", [1, 2, 3], bins=3)
        run.log_image("val/worst", np.zeros((5, 5)), step=9)  # replaces the other
    kept = run.media()
    assert [(one.label, one.kind, one.step) for one in kept] == [
        ("note", "text", 7), ("t", "table", 7), ("val/worst", "image", 7), ("val/worst", "image", 9),
        ("w", "histogram", 7),
    ]  # fmt: skip
    assert kept[0].value() == "one\ntwo"
    assert size_of(run.media("image", "val/worst")[1].value()) == (5, 5)
    html = render_html(wb.Result(views=media.views(kept)))
    assert html.count("data:image/png") >= 2
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert "&lt;b&gt;강" in html
    assert kept[4].view().kind == "curve"
    wb.show(kept)
    wb.show(kept[0])
    assert capsys.readouterr().out.count("val/worst") == 1
    with pytest.raises(wb.BadInput, match="media of a run alone"):
        wb.show([kept[0], kept[4].view()])
    with pytest.raises(wb.BadInput, match="kind must be one of image"):
        run.media("video")
    for name in ("", "x" * 251, 5, "a\0"):
        with pytest.raises(wb.BadInput, match="the name must be"):
            run.log_text(name, "x")  # type: ignore[arg-type]
    with pytest.raises(wb.BadInput, match="caption"):
        run.log_text("x", "x", caption=5)  # type: ignore[arg-type]
    kept[0].path.unlink()
    assert len(run.media()) == 4


def _log_five(run: wb.Run) -> None:
    for step in range(5):
        run.log_text("t", "y", step)


def test_a_name_with_very_many_files_is_full_and_the_training_goes_on(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MOST_KEPT", 3)
    run = workspace.start_run("e")
    for step in range(3):
        run.log_text("t", "x", step)
    with pytest.warns(UserWarning, match="keeps 3 files of 't'") as warned:
        _log_five(run)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert [one.value() for one in run.media()] == ["y", "y", "y"]
    run.log_text("other", "x")
    run.finish()


def test_names_never_become_paths(workspace: wb.Workspace) -> None:
    with workspace.start_run("e") as run:
        run.log_text("../../../etc/passwd", "x", step=-3)
    (one,) = run.media()
    assert one.path.parent == run.folder / "media"
    assert json.dumps(one.name).isascii()
    assert one.path.is_file()


def test_a_link_in_place_of_the_folder_is_refused(workspace: wb.Workspace, tmp_path: Path) -> None:
    run = workspace.start_run("e")
    run.folder.mkdir(parents=True)
    (run.folder / "media").symlink_to(tmp_path)
    with pytest.raises(wb.WrongState, match="symlink"):
        run.log_text("x", "y")
    assert list(tmp_path.glob("*.txt")) == []
    run.finish()
