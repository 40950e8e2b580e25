"""Filters of an index: exact at every selectivity, length, k and side, against a second opinion by hand."""

import copy
import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.index import blocks
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.items import ItemLines
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.search import filters
from adapters.vlm_quantization.search.filters import ItemFilters, words_of_choice
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.queries import search_image, search_item, search_text
from tests.adapters.vlm_quantization.search.items import holds, values_of
from tests.adapters.vlm_quantization.small_index import (
    SmallCollection,
    SmallEncoder,
    SmallItem,
    build,
    picture,
)

LABELS = ("animal", "red", "round", "물건")


@dataclass(frozen=True)
class _Item(SmallItem):
    split: str = ""


class Varied(SmallCollection):
    """Labels, groups and splits by the number of the concept; every fifth concept has no Korean caption."""

    def __init__(self):
        super().__init__()
        self.items = [self.varied(item) for item in self.items]

    @staticmethod
    def varied(item):
        number = int(item.concept)
        captions = {**item.captions} if number % 5 else {"en": item.captions["en"]}
        return _Item(
            item.id,
            item.concept,
            captions,
            labels=tuple(label for place, label in enumerate(LABELS) if number >> place & 1),
            style=item.style,
            group=("odd one", "even")[number % 2 == 0],
            flag=number < 3,
            split=("train", "test", "")[number % 3],
        )


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = build(tmp_path_factory.mktemp("filters"), collection=Varied()).path
    return load_index(path, lambda file: SmallEncoder())


@pytest.fixture(scope="module")
def items(index):
    return {name: [side.items[row] for row in range(len(side))] for name, side in index.sides.items()}


def expected(items, side, text):
    """Return which items match, one by one; what only the other side has is looked up by the concept."""
    tree = wb.parse_filter(text)
    other = items["captions" if side == "images" else "images"]
    own = {"images": set(), "captions": {"id", "concept", "language", "caption"}}[side]

    def values(item, field):
        if side == "images" or field in own:
            return values_of(item, field)
        return [
            one for there in other if there["concept"] == item["concept"] for one in values_of(there, field)
        ]

    def has(item):
        def one(condition):
            found = values(item, condition.field)
            if condition.field == "flag":
                found = [str(value).lower() for value in found]
            # what only the other side has is looked up there, so a value is missing if one of them lacks it
            if (
                side == "captions"
                and condition.field not in own
                and any(not v.text and not v.prefix for v in condition.values)
            ):
                there = [o for o in other if o["concept"] == item["concept"]]
                return np.bool_(any(holds(condition, values_of(o, condition.field)) for o in there))
            return np.bool_(holds(condition, found))

        return bool(tree.combine(one))

    return np.array([has(item) for item in items[side]])


