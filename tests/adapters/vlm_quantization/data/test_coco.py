"""COCO's captions and Karpathy's splits: what is missing or malformed in them."""

import json
from pathlib import Path

import pytest

import workbench as wb
from adapters.vlm_quantization.data import coco
from adapters.vlm_quantization.data.places import picture_place
from adapters.vlm_quantization.data.sources import open_collection
from tests.adapters.vlm_quantization.data import listings


def rewrite(source, change):
    path = Path(source)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("annotations"), "has no list of 'annotations'"),
        (lambda document: document.update(images={"a": 1}), "has no list of 'images'"),
        (lambda document: document.update(images=[1]), "has no list of 'images'"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path, change, message):
    source = rewrite(listings.coco(tmp_path), change)
    with pytest.raises(wb.BadInput, match=message) as refused:
        open_collection(source)
    assert "Karpathy" in refused.value.hint


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[1]", ""])
def test_what_is_not_json_is_refused(tmp_path, text):
    path = tmp_path / "captions_x.json"
    path.write_text(text)
    with pytest.raises(wb.BadInput, match=r"is not JSON|must hold one JSON object"):
        open_collection(path)


def test_pictures_that_are_missing_or_outside_and_captions_that_are_none(tmp_path):
    def change(document):
        document["images"] += [
            {"id": 10, "file_name": "gone.png"},
            {"id": 11, "file_name": "../../outside.png"},
            {"id": 12, "file_name": 7},
            {"id": 13, "file_name": "red.png"},
        ]
        document["annotations"] += [{"image_id": number, "caption": "x"} for number in (10, 11, 12, 99)]
        document["annotations"].append({"image_id": 0, "caption": 5})

    (tmp_path / "outside.png").write_bytes(listings.png("white"))
    collection = open_collection(rewrite(listings.coco(tmp_path / "coco"), change))

    reasons = {problem.line: problem.message for problem in collection.problems}
    assert "list of strings" in reasons[1]
    assert "no such file" in reasons[4]
    assert "outside" in reasons[5]
    assert "no such file" in reasons[6]
    assert "no captions" in reasons[7]
    assert len(collection) == 2
    assert "Line numbers count the entries of 'images'." in collection.notes


def test_the_folder_of_the_pictures_can_be_named(tmp_path):
    source = listings.coco(tmp_path / "a")
    (tmp_path / "a" / "val2017").rename(tmp_path / "elsewhere")
    with pytest.raises(wb.BadInput, match="no usable picture") as refused:
        open_collection(source)
    assert "images=FOLDER" in refused.value.hint
    assert len(open_collection(f"{source}?images={tmp_path}/elsewhere")) == 3
    assert len(open_collection(f"{source}?images=../../elsewhere")) == 3
    with pytest.raises(wb.BadInput, match="no such folder"):
        open_collection(f"{source}?images=nowhere")


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(coco, "MAX_BYTES", 10)
    with pytest.raises(wb.BadInput, match="larger than"):
        open_collection(listings.karpathy(tmp_path))


def test_an_unknown_split_of_karpathys_is_reported(tmp_path):
    source = rewrite(listings.karpathy(tmp_path), lambda document: document["images"][0].update(split="oops"))
    collection = open_collection(source)
    assert len(collection) == 2
    assert "unknown split 'oops'" in collection.problems[0].message


def test_names_that_lead_outside_are_not_looked_for(tmp_path):
    listings.pictures(tmp_path / "images")
    path = tmp_path / "list.json"
    assert picture_place(path, "", ["red.png"], []) == (tmp_path, "images/")
    assert picture_place(path, "", ["../images/red.png", "/etc/hostname"], []) == (tmp_path, "")
