"""A folder of pictures: which files count, captions on request, splits and labels by folder names."""

import pytest

import workbench as wb
from adapters.vlm_quantization.data.folder import (
    caption_of_name,
    picture_files,
    sidecar_text,
    split_of_folder,
)
from adapters.vlm_quantization.data.sources import open_collection
from tests.adapters.vlm_quantization.data.listings import pictures, png


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "photos"
    pictures(base / "train2017" / "squares")
    for name in (".hidden.png", "._red.png", "notes.md", "movie.mp4"):
        (base / name).write_bytes(b"x")
    pictures(base / ".thumbnails")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(png("white"))
    (base / "link").symlink_to(tmp_path / "outside")
    (base / "link.png").symlink_to(tmp_path / "outside" / "secret.png")
    (base / "again").symlink_to(base)
    return base


def test_hidden_files_and_what_lies_outside_are_left_out(folder):
    collection = open_collection(f"{folder}?captions_from=name&labels_from=folder")

    assert [item.id for item in collection.items] == [
        f"train2017/squares/{name}.png" for name in ("blue", "green", "red")
    ]
    assert [item.captions for item in collection.items] == [
        {"en": (name,)} for name in ("blue", "green", "red")
    ]
    assert {(item.split, item.labels) for item in collection.items} == {("train", ("squares",))}
    (problem,) = collection.problems
    assert "link.png" in problem.message
    assert "outside" in problem.message


def test_a_listing_in_the_folder_is_mentioned(folder):
    (folder / "captions.jsonl").write_text("{}")
    assert any("captions.jsonl, which was not read" in note for note in open_collection(folder).notes)


def test_copies_count_once(folder):
    (folder / "copy.png").write_bytes(png("red"))
    collection = open_collection(folder)
    assert len(collection) == 3
    assert "a picture again" in collection.notes[0]


def test_sidecars_give_captions_and_pictures_without_one_are_reported(folder):
    place = folder / "train2017" / "squares"
    (place / "red.txt").write_text("\ufeffa red square\n\nred\n")
    (place / "blue.png.txt").write_text("파란 네모")
    collection = open_collection(f"{folder}?captions_from=sidecar")
    assert [dict(item.captions) for item in collection.items] == [
        {"ko": ("파란 네모",)},
        {"en": ("a red square", "red")},
    ]
    assert sum("no captions" in problem.message for problem in collection.problems) == 1
    assert sidecar_text(place / "green.png") == ""


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(wb.BadInput, match="no usable picture") as refused:
        open_collection(tmp_path)
    assert ".heic" in refused.value.hint
    with pytest.raises(wb.BadInput, match="cannot be read"):
        list(picture_files(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("stem", "caption"),
    [
        ("red_kite-02", "red kite"),
        ("IMG_1234", "IMG"),
        ("강아지 (2)", "강아지"),
        ("a.b", "a b"),
        ("1234", "1234"),
    ],
)
def test_a_name_becomes_words(stem, caption):
    assert caption_of_name(stem) == caption


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("val2017", "val"), ("Validation", "val"), ("test_images", "test"), ("cats", "")],
)
def test_a_folder_may_be_named_after_a_split(name, split):
    assert split_of_folder(name) == split
