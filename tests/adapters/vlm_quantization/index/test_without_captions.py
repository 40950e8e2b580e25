"""An index of a folder of pictures without captions: built, described, and searched by picture."""

from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.data import open_collection
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.search.options import SearchOptions
from tests.adapters.vlm_quantization.data import listings
from tests.adapters.vlm_quantization.small_index import SmallEncoder


def test_a_plain_folder_is_indexed_and_searched_by_picture(tmp_path):
    folder = listings.pictures(tmp_path / "photos" / "2024").parent
    collection = open_collection(folder)
    assert [item.caption() for item in collection.items] == [
        "2024/blue.png",
        "2024/green.png",
        "2024/red.png",
    ]
    assert len({item.concept for item in collection.items}) == 3

    report = build_index(tmp_path / "indexes", collection, SmallEncoder(), name="photos")

    assert (report.images, report.captions, report.skipped) == (3, 0, ())
    index = load_index(report.path, lambda _: SmallEncoder())
    family = VlmQuantization()
    best, *_ = family.search_by_image(index, listings.png("red"), 3, SearchOptions())
    assert (best.id, best.caption, best.distance) == ("2024/red.png", "red.png", 0)
    assert [hit.id for hit in family.search_by_item(index, "2024/red.png", 2, SearchOptions())]
    assert len(list(family.search_by_text(index, "red", 3, SearchOptions()))) == 3
    captions = family.search_by_text(index, "red", 3, SearchOptions(target="captions"))
    assert list(captions) == []
    assert family.describe_index(index)["subtitle"] == "photos: 3 pictures · drop a picture"
    assert family.sample_queries(index) == []