def top(index, side, code, feature, bits, method, mask, k):
    """Return the best rows among some by brute force, and their values."""
    one = index.sides[side]
    rows = np.flatnonzero(mask)
    if method == "hamming":
        differ = np.bitwise_xor(np.asarray(one.codes[rows]), code)[:, : bits // 8]
        values = np.unpackbits(differ, axis=1).sum(axis=1, dtype=np.int64)
        order = np.lexsort((rows, values))[:k]
    else:
        values = (np.asarray(one.features[rows], np.float64) * feature).sum(axis=1)
        order = np.lexsort((rows, -values))[:k]
    return rows[order].tolist(), values[order].tolist()


_VALUES = {
    "label": (*LABELS, "a*", "r*", "*", '""'),
    "style": ("plain", "framed", "fra*"),
    "group": ("even", '"odd one"', '"odd "*'),
    "split": ("train", "test", "*", '""'),
    "flag": ("true", "false"),
    "concept": ("007", "00*", "01*"),
    "language": ("en", "ko", "*"),
    "caption": ('"thing 1"', "THING", '"물건 2"', "object*", "nowhere"),
}


def _condition(field):
    values = st.lists(st.sampled_from(_VALUES[field]), min_size=1, max_size=3, unique=True)
    return values.map(lambda ones: f"{field}:({', '.join(ones)})")


_FILTERS = st.recursive(
    st.sampled_from([*_VALUES]).flatmap(_condition),
    lambda parts: st.one_of(
        parts.map("not ({})".format),
        st.tuples(parts, parts).map("({0[0]}) and ({0[1]})".format),
        st.tuples(parts, parts).map("({0[0]}) or ({0[1]})".format),
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=120)
@given(
    text=_FILTERS,
    side=st.sampled_from(["images", "captions"]),
    bits=st.sampled_from(CODE_LENGTHS),
    method=st.sampled_from(["hamming", "cosine"]),
    k=st.integers(1, 70),
    query=st.integers(0, 59),
)
def test_a_filtered_search_is_exact(index, items, text, side, bits, method, k, query):
    chosen = index.filters.chosen(text, side)
    mask = expected(items, side, text)
    assert chosen.count == mask.sum()
    assert np.array_equal(chosen.holds(np.arange(len(mask))), mask)
    asked = index.sides["images"]
    code, feature = asked.codes[query], asked.features[query]
    rows, values = index.search(code, feature, side=side, bits=bits, method=method, k=k, among=chosen.among)
    best, far = top(index, side, code, feature, bits, method, mask, k)
    assert rows.tolist() == best
    assert values.tolist() == pytest.approx(far)
    if method == "hamming":
        radius = int(np.median(far)) if far else 3
        near, _ = index.search(code, feature, side=side, bits=bits, k=1, radius=radius, among=chosen.among)
        everything, distances = top(index, side, code, feature, bits, method, mask, len(mask))
        assert near.tolist() == [
            row for row, distance in zip(everything, distances, strict=True) if distance <= radius
        ]


@pytest.mark.parametrize("bits", CODE_LENGTHS)
@pytest.mark.parametrize("count", [0, 1, 2, 30, 59, 60])
def test_any_set_of_ids_is_searched_exactly(index, items, bits, count):
    rows = np.sort(np.random.default_rng(count).choice(60, count, replace=False))
    mask = np.zeros(60, bool)
    mask[rows] = True
    text = (
        f"id:({', '.join(items['images'][row]['id'] for row in rows)})" if count else "flag:true flag:false"
    )
    code, feature = index.sides["images"].codes[7], index.sides["images"].features[7]
    for method in ("hamming", "cosine"):
        options = SearchOptions(filter=text, bits=bits, method=method)
        for k in (1, 7, 60):
            # the picture that is searched with is not among its own hits
            mask[7] = False
            hits = search_item(index, items["images"][7]["id"], k, options).hits
            best, _ = top(index, "images", code, feature, bits, method, mask, k)
            assert [hit.id for hit in hits] == [items["images"][row]["id"] for row in best]
            mask[rows] = True


# --- what is found ------------------------------------------------------------------------------------------


def found(index, text, query="thing 5", k=5, **options):
    return search_text(index, query, k, SearchOptions(filter=text, **options))


def test_the_note_says_how_many_match_and_if_none_does(index):
    assert "30 of 60 pictures match the filter" in found(index, "style:plain").note
    assert found(index, "label:animal and not label:animal").note.endswith(
        "no picture matches the filter label:animal and not label:animal"
    )
    assert found(index, "label:animal and not label:animal").hits == ()
    assert "2 of 60 pictures match the filter" in found(index, "concept:003").note
    assert len(found(index, "concept:003").hits) == 2
    assert "1 of 84 captions matches" in found(index, "id:003:ko:0", target="captions").note
    assert "filter" not in found(index, "").note
    assert "filter" not in found(index, "  ").note
    one = search_item(index, "plain:003", 5, SearchOptions(filter="id:plain:003"))
    assert (one.hits, one.note) == ((), "no other picture matches the filter id:plain:003")
    long = f"label:animal not caption:({', '.join('t' * 9 for _ in range(90))}) not label:animal"
    assert len(found(index, long).note) < 400


def test_what_is_named_exactly_comes_first_only_if_it_matches(index):
    both = [hit.id for hit in found(index, "").hits[:2]]
    assert both == ["framed:005", "plain:005"]
    plain = found(index, "style:plain")
    assert plain.hits[0].id == "plain:005"
    assert all(hit.id.startswith("plain") for hit in plain.hits)
    assert "named exactly" in plain.note
    other = found(index, "not concept:005")
    assert "005" not in " ".join(hit.id for hit in other.hits)
    assert "named exactly" not in other.note


def changed(index, **fields):
    """Return the index with another manifest."""
    other = copy.copy(index)
    other.manifest = index.manifest.model_copy(update=fields)
    return other


def test_the_cutoff_counts_only_what_matches(index):
    pairs = [files.pair_key(one, other) for one in files.SIDES for other in files.SIDES]
    near = changed(index, thresholds={pair: {"128": 128.0} for pair in pairs})
    assert found(near, "concept:(003, 004)").cutoff == 4
    assert found(near, "style:plain", k=40).cutoff == 30
    assert found(near, "flag:true flag:false").cutoff == 0


def test_a_picture_searches_with_a_filter_too(index):
    result = search_image(index, picture(5), 60, SearchOptions(filter="label:물건 and split:test"))
    assert {int(hit.id[-3:]) for hit in result} == {n for n in range(30) if n & 8 and n % 3 == 1}


# --- radius -------------------------------------------------------------------------------------------------


def test_a_radius_finds_all_within_it_up_to_k(index):
    everything = found(index, "", query="object no. 9", k=60, bits=32)
    distances = [hit.distance for hit in everything]
    radius = int(sorted(distances)[10])
    inside = [hit for hit in everything if hit.distance <= radius]
    result = found(index, "", query="object no. 9", k=60, bits=32, radius=radius)
    assert list(result) == inside
    assert f"{len(inside)} pictures are within {radius} of 32 bits" in result.note
    few = found(index, "", query="object no. 9", k=3, bits=32, radius=radius)
    assert list(few) == inside[:3]
    assert f"within {radius} of 32 bits, and the nearest 3 are shown" in few.note
    assert found(index, "", bits=32, radius=0).note == "no picture is within 0 of 32 bits"
    plain = found(index, "style:plain", query="object no. 9", k=60, bits=32, radius=radius)
    assert list(plain) == [hit for hit in inside if hit.id.startswith("plain")]
    assert "no picture matches" in found(index, "flag:true flag:false", radius=3).note
    near = search_item(index, "plain:003", 60, SearchOptions(radius=128))
    assert len(near.hits) == 59
    assert "59 pictures are within 128 of 128 bits" in near.note


def test_what_is_named_exactly_must_be_within_the_radius_too(index):
    own = found(index, "concept:005", bits=32).hits[0].distance
    assert found(index, "", bits=32, radius=int(own)).hits[0].id == "framed:005"
    beyond = found(index, "", bits=32, radius=int(own) - 1)
    assert "framed:005" not in [hit.id for hit in beyond]


def test_a_radius_needs_codes(index):
    with pytest.raises(
        wb.BadOptions, match="a radius counts differing bits, which cosine does not"
    ) as caught:
        found(index, "", method="cosine", radius=3)
    assert caught.value.problems[0][0] == "radius"


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "problem", "hint"),
    [
        (
            "stile:plain",
            "pictures",
            "column 1: unknown field 'stile'; did you mean 'style'",
            "Fields: caption",
        ),
        (
            "label:Animal",
            "pictures",
            "no picture has the label 'Animal'; did you mean 'animal'",
            "animal, red",
        ),
        (
            "label:(red, rond)",
            "captions",
            "column 13: no picture has the label 'rond'; did you mean 'round'",
            "",
        ),
        ("not label:zz*", "pictures", r"column 11: the label of no picture begins with 'zz'", "animal"),
        ("language:fr", "captions", "no caption has the language 'fr'", "en, ko"),
        ("id:plain:003", "captions", "no caption has the id 'plain:003'", ""),
        ("id:nothing", "pictures", "no picture has the id 'nothing'", ""),
        ("label:", "pictures", "column 7: expected a value after 'label:'", "label:animal"),
    ],
)
def test_unknown_fields_and_values_are_refused_with_the_known_ones(index, text, target, problem, hint):
    with pytest.raises(wb.BadOptions, match=problem) as caught:
        found(index, text, target=target)
    assert hint in caught.value.hint
    assert caught.value.problems[0][0] == "filter"


