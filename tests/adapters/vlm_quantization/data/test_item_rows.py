"""Items in files are what they were in memory, whatever holds their pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.vlm_quantization.data.collection import Item, UnusableLine
from adapters.vlm_quantization.data.item_rows import ItemCodec, StoredRows, decode_problem, encode_problem
from adapters.vlm_quantization.data.parquet_rows import ParquetPicture, PictureRows
from adapters.vlm_quantization.data.stored import ArchiveMember, Picture, SvgDrawing

TABLE = PictureRows(Path("t.parquet"), "image")
DRAWING = SvgDrawing(Path("a.svg"), 128)

PICTURES: list[Picture] = [
    Path("/photos/가.jpg"),
    b"\x89PNG\0",
    ArchiveMember(Path("a.tar"), "b.jpg", 512, 99),
    ParquetPicture(Path("t.parquet"), 7, 1, 2, 30, b"\xff\xd8", b"\0" * 16, TABLE),
    DRAWING,
]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: type(picture).__name__)
def test_an_item_comes_back_as_it_was(picture: Picture) -> None:
    item = Item(
        id="가",
        concept="나",
        captions={"ko": ("하나", "둘"), "en": ("one",)},
        image=picture,
        digest="d" * 64,
        keywords={"en": ("word",)},
        labels=("a", "b"),
        style="s",
        group="g",
        base="b",
        flag=True,
        split="train",
    )
    codec = ItemCodec()
    again = codec.decode(codec.encode(item))
    assert again == item
    assert again.content == item.content
    if isinstance(again.image, ParquetPicture):
        assert again.image.rows is TABLE  # tables are open once, however many rows they have


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    rows: StoredRows[str] = StoredRows(tmp_path, str.encode, bytes.decode)
    values = [f"값 {number}" * (number % 5) for number in range(150)]
    for value in values:
        rows.append(value)
    rows.flush()
    assert (len(rows), list(rows)) == (150, values)
    assert (rows[0], rows[149], rows[-1], rows[3:6]) == (values[0], values[149], values[-1], values[3:6])
    for outside in (150, -151):
        with pytest.raises(IndexError):
            rows[outside]
    assert list(StoredRows(tmp_path, str.encode, bytes.decode)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_problem_comes_back_as_it_was() -> None:
    problem = UnusableLine(2**40, "깨진 그림")
    assert decode_problem(encode_problem(problem)) == problem
