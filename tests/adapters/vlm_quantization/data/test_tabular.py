"""Tables, imagefolders and Flickr's files: columns by their names, and malformed ones."""

from pathlib import Path

import pytest

import workbench as wb
from adapters.vlm_quantization.data.flickr import FLICKR
from adapters.vlm_quantization.data.imagefolder import metadata_files
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.tabular import Columns
from tests.adapters.vlm_quantization.data import listings


@pytest.fixture
def folder(tmp_path):
    return listings.pictures(tmp_path / "files")


def write(folder, text, name="table.csv"):
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_captions_of_several_languages(folder):
    path = write(folder, "\ufeffimage;caption_en;caption_ko\nred.png;red;빨강\nblue.png;blue;\n")
    first, second = open_collection(path).items
    assert dict(first.captions) == {"en": ("red",), "ko": ("빨강",)}
    assert dict(second.captions) == {"en": ("blue",)}
    path = write(folder, "file_name\ttext\tlang\nred.png\tred\ten\nred.png\trouge\tfr\n", "table.tsv")
    assert dict(open_collection(path).items[0].captions) == {"en": ("red",), "fr": ("rouge",)}
    path = write(folder, "a,b,c\nred.png,rot,viereck\n")
    (item,) = open_collection(f"{path}?image=a&caption=b,c&language=de").items
    assert dict(item.captions) == {"de": ("rot", "viereck")}


def test_a_table_without_captions_is_pictures_alone(folder):
    collection = open_collection(write(folder, "image\nred.png\nblue.png\n"))
    assert collection.languages == ()
    assert len(collection) == 2


def test_rows_that_cannot_be_used_are_reported_by_line(folder):
    rows = [
        'red.png,"a red\nsquare"',
        "gone.png,x",
        "../files/../../x.png,x",
        "blue.png,",
        "",
        ",x",
        "green.png,g",
    ]
    collection = open_collection(write(folder, "\n".join(["image,caption", *rows])))
    assert [item.id for item in collection.items] == ["red.png", "green.png"]
    assert {problem.line: problem.message.split(":")[0].split(" ")[0] for problem in collection.problems} == {
        4: "no",
        5: "the",
        6: "no",
        8: "'image'",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header line|no column of pictures"),
        ("a,b\nred.png,x\n", "no column of pictures; its columns: 'a', 'b'"),
        (b"image,caption\nred.png,\xff\xfe\n", r"not UTF-8 text \(line 2\)"),
        ("image,caption\n", "no usable picture"),
    ],
)
def test_a_malformed_table_is_refused(folder, text, message):
    with pytest.raises(wb.BadInput, match=message):
        open_collection(write(folder, text))


def test_a_column_that_is_missing_is_named(folder):
    path = write(folder, "image,caption\nred.png,x\n")
    for options in ("caption=words", "image=x", "label=x", "split=x", "caption=caption,words"):
        with pytest.raises(wb.BadInput, match="has no such column; its columns: 'image', 'caption'"):
            open_collection(f"{path}?{options}")


def test_damaged_parquet_is_refused(folder):
    with pytest.raises(wb.BadInput, match="not a Parquet file"):
        open_collection(write(folder, "hello", "table.parquet"))


def test_lines_of_an_imagefolder_that_cannot_be_used(tmp_path):
    source = listings.imagefolder(tmp_path / "a")
    train, test = (tmp_path / "a" / name / "metadata.jsonl" for name in ("train", "test"))
    train.write_text(train.read_text() + '{"file_name": "../val/red.png", "text": "x"}\n{\n')
    test.write_text('{"file_name": "../../outside.png", "text": "x"}\n' + test.read_text())
    collection = open_collection(source)
    assert len(metadata_files(tmp_path / "a")) == 3
    assert any("outside" in problem.message for problem in collection.problems)
    assert any("not JSON" in problem.message for problem in collection.problems)
    assert any(note.startswith("Line numbers go on from file to file") for note in collection.notes)
    assert {item.id.rsplit("/", 1)[1] for item in collection.items} >= {"red.png", "blue.png", "green.png"}


def test_a_flickr_line_without_a_caption_is_reported(tmp_path):
    source = listings.flickr(tmp_path)
    with Path(source).open("a") as file:
        file.write("red.png#5\nnone.png#0\tx\n")
    collection = open_collection(source)
    assert len(collection) == 3
    assert [problem.line for problem in collection.problems] == [7, 8]
    assert FLICKR.form == "flickr"


def test_columns_are_found_by_name():
    columns = Columns(["filename", "sentence", "category"], {}, "table")
    row = {"filename": "a.png", "sentence": "words", "category": "x| y"}
    assert columns.line_of(row) == {
        "image": "a.png",
        "captions": ["words"],
        "labels": ["x", "y"],
        "split": "",
    }