def test_names_of_fields_may_be_in_any_case(index):
    assert found(index, "Style:plain").hits == found(index, "style:plain").hits


@settings(deadline=None, max_examples=150)
@given(
    text=st.one_of(
        st.text(max_size=20),
        st.lists(
            st.sampled_from(
                [*_VALUES, ":", "(", ")", "and ", "or ", "not ", "red", "*", ",", '"', ">", "2024", "id"]
            ),
            max_size=9,
        ).map("".join),
    ),
    side=st.sampled_from(["images", "captions"]),
)
def test_whatever_is_typed_is_a_filter_or_an_error_of_the_option(index, text, side):
    try:
        chosen = index.filters.chosen(text, side)
    except wb.BadOptions as error:
        names = [name for name, _ in error.problems]
    else:
        names = ["filter"] if chosen is None or 0 <= chosen.count <= 84 else []
    assert names == ["filter"]


# --- files --------------------------------------------------------------------------------------------------


def test_an_altered_byte_of_the_items_ends_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 256)
    folder = build(tmp_path, collection=Varied()).path
    path = folder / files.items_file("images")
    data = bytearray(path.read_bytes())
    data[data.index(b"plain:003")] ^= 1
    path.write_bytes(data)
    altered = load_index(folder, lambda file: SmallEncoder(), verify=False)
    assert altered.filters.chosen("style:plain", "images").count == 30  # another column
    with pytest.raises(wb.CorruptFile, match="the file was altered"):
        altered.filters.chosen("id:plain:004", "images")


