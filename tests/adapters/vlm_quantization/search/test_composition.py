"""Composed queries on a small index: sums of encoded terms, checked by hand, and their notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import pack_codes
from adapters.vlm_quantization.index import thresholds
from adapters.vlm_quantization.index.opened import Index, load_index
from adapters.vlm_quantization.search.composition import MINUS, composed_query, search_composed
from adapters.vlm_quantization.search.funnel import Query
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.queries import search_text
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build, picture

RANDOM = np.random.default_rng(5)


class Known(SmallEncoder):
    """The small encoder, which knows languages and tells how far each bit is from its threshold."""

    languages = ("en", "ko")

    def margins_of(self, features: np.ndarray, side: str) -> np.ndarray:
        return (features @ self._planes).astype(np.float32)


@pytest.fixture(scope="module", params=[Known, SmallEncoder])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "UNRELATED_PAIRS_MIN", 1_000)
        folder = tmp_path_factory.mktemp("composition")
        (model := folder / "model.safetensors").write_bytes(b"model")
        path = build(folder / "indexes", model_file=model).path
        return load_index(path, lambda _: request.param())


def composed(index: Index, *terms: tuple[float, wb.Term], k: int = 5, **options: Any) -> wb.SearchResult:
    return search_composed(index, terms, k, SearchOptions.model_validate(options))


def text(words: str) -> wb.Term:
    return wb.Term("text", words)


def item(name: str) -> wb.Term:
    return wb.Term("item", name)


def query(margins: bool = True) -> Query:
    feature = RANDOM.standard_normal(24)
    values = RANDOM.standard_normal(128).astype(np.float32)
    unit = (feature / np.linalg.norm(feature)).astype(np.float32)
    return Query(pack_codes(values[None] >= 0)[0], unit, values if margins else None)


def test_margins_and_features_are_added_and_a_minus_counts_half() -> None:
    one, two, three = query(), query(), query(margins=False)
    assert one.margins is not None
    assert two.margins is not None
    sum_of = composed_query([(2, one), (-1, two), (0.5, three)])
    margins = 2 * one.margins - MINUS * two.margins + 0.5 * (np.unpackbits(three.code) * 2.0 - 1)
    assert sum_of.margins == pytest.approx(margins, abs=1e-6)
    assert np.array_equal(np.unpackbits(sum_of.code), margins >= 0)
    features = 2 * one.feature - MINUS * two.feature + 0.5 * three.feature
    assert sum_of.feature == pytest.approx(features / np.linalg.norm(features), abs=1e-6)
    alone = composed_query([(3, one)])
    assert np.array_equal(alone.code, one.code)
    assert alone.feature == pytest.approx(one.feature, abs=1e-6)


def test_terms_that_cancel_each_other_out_are_refused(index: Index) -> None:
    for terms in (
        [(1, text("thing 3")), (-1 / MINUS, text("thing 3"))],
        [(1, item("plain:003")), (1, item("plain:003")), (-2 / MINUS, item("plain:003"))],
    ):
        with pytest.raises(wb.BadInput, match="cancel each other out") as refused:
            composed(index, *terms)
        assert "Take away less" in refused.value.hint


def test_a_single_text_finds_what_a_search_by_text_ranks(index: Index) -> None:
    words = "any 12 thing"  # named by no item
    for options in ({}, {"method": "cosine"}, {"bits": 16, "target": "captions"}):
        plain = search_text(index, words, 5, SearchOptions.model_validate(options))
        assert [hit.id for hit in composed(index, (0.3, text(words)), **options)] == [hit.id for hit in plain]


def test_items_and_pictures_are_averaged_and_items_are_no_hits(index: Index) -> None:
    side = index.sides["images"]
    three, eight = (side.items.find(name) for name in ("plain:003", "plain:008"))
    mean = side.features[three] + side.features[eight]
    order = [row for row in np.argsort(-(side.features @ mean), kind="stable") if row not in (three, eight)]
    both = composed(index, (1, item("plain:003")), (1, item("plain:008")), k=6, method="cosine")
    assert [hit.id for hit in both] == [side.items[int(row)]["id"] for row in order[:6]]
    pictures = [(1.0, wb.Term("image", picture(3), "a.png")), (1.0, wb.Term("image", picture(8)))]
    with_pictures = [hit.id for hit in composed(index, *pictures, k=8, method="cosine")]
    assert {"plain:003", "plain:008", *(hit.id for hit in both)} == set(with_pictures)
    everything = composed(index, (1, item("plain:003")), (-0.1, item("plain:008")), k=100)
    assert len(everything) == 58
    assert "only 58 are shown" in everything.note
    captions = composed(index, (1, item("plain:003")), k=100, target="captions")
    assert captions.note.startswith("the index has")  # a picture is no caption, so none is left out
    assert len(captions) == len(index.sides["captions"])
    own = composed(index, (1, item("003:en:0")), k=5, target="captions")
    assert "003:en:0" not in [hit.id for hit in own]


def test_a_minus_takes_its_thing_away(index: Index) -> None:
    plus = (1, wb.Term("image", picture(3)))
    before = composed(index, plus, (0.4, wb.Term("image", picture(8))), k=60, method="cosine")
    after = composed(index, plus, (-0.4, wb.Term("image", picture(8))), k=60, method="cosine")
    scores = [next(hit.score for hit in result if hit.id == "plain:008") for result in (before, after)]
    assert scores[0] > scores[1] + 0.2
    assert after[0].id == "plain:003"


def test_what_was_not_understood_is_said(index: Index) -> None:
    thing = (1.0, text("thing 3"))
    beside = composed(index, thing, (1, text("dog \N{DOG FACE}")))
    assert "is left out" in beside.note
    assert composed(index, thing, (-1, text("the"))).cutoff is None  # unknown for a sum
    assert composed(index, (1, text("of the"))).cutoff == 0
    assert composed(index, (1, text("the")), (-1, text("thing 3"))).cutoff == 0
    with pytest.raises(wb.BadInput, match="no letter or digit"):
        composed(index, thing, (-1, text("?!")))
    with pytest.raises(wb.NotFound, match="no item 'plain:999'"):
        composed(index, thing, (1, item("plain:999")))
    if isinstance(index.encoder, Known):
        hindi = composed(index, thing, (1, text("नमस्ते")))
        assert "in a script that this search does not know (Devanagari" in hindi.note
        assert hindi.cutoff is None
        assert composed(index, (1, text("नमस्ते")), (1, text("the"))).cutoff == 0


def test_it_goes_through_every_method(index: Index) -> None:
    terms = [(1, text("thing 3")), (0.5, wb.Term("image", picture(8)))]
    cosine = composed(index, *terms, method="cosine")
    funnel = composed(index, *terms, method="funnel", survivors=[60, 60, 60])
    assert [hit.id for hit in funnel] == [hit.id for hit in cosine]
    assert "by 32 bits" in funnel.note
    asymmetric = composed(index, *terms, rescore="bits")  # a sum has margins whatever its terms have
    assert len(asymmetric) == 5
