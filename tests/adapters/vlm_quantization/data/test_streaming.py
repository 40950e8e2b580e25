"""A collection that is read through files is the same, item by item, as one that is read in memory."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import external_sort
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, UnusableLine
from adapters.vlm_quantization.data.folder import FOLDER
from adapters.vlm_quantization.data.jsonl import caption_key
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.streaming import ReadLine, Streaming


@pytest.fixture(autouse=True)
def _tiny_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sort a few records at a time, so that everything goes through files."""
    monkeypatch.setattr(external_sort, "RUN_BYTES", 2_000)
    monkeypatch.setattr(external_sort, "FAN_IN", 3)


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    folder = tmp_path / "spill"
    folder.mkdir()
    return folder


def png(colour: int, size: int = 3) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (size, size), (colour, 3 * colour % 256, 90)).save(data, "PNG")
    return data.getvalue()


def assert_same(source: str, spill: Path) -> CaptionedImages:
    """Open a source in both ways, and compare all that can be seen of it."""
    in_memory = open_collection(source)
    streamed = open_collection(source, spill=spill)
    assert type(streamed) is not type(in_memory)
    assert list(streamed.items) == list(in_memory.items)
    assert [streamed.items[row] for row in range(-1, len(streamed))] == [
        in_memory.items[row] for row in range(-1, len(in_memory))
    ]
    assert list(streamed.problems) == list(in_memory.problems)
    assert streamed.problem_summary == in_memory.problem_summary
    for what in ("name", "notes", "credits", "languages", "fingerprint", "concepts"):
        assert getattr(streamed, what) == getattr(in_memory, what), what
    assert streamed.open(0).tobytes() == in_memory.open(0).tobytes()
    assert list(spill.iterdir()) == []  # the files have no names
    return streamed


def test_a_file_with_every_kind_of_line(tmp_path: Path, spill: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.png").write_bytes(png(number if number % 10 else 0))  # copies of 00.png
    (tmp_path / "broken.png").write_bytes(png(7)[:40])
    (tmp_path / "link.png").symlink_to("11.png")
    lines: list[object] = [
        {"image": f"{number:02d}.png", "captions": {"en": [f"thing {number % 7}", "!"], "ko": ["물건"]}}
        for number in reversed(range(40))
    ]
    lines += [
        {"image": "03.png", "captions": "once more", "labels": ["a"], "keywords": {"en": "word"}},
        {"image": "link.png", "captions": "by a link", "id": "other"},
        {"image": "04.png", "id": "03.png", "captions": "the id of another"},
        {"image": "05.png", "captions": {"en": ["Thing 5!", "!"]}},
        {"image": "broken.png", "captions": "x"},
        {"image": "missing.png", "captions": "x"},
        {"image": "06.png", "captions": {}},
        {"image": "../out.png", "captions": "x"},
        {"file_name": "07.png", "text": "강아지", "extra": 1},
        "no object",
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    collection = assert_same(str(path), spill)
    assert len(collection) == 37  # three copies of the first
    assert len(collection.problems) == 6
    assert "7 lines list a picture again" in collection.notes[0]


def test_a_folder_with_splits_and_no_captions(tmp_path: Path, spill: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(12):
        place = folder / ("train" if number % 2 else "val")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number % 5}-{number}.png").write_bytes(png(number % 9))
    assert_same(str(folder), spill)
    collection = assert_same(f"{folder}?captions_from=name&labels_from=folder", spill)
    assert {item.split for item in collection.items} == {"train", "val"}


def test_tables_of_paths_and_of_pictures(tmp_path: Path, spill: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    rows = "".join(f"{number % 9}.png,caption {number}\n" for number in range(20))
    (tmp_path / "table.csv").write_text(f"image,caption\n{rows}")
    assert_same(str(tmp_path / "table.csv"), spill)
    table = pyarrow.table(
        {"image": [png(number % 6) for number in range(9)], "caption": [f"n {number}" for number in range(9)]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet", row_group_size=4)
    assert len(assert_same(str(tmp_path / "in.parquet"), spill)) == 6


def test_tars_with_one_key_twice(tmp_path: Path, spill: Path) -> None:
    for name in ("train-0.tar", "train-1.tar"):
        with tarfile.open(tmp_path / name, "w") as tar:
            for key in ("a", "b", name[-5]):
                for ending, data in ((".png", png(ord(key))), (".txt", f"caption {key}".encode())):
                    member = tarfile.TarInfo(f"{key}{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
            member = tarfile.TarInfo("lonely.txt")
            tar.addfile(member, io.BytesIO())
    collection = assert_same(str(tmp_path / "train-{0..1}.tar"), spill)
    assert [item.id for item in collection.items] == ["a", "b", "0", "train-1.tar/a", "train-1.tar/b", "1"]


def test_one_picture_in_two_splits_is_refused_in_the_same_words(tmp_path: Path, spill: Path) -> None:
    lines = []
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        lines += [{"image": f"{number}.png", "captions": "x", "split": split} for split in ("test", "train")]
    path = tmp_path / "leak.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(wb.BadInput) as in_memory:
        open_collection(path)
    with pytest.raises(wb.BadInput, match="and 3 more") as streamed:
        open_collection(path, spill=spill)
    assert streamed.value.message == in_memory.value.message


def test_without_a_usable_picture_it_says_so(tmp_path: Path, spill: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"broken")
    with pytest.raises(wb.BadInput, match=r"no usable picture in .*: 1 line was left out"):
        open_collection(tmp_path / "photos", spill=spill)
    assert FOLDER.form == "folder"


def test_memory_does_not_grow_with_the_number_of_items(spill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "RUN_BYTES", 2**15)
    monkeypatch.setattr(external_sort, "FAN_IN", 4)
    monkeypatch.setattr(external_sort, "_READ_BYTES", 2**12)
    picture = spill / "one.png"
    picture.write_bytes(png(1))
    monkeypatch.setattr("adapters.vlm_quantization.data.digests.fault_in_head", lambda image: "")

    def lines(count: int) -> object:
        for number in range(count):
            if number % 10 == 3:
                yield UnusableLine(number, "a reason")
            captions = {"en": (f"caption {number}", f"thing {number % 5}")}
            yield ReadLine(number, f"{number}.png", Item(f"id {number}", "", captions, picture))

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            steps = Streaming(spill, picture, None, None, decode=False, concept_key=caption_key)
            collection = steps.read("many", lines(count))  # type: ignore[arg-type]
            assert len(collection) == count
            assert len(collection.problems) == -(-(count - 3) // 10)
            assert len(collection.fingerprint) == 64
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(200)
    # Three thousand items in memory would be three million bytes; here a few more runs are open.
    assert peak(4_000) - peak(1_000) < 150_000
