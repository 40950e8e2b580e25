"""Parquet with the pictures in it: read by row, bounded, and with all that can be wrong with it."""

import io
import pickle
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import check, decoder, parquet, parquet_rows
from adapters.vlm_quantization.data.heads import equal_files, head_of
from adapters.vlm_quantization.data.source_text import Source
from adapters.vlm_quantization.data.sources import list_collection, open_collection, recognised


def picture(number: int, size: int = 24) -> bytes:
    file = io.BytesIO()
    shade = (number * 37 % 256, number * 91 % 256, 40)
    Image.new("RGB", (size, size), shade).save(file, "PNG")
    return file.getvalue()


def write(path: Path, columns: dict, group: int = 4, **how) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group, **how)
    return str(path)


def table(path: Path, count: int = 10, **more) -> str:
    columns = {
        "image": [{"bytes": picture(n), "path": f"{n}.png"} for n in range(count)],
        "sentences": [[f"picture {n}", f"사진 {n}"] for n in range(count)],
        "label": list(range(count)),
        **more,
    }
    return write(path, columns)


def test_captions_labels_and_ids_come_with_the_pictures(tmp_path):
    source = table(tmp_path / "train-00000-of-00001.parquet") + "?caption=sentences"
    collection = open_collection(source, cache_dir=tmp_path / "cache")
    assert [item.id for item in collection.items[:2]] == ["0.png", "1.png"]
    assert collection.items[3].captions == {"en": ("picture 3",), "ko": ("사진 3",)}
    assert collection.items[3].labels == ("3",)
    assert {item.split for item in collection.items} == {"train"}  # of the file's name
    assert collection.open(7).getpixel((1, 1)) == (7 * 37 % 256, 7 * 91 % 256, 40)
    again = open_collection(source, cache_dir=tmp_path / "cache")
    assert again.fingerprint == collection.fingerprint


def test_a_folder_of_tables_is_one_collection_with_the_splits_of_their_names(tmp_path):
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        data = {
            "picture": [picture(number * 3 + n) for n in range(3)],
            "text": [f"a {number} {n}" for n in range(3)],
        }
        data["picture"][1] = b"not a picture" if number == 1 else data["picture"][1]
        write(tmp_path / "set" / "data" / f"{name}.parquet", data)
    collection = open_collection(tmp_path / "set")
    assert recognised(Source(str(tmp_path / "set"))).form == "parquet"
    assert [item.split for item in collection.items] == ["test"] * 3 + ["train"] * 5
    assert collection.items[0].id == "test-00000-of-00001-1"
    assert "line 8: data/train-00001-of-00002.parquet:row 2: not a picture" in str(collection.problems[0])
    assert any("file to file" in note for note in collection.notes)


def test_rows_of_one_picture_are_one_item_with_all_captions(tmp_path):
    data = {"image": [picture(1), picture(1), picture(2)], "caption": ["one", "another", "two"]}
    collection = list_collection(write(tmp_path / "a.parquet", data))
    assert [item.captions["en"] for item in collection.items] == [("one", "another"), ("two",)]
    data["split"] = ["train", "test", "test"]  # a leak is for the checks to find
    collection = list_collection(write(tmp_path / "b.parquet", data))
    assert [item.split for item in collection.items] == ["train", "test", "test"]
    assert equal_files([item.image for item in collection.items]) == [[0, 1]]


def test_opening_keeps_no_pictures_and_reads_few_rows_at_a_time(tmp_path, monkeypatch):
    path = Path(table(tmp_path / "a.parquet", 40))
    collection = list_collection(f"{path}?caption=sentences")
    one = collection.items[5].image
    assert (one.row, one.group, one.place, one.size) == (6, 1, 1, len(picture(5)))
    assert head_of(one).start == picture(5)[: parquet_rows.START_BYTES]
    opened = []
    open_group = parquet_rows.PictureRows._open
    monkeypatch.setattr(
        parquet_rows.PictureRows, "_open", lambda self, group: (opened.append(group), open_group(self, group))
    )
    assert [item.image.read(10**6) for item in collection.items] == [picture(n) for n in range(40)]
    assert opened == list(range(10))  # each row group once
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 0)
    collection.items[0].image.rows._forget()
    assert [item.image.read(10**6) for item in collection.items] == [picture(n) for n in range(40)]
    assert len(collection.items[30].image.rows._kept) <= parquet_rows.ROWS_AT_ONCE
    copy = pickle.loads(pickle.dumps(one))  # noqa: S301  # our own, as to another process
    assert copy.read(10**6) == picture(5)
    assert "a.parquet, row 6" in str(one)


