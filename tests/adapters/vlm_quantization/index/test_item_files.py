"""The file of a hit: given as long as it is the one that was indexed, and no other."""

import os
import shutil
from pathlib import Path

import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.data import open_collection
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.opened import Index, load_index
from adapters.vlm_quantization.search.options import SearchOptions
from tests.adapters.vlm_quantization import small_index
from tests.adapters.vlm_quantization.data import listings
from tests.adapters.vlm_quantization.resealing import items_of, write_items
from tests.adapters.vlm_quantization.small_index import SmallEncoder

ITEM = "2024/red.png"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return listings.pictures(tmp_path / "photos" / "2024").parent


@pytest.fixture
def index(tmp_path: Path, photos: Path) -> Index:
    report = build_index(tmp_path / "indexes", open_collection(photos), SmallEncoder(), name="photos")
    return load_index(report.path, lambda _: SmallEncoder())


def test_a_hit_leads_to_its_file(index: Index, photos: Path, tmp_path: Path) -> None:
    searcher = wb.Searcher(VlmQuantization(), index, "photos")
    best, *_ = searcher.by_image(photos / ITEM)
    assert searcher.item_file(best) == photos / ITEM
    saved = searcher.save_file(best, tmp_path)
    assert saved == tmp_path / "red.png"
    assert saved.read_bytes() == (photos / ITEM).read_bytes()


def test_a_file_that_is_gone_is_not_found(index: Index, photos: Path) -> None:
    (photos / ITEM).unlink()
    with pytest.raises(wb.NotFound, match="is missing") as caught:
        index.picture_file(ITEM)
    assert str(photos) not in caught.value.message + caught.value.hint
    assert str(photos) in caught.value.advice


@pytest.mark.parametrize("how", ["other size", "same size", "same size, in its place"])
def test_a_file_that_has_changed_is_refused(index: Index, photos: Path, how: str) -> None:
    path = photos / ITEM
    data = path.read_bytes()
    if how == "other size":
        path.write_bytes(data + b"\0")
    elif how == "same size":
        path.write_bytes(data[:-1] + b"\0")
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    else:
        shutil.copyfile(photos / "2024" / "blue.png", path)
        os.truncate(path, len(data))
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(wb.WrongState, match="has changed since it was indexed"):
        index.picture_file(ITEM)


def test_a_path_that_leads_elsewhere_by_now_is_refused(index: Index, photos: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    (photos / ITEM).rename(secret)  # of the same size and time, as the index knows them
    (photos / ITEM).symlink_to(secret)
    with pytest.raises(wb.WrongState, match="leads out of the folder"):
        index.picture_file(ITEM)


def test_a_folder_in_its_place_is_refused(index: Index, photos: Path) -> None:
    (photos / ITEM).unlink()
    (photos / ITEM).mkdir()
    with pytest.raises(wb.WrongState):
        index.picture_file(ITEM)


@pytest.mark.parametrize(
    "item", ["", "..", "../../etc/passwd", "2024/none.png", "red:en:0", "\0", "/etc/passwd"]
)
def test_an_unknown_item_has_no_file(index: Index, item: str) -> None:
    with pytest.raises(wb.NotFound, match="no picture"):
        index.picture_file(item)


def with_items(index: Index, **changes: object) -> Index:
    """Return the index with other entries, as one of an earlier version or of somebody else may have them."""
    rows = items_of(index.path, "images")
    for row in rows:
        row.update(changes)
        if row.get("file") is None:
            row.pop("file", None)
    write_items(index.path, "images", rows)
    return load_index(index.path, lambda _: SmallEncoder())


def test_an_index_of_before_sizes_were_kept_gives_files_older_than_itself(index: Index, photos: Path) -> None:
    old = with_items(index, file=None)
    assert old.picture_file(ITEM) == photos / ITEM
    later = (index.path / "manifest.json").stat().st_mtime_ns + 1
    os.utime(photos / ITEM, ns=(later, later))
    with pytest.raises(wb.WrongState, match="has changed"):
        old.picture_file(ITEM)


def test_a_path_that_leads_out_is_refused_whatever_the_index_says(index: Index, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(wb.WrongState, match="leads out of the folder"):
        with_items(index, file=None, path="../../secret.txt").picture_file(ITEM)


def test_pictures_without_a_file_of_their_own_say_so(tmp_path: Path) -> None:
    report = small_index.build(tmp_path)
    index = load_index(report.path, lambda _: SmallEncoder())
    with pytest.raises(wb.NotFound, match="no file of its own"):
        index.picture_file("plain:003")


def test_captions_are_offered_as_results_only_where_there_are_some(index: Index, tmp_path: Path) -> None:
    assert index.describe()["choices"] == {"target": ["pictures"]}
    other = load_index(small_index.build(tmp_path / "more").path, lambda _: SmallEncoder())
    assert "choices" not in other.describe()
    assert set(index.describe()["choices"]) <= set(SearchOptions.model_fields)


def test_pictures_to_start_with_are_spread_over_the_index(tmp_path: Path) -> None:
    index = load_index(small_index.build(tmp_path).path, lambda _: SmallEncoder())
    family = VlmQuantization()
    hits = family.sample_items(index, 12)
    rows = [index.sides["images"].items.find(hit.id) for hit in hits]
    assert rows == [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55]
    assert all(hit.thumbnail and hit.caption for hit in hits)
    assert len(family.sample_items(index, 100)) == 60
    assert len({hit.id for hit in family.sample_items(index, 100)}) == 60
