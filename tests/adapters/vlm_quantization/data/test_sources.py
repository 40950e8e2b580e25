"""Every form of a collection is recognised and read alike, and a mistake in a source has a clear error."""

import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.data.loader import Opening, first_bytes
from adapters.vlm_quantization.data.source_text import Source, parse_sources
from adapters.vlm_quantization.data.sources import (
    LOADERS,
    NAMED,
    absolute_source,
    check_source,
    forms_in_words,
    list_collection,
    open_collection,
    recognised,
    short_name,
    why_no_captions,
)
from adapters.vlm_quantization.options import IndexOptions, TrainOptions
from tests.adapters.vlm_quantization.data import listings

#: Forms whose files name the splits, and those that have labels.
WITH_SPLITS = {"karpathy", "table", "table tsv", "table parquet", "imagefolder", "webdataset"}
WITH_LABELS = {"coco": ("square",), "table": ("square", "flat"), "table tsv": ("square", "flat")}


@pytest.mark.parametrize("form", list(listings.FORMS))
def test_every_form_is_recognised_and_read(tmp_path, form):
    source = listings.FORMS[form](tmp_path / "사진")

    (parsed,) = parse_sources(source)
    assert recognised(parsed).form == form.split(" ")[0]
    check_source(source)
    collection = open_collection(source, cache_dir=tmp_path / "cache")

    assert collection.problems == []
    by_colour = {
        colour: item for colour in listings.COLOURS for item in collection.items if colour in item.caption()
    }
    assert len(collection) == len(by_colour) == 3
    for colour, item in by_colour.items():
        assert item.captions == {"en": tuple(listings.captions(colour))}
        assert item.digest
        # A picture in a row of a table has no file to go back to.
        assert item.path.endswith(f"{colour}.png") or (form.startswith("parquet") and item.path == "")
        expected = (
            listings.SPLITS[colour]
            if form in WITH_SPLITS or "pattern" in form or "parquet" in form
            else item.split
        )
        assert item.split == expected
        assert item.labels == WITH_LABELS.get(form, ())
    picture = collection.open(collection.items.index(by_colour["red"]))
    assert picture.getpixel((2, 2)) == (255, 0, 0)
    again = open_collection(source, cache_dir=tmp_path / "cache")
    assert again.fingerprint == collection.fingerprint
    assert [item.digest for item in list_collection(source).items] == ["", "", ""]


def test_the_split_of_coco_is_in_its_name(tmp_path):
    assert {item.split for item in open_collection(listings.coco(tmp_path)).items} == {"val"}


def test_each_form_has_a_line_that_options_and_errors_show(tmp_path):
    text = forms_in_words()
    for loader in LOADERS:
        assert loader.about in text
        assert "\n" not in loader.about
        assert all(loader.options.values())
    assert text in str(TrainOptions.model_fields["collection"].description)
    with pytest.raises(wb.BadInput) as refused:
        open_collection(tmp_path / "nothing")
    assert text in refused.value.hint
    assert set(NAMED) == {"emoji", "stamps"}


def test_several_collections_are_joined_each_with_its_splits(tmp_path):
    sources = [
        listings.karpathy(tmp_path / "a"),
        listings.jsonl(tmp_path / "b"),
        listings.jsonl(tmp_path / "c"),
    ]
    collection = open_collection(sources)

    assert collection.name == "dataset_coco + lines + lines 2"
    ids = [item.id for item in collection.items]
    assert ids[:3] == ["0", "1", "2"]  # of the first alone
    assert ids[3:] == [f"{name}/{colour}.png" for name in ("lines", "lines 2") for colour in listings.COLOURS]
    assert [item.split for item in collection.items] == ["train", "val", "test", *[""] * 6]
    assert len(set(ids)) == 9
    assert collection.fingerprint == open_collection(" + ".join(sources)).fingerprint


def test_the_text_of_a_source():
    assert parse_sources("emoji + a.csv?image=my%26file&caption=en") == [
        Source("emoji"),
        Source("a.csv", {"image": "my&file", "caption": "en"}),
    ]
    for text in ("", "emoji + ", "a.csv?image", "a.csv?=x"):
        with pytest.raises(wb.BadInput):
            parse_sources(text)


def test_a_path_that_exists_is_taken_as_it_is(tmp_path):
    odd = tmp_path / "a + b?c=d.jsonl"
    odd.write_text("{}")
    assert parse_sources(str(odd)) == [Source(str(odd))]


def test_options_keep_the_source_in_one_text_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = f"emoji + {tmp_path}/a.csv?caption=title + stamps?photographs=yes"
    given = ["emoji", "a.csv?caption=title", "stamps?photographs=yes"]
    for options in (TrainOptions, IndexOptions):
        assert options(collection=given).collection == expected
        assert options(collection=" + ".join(given)).collection == expected
        assert options(collection=expected).collection == expected
    assert absolute_source("stamps:here") == f"stamps:{tmp_path}/here"
    with pytest.raises(ValueError, match="is not an option"):
        TrainOptions(collection="a.csv?image")


def test_an_unknown_option_or_value_is_refused(tmp_path):
    listings.pictures(tmp_path)
    with pytest.raises(wb.BadInput, match=r"unknown option 'caption'.*captions_from"):
        open_collection(f"{tmp_path}?caption=x")
    with pytest.raises(wb.BadInput, match="unknown option 'caption'"):
        check_source(f"{tmp_path}?caption=x")
    with pytest.raises(wb.BadInput, match="captions_from must be one of none, name, sidecar, got 'x'"):
        open_collection(f"{tmp_path}?captions_from=x")
    with pytest.raises(wb.BadInput, match="unknown option"):
        open_collection("emoji?x=y")


def test_a_file_of_no_known_form_and_a_near_name(tmp_path):
    (tmp_path / "notes.md").write_text("hello")
    for name, text, message in (
        ("x.json", "[1]", "one JSON array"),
        ("y.jsonl.gz", "\x1f", "no usable picture"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(wb.BadInput, match=message):
            open_collection(tmp_path / name)
    with pytest.raises(wb.BadInput, match="no known form"):
        open_collection(tmp_path / "notes.md")
    listings.jsonl(tmp_path)
    with pytest.raises(wb.BadInput, match=r"Did you mean '.*lines\.jsonl'"):
        open_collection(tmp_path / "line.jsonl")


def test_the_demo_of_another_collection_has_its_name(tmp_path):
    demo = VlmQuantization().demo("emoji + stamps?photographs=yes")
    assert demo["train"] == {"collection": "emoji + stamps?photographs=yes", "experiment": "emoji-stamps"}
    assert demo["index_build"]["name"] == "emoji-stamps"
    assert VlmQuantization().demo()["train"] == {}
    assert short_name("stamps:/a/b.deb") == "b"
    assert short_name("/") == "collection"


def test_why_a_folder_cannot_be_trained_on(tmp_path):
    listings.pictures(tmp_path)
    assert "captions_from=name" in why_no_captions(str(tmp_path))
    assert why_no_captions(f"{tmp_path}?captions_from=name") == ""
    assert why_no_captions("emoji") == ""
    (tmp_path / "a.jsonl").write_text("{}")
    assert "Did you mean" in why_no_captions(str(tmp_path))


def test_an_opening_knows_its_options(tmp_path):
    assert Opening({"a": "y"}).choice("a", ("x", "y")) == "y"
    assert Opening().choice("a", ("x", "y")) == "x"
    assert first_bytes(tmp_path) == b""
    assert first_bytes(tmp_path / "nothing") == b""