def test_a_table_that_changed_is_not_read_as_another(tmp_path):
    path = Path(table(tmp_path / "a.parquet"))
    collection = list_collection(f"{path}?caption=sentences")
    write(path, {"image": [{"bytes": picture(90 + n), "path": "x"} for n in range(3)]})
    with pytest.raises(wb.BadInput, match=r"1\.png: the table has changed"):
        collection.open(1)
    with pytest.raises(wb.BadInput, match="cannot be read from its table"):
        collection.open(9)
    with pytest.raises(decoder.Refused, match="at most 0 MB"):
        collection.items[0].image.read(10)


def test_missing_empty_and_broken_pictures_are_named_and_the_others_read(tmp_path):
    good = picture(1)
    data = {
        "image": [
            {"bytes": good, "path": None},
            None,
            {"bytes": None, "path": "nowhere.png"},
            {"bytes": b"", "path": "empty.png"},
            {"bytes": good[:60], "path": "cut.png"},
            {"bytes": None, "path": "../outside.png"},
            {"bytes": picture(3), "path": "3.png"},
        ],
        "caption": ["a", "b", "c", "d", "e", "f", None],
    }
    collection = open_collection(write(tmp_path / "t.parquet", data))
    assert [item.id for item in collection.items] == ["t-1"]
    said = [str(problem) for problem in collection.problems]
    for line, words in zip(
        said,
        (
            "line 2: 'image' must be",
            "line 3: no such file",
            "line 4",
            "line 5",
            "line 6",
            "line 7: no captions",
        ),
        strict=True,
    ):
        assert words in line, said
    assert "outside the collection's folder" in said[4]


def test_a_file_beside_the_table_may_be_meant(tmp_path):
    (tmp_path / "b.png").write_bytes(picture(2))
    data = {"image": [{"bytes": picture(1), "path": "a.png"}, {"bytes": None, "path": "b.png"}]}
    collection = list_collection(write(tmp_path / "t.parquet", data))
    assert [item.path for item in collection.items] == ["", str(tmp_path / "b.png")]


def test_a_damaged_row_group_is_named_and_the_others_are_read(tmp_path):
    path = Path(table(tmp_path / "a.parquet", 12))
    place = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 40] = b"\xff" * 40
    path.write_bytes(data)
    collection = list_collection(f"{path}?caption=sentences")
    assert [item.id for item in collection.items] == [f"{n}.png" for n in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert "line 5: rows 5 to 8 of a.parquet cannot be read" in str(collection.problems[0])


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"image": [1, 2]}, "", "holds no pictures|must be the path"),
        ({"image": [b"x"], "a": [1]}, "?image=a", "'a' holds no pictures, but int64"),
        ({"image": [b"x"], "a": [1]}, "?image=b", "image=b: .*no such column; its columns: 'image', 'a'"),
        ({"image": [b"x"], "a": [1]}, "?caption=b", "caption=b: .*no such column"),
        ({"image": [b"x"]}, "?caption=a&size=3", "unknown option 'size'"),
        ({"image": [b"not a picture", b""]}, "", "no usable picture"),
        ({"image": pyarrow.array([], pyarrow.binary())}, "", "no usable picture"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, columns, options, says):
    with pytest.raises(wb.BadInput, match=says):
        open_collection(write(tmp_path / "t.parquet", columns) + options)


def test_row_groups_that_take_too_much_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1_000)
    with pytest.raises(wb.BadInput, match="pictures in one row group; at most") as refused:
        list_collection(write(tmp_path / "a.parquet", {"image": [picture(n) for n in range(40)]}, group=40))
    assert "row_group_size" in refused.value.hint
    small = write(tmp_path / "b.parquet", {"image": [picture(n) for n in range(40)]}, group=4)
    assert len(list_collection(small)) == 40


def test_a_cut_file_is_refused(tmp_path):
    path = Path(table(tmp_path / "a.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(wb.BadInput, match="not a Parquet file that can be read"):
        open_collection(path)


def test_large_and_dictionary_types_are_pictures_too(tmp_path):
    for number, kind in enumerate(
        (pyarrow.large_binary(), pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()))
    ):
        values = pyarrow.array([picture(1), picture(2)], pyarrow.binary()).cast(kind)
        collection = open_collection(write(tmp_path / f"{number}.parquet", {"image": values}))
        assert len(collection) == 2
    assert not parquet.has_pictures(tmp_path / "nothing.parquet")


def test_a_check_of_it_names_no_paths_of_pictures(tmp_path):
    result = check.check_collection(table(tmp_path / "a.parquet") + "?caption=sentences", tmp_path / "out")
    assert (result.metrics["pictures"], result.metrics["captions"]) == (10, 20)
    assert "Recognised as parquet" in result.views[0].notes[0]
