"""What Python programs hold a query in: text, numbers of several kinds, and pictures of several kinds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from tests.workbench.conftest import make_index
from workbench.search import searcher
from workbench.search.searcher import Searcher, picture_bytes

PICTURE = Image.new("RGB", (4, 3), "red")


def encoded(picture: Image.Image = PICTURE, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.fixture
def words(workspace: wb.Workspace, toy: wb.BaseAdapter) -> Searcher:
    make_index(workspace.path, "words")
    return workspace.open_search("words")


@pytest.mark.parametrize("k", [2, np.int64(2), np.uint8(2)])
def test_a_number_of_hits_may_be_numpys(words: Searcher, k: Any) -> None:
    assert len(words.by_text("dog", k)) == 2


@pytest.mark.parametrize("k", [0, -1, True, 1.5, np.float64(2), "2", None, np.array([1, 2])])
def test_what_is_no_number_of_hits_is_refused(words: Searcher, k: Any) -> None:
    with pytest.raises(wb.BadInput, match="k must be a whole number of at least 1"):
        words.by_text("dog", k)


@pytest.mark.parametrize("query", [None, b"dog", ["dog"], 5])
def test_what_is_no_text_is_not_called_empty(words: Searcher, query: Any) -> None:
    with pytest.raises(wb.BadInput, match=f"must be a string, got {type(query).__name__}"):
        words.by_text(query)
    with pytest.raises(wb.BadInput, match=f"must be a string, got {type(query).__name__}"):
        words.by_item(query)


@pytest.mark.parametrize("kind", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "1", "I;16", "F", "HSV"])
def test_a_picture_that_pillow_has_opened_keeps_its_pixels(kind: str) -> None:
    grey = Image.fromarray(np.full((3, 4), 40_000, np.uint16))
    picture = grey if kind == "I;16" else PICTURE.convert(kind)
    with Image.open(io.BytesIO(picture_bytes(picture))) as again:
        assert again.size == (4, 3)
        if kind in ("RGB", "RGBA", "P", "CMYK", "HSV"):
            assert again.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((3, 4, 3), (255, 0, 0), np.uint8),
        np.full((3, 4, 4), (255, 0, 0, 255), np.uint8),
        np.zeros((3, 4), np.uint8),
    ],
)
def test_pixels_are_a_picture(pixels: Any) -> None:
    with Image.open(io.BytesIO(picture_bytes(pixels))) as again:
        np.testing.assert_array_equal(np.asarray(again), pixels)


def test_bytes_and_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    data = encoded(kind="JPEG")
    (tmp_path / "강아지.jpg").write_bytes(data)
    for given in (
        data,
        bytearray(data),
        memoryview(data),
        tmp_path / "강아지.jpg",
        str(tmp_path / "강아지.jpg"),
    ):
        assert picture_bytes(given) == data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        ("no/such/file.png", "'no/such/file.png' cannot be read: No such file"),
        (Path("/"), "cannot be read: Is a directory"),
        ("a\0b", "cannot be read"),
        (None, "got NoneType"),
        (5, "got int"),
        ([b"x"], "got list"),
        (np.zeros((3, 4), np.float32), r"uint8 .*float32 \(3, 4\)"),
        (np.zeros((3, 4, 7), np.uint8), "3 or 4"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_no_picture_is_refused(data: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        picture_bytes(data)


def test_a_picture_may_be_too_large_in_any_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "MAX_IMAGE_BYTES", 50)
    (tmp_path / "a.png").write_bytes(encoded())
    for given in (encoded(), tmp_path / "a.png", PICTURE):
        with pytest.raises(wb.TooLarge):
            picture_bytes(given)


def test_an_items_id_is_bounded_and_never_echoed(words: Searcher) -> None:
    with pytest.raises(wb.BadInput) as raised:
        words.by_item("x" * 10_000_000)
    assert len(raised.value.message) < 200