def test_the_items_of_an_earlier_format_are_filtered_too(items, tmp_path):
    sides = {}
    for side, rows in items.items():
        (path := tmp_path / side).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        sides[side] = ItemLines(path, side)
    old = ItemFilters(sides)
    for side, text in (("images", "label:red and language:ko"), ("captions", "split:test or caption:*")):
        mask = expected(items, side, text)
        assert np.array_equal(old.chosen(text, side).holds(np.arange(len(mask))), mask)


# --- kept ---------------------------------------------------------------------------------------------------


def test_a_filter_is_evaluated_once_and_what_is_kept_is_bounded(index, monkeypatch):
    one = ItemFilters({name: side.items for name, side in index.sides.items()})
    first = one.chosen("style:plain and label:red", "images")
    assert one.chosen("style:plain label:red", "images") is first
    assert one.chosen("style:plain and label:red", "captions") is not first
    monkeypatch.setattr(filters, "KEPT_BYTES", 200)  # three masks of 60 pictures
    for text in ("label:red", "label:round", "label:animal"):
        one.chosen(text, "images")
    assert sum(chosen.among.nbytes for chosen in one._kept.values()) <= 200
    assert one.chosen("style:plain and label:red", "images") is not first
    last = one.chosen("label:animal", "images")
    one.chosen("label:*", "images")
    assert one.chosen("label:animal", "images") is last


def test_few_items_are_kept_by_their_rows(index):
    assert index.filters.chosen("id:plain:003", "images").among.tolist() != []
    many = index.filters.chosen("style:plain", "images")
    assert many.among.dtype == bool
    few = index.filters.chosen("id:003:ko:0", "captions")
    assert few.among.dtype == np.int64
    assert few.holds(np.array([0, few.among[0]])).tolist() == [few.among[0] == 0, True]


def test_words_of_choice_name_the_side(index):
    chosen = index.filters.chosen("style:plain", "images")
    assert words_of_choice(chosen, "images", 60) == "30 of 60 pictures match the filter"


def test_concepts_are_looked_up_in_parts(index, items, monkeypatch):
    monkeypatch.setattr(filters, "_CONCEPTS_AT_ONCE", 1)
    other = ItemFilters({name: side.items for name, side in index.sides.items()})
    mask = expected(items, "captions", "label:red")
    assert np.array_equal(other.chosen("label:red", "captions").holds(np.arange(len(mask))), mask)


# --- suggestions --------------------------------------------------------------------------------------------


def test_fields_are_described_with_their_most_frequent_values(index, monkeypatch):
    known = {one.name: one for one in index.filters.describe()}
    assert known["style"].values == [("framed", 30), ("plain", 30)]
    assert known["language"].values == [("en", 60), ("ko", 48)]
    assert known["flag"].values == [("false", 54), ("true", 6)]
    assert known["split"].values == [("test", 20), ("train", 20)]
    assert known["label"].values[0][1] == max(count for _, count in known["label"].values)
    assert known["caption"].values == []
    assert known["id"].values == []
    assert not {"size", "path", "subtitle", "other"} & known.keys()  # no item has them
    monkeypatch.setattr(filters, "SUGGESTED", 2)
    assert {one.name: one for one in index.filters.describe()}["label"].more


def test_fields_that_tell_where_files_are_are_private(index):
    assert index.describe()["private_fields"] == []
    in_files = changed(index, provenance={**index.manifest.provenance, "root": "/home/someone"})
    assert in_files.describe()["private_fields"] == ["concept", "id", "modified", "path", "size"]
