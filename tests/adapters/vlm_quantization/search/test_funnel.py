"""The funnel: with as many survivors as items it is the search of its last stage; it says what it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, margins_of, pack_codes
from adapters.vlm_quantization.index import thresholds
from adapters.vlm_quantization.index.opened import Index, load_index
from adapters.vlm_quantization.index.ranking import cosine_search
from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes
from adapters.vlm_quantization.search.funnel import (
    Query,
    funnel_search,
    rescored,
    stage_lengths,
    survivors_of,
)
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.queries import search_item, search_text
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build

N, DIM = 500, 24


class Known(SmallEncoder):
    """The small encoder, which tells how far each bit is from its threshold."""

    def margins_of(self, features: np.ndarray, side: str) -> np.ndarray:
        assert side in ("image", "text")
        return (features @ self._planes).astype(np.float32)


def made(seed: int) -> tuple[PrefixCodes, np.ndarray, list[Query]]:
    """Return codes, features, and queries: items among items, some of them equal."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((N, DIM)).astype(np.float32)
    features[::7] = features[0]  # ties
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    margins = (features @ random.standard_normal((DIM, 128))).astype(np.float32)
    codes = pack_codes(margins >= 0)
    queries = [Query(codes[row], features[row], margins[row]) for row in (0, 3, 7, 499)]
    return PrefixCodes(codes), features, queries


@pytest.mark.parametrize("k", [1, 10, N, 2 * N])
@pytest.mark.parametrize("bits", [8, 64, 128])
def test_with_all_items_as_survivors_it_is_the_search_of_its_last_stage(k: int, bits: int) -> None:
    prefixes, features, queries = made(bits)
    lengths = stage_lengths(CODE_LENGTHS, bits)
    for query in queries:
        everything: dict[str, Any] = {"lengths": lengths, "survivors": [N] * len(lengths), "k": k}
        found = funnel_search(prefixes, features, query, **everything)
        rows, cosines = cosine_search(features, query.feature, k=k)
        assert found.rows.tolist() == rows.tolist()
        np.testing.assert_allclose(found.scores, cosines, atol=1e-12)

        found = funnel_search(prefixes, features, query, **everything, rescore="bits")
        table = np.unpackbits(prefixes.columns[np.arange(N)], axis=1)[:, :bits]
        assert query.margins is not None
        scores = [
            sum(float(m) if bit else -float(m) for bit, m in zip(row, query.margins[:bits], strict=True))
            for row in table
        ]
        order = sorted(range(N), key=lambda row: (-round(scores[row], 6), row))[:k]
        assert found.rows.tolist() == order
        assert found.scores[0] == pytest.approx(1.0)  # the query is an item: all its bits agree


def test_each_stage_leaves_the_nearest_of_those_before_it() -> None:
    prefixes, features, queries = made(1)
    query = queries[1]
    found = funnel_search(prefixes, features, query, lengths=(8, 32, 128), survivors=(90, 40, 15), k=5)
    left = np.arange(N)
    for stage, bits, most in zip(found.stages, (8, 32, 128), (90, 40, 15), strict=False):
        distances = np.bitwise_count(prefixes.columns[left][:, : bits // 8] ^ query.code[: bits // 8]).sum(1)
        left = np.sort(left[np.lexsort((left, distances))[:most]])
        assert np.sort(stage.rows).tolist() == left.tolist()
        assert stage.name == f"{bits} bits"
        assert stage.took_ms > 0
    assert (
        found.rows.tolist() == left[np.argsort(-(features[left] @ query.feature), kind="stable")[:5]].tolist()
    )
    assert found.stages[-1].name == "float cosine"


def test_it_searches_among_some_items_only() -> None:
    prefixes, features, queries = made(2)
    mask = np.arange(N) % 3 == 1
    for among in (mask, np.flatnonzero(mask), np.array([4, 9])):
        found = funnel_search(
            prefixes, features, queries[0], lengths=(8, 128), survivors=(60, 30), k=10, among=among
        )
        allowed = np.flatnonzero(among) if among is mask else among
        assert set(found.rows.tolist()) <= set(allowed.tolist())
        assert len(found.rows) == min(10, len(allowed))


def test_survivors_shrink_and_keep_a_share_of_a_large_index() -> None:
    assert survivors_of(10, 20, 3_828, 3) == (3_200, 800, 200)
    assert survivors_of(10, 20, 1_000_000, 3) == (250_000, 62_500, 200)
    assert survivors_of(10, 1, 10**6, 2) == (62_500, 10)
    assert survivors_of(10, 5, 30, 3) == (30, 30, 30)
    assert survivors_of(10, 2.5, 10**6, 1) == (25,)
    assert [stage_lengths(CODE_LENGTHS, bits) for bits in (8, 16, 128)] == [(8,), (8, 16), (8, 32, 128)]
    assert stage_lengths((16, 64, 256), 256) == (256,)


def test_bits_need_margins() -> None:
    prefixes, features, queries = made(3)
    unknown = queries[0]._replace(margins=None)
    with pytest.raises(wb.BadInput, match="how far a query is from the threshold") as refused:
        rescored(prefixes, features, unknown, np.arange(5), bits=64, rescore="bits")
    assert "rescore=features" in refused.value.hint


def test_margins_come_from_what_was_encoded_or_from_the_encoder() -> None:
    one = Known().encode_texts(["thing 1"])
    margins = margins_of(Known(), one, "text")
    assert margins is not None
    assert np.array_equal(pack_codes(margins >= 0), one.codes)
    assert margins_of(SmallEncoder(), one, "text") is None
    own = Encoded(one.codes, one.features, np.ones((1, 128), np.float32))
    assert margins_of(Known(), own, "text") is own.margins


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "UNRELATED_PAIRS_MIN", 1_000)
        folder = tmp_path_factory.mktemp("funnel")
        (model := folder / "model.safetensors").write_bytes(b"model")
        return load_index(
            build(folder / "indexes", model_file=model, encoder=Known()).path, lambda _: Known()
        )


def ids(index: Index, query: str, **options: Any) -> list[str]:
    return [hit.id for hit in search_text(index, query, 8, SearchOptions.model_validate(options))]


def test_a_search_by_funnel_is_that_by_cosine_and_says_what_each_stage_left(index: Index) -> None:
    query = "some 7 thing"  # named by no item
    assert ids(index, query, method="funnel", survivors=[60, 60, 60]) == ids(index, query, method="cosine")
    result = search_text(index, query, 4, SearchOptions(method="funnel", survivors=[30, 20, 10]))
    assert result.note == "60 pictures → 30 by 8 bits → 20 by 32 bits → 10 by 128 bits → 4 by float cosine"
    assert {"8 bits", "32 bits", "128 bits", "float cosine", "search"} <= result.took_ms.keys()
    assert result[0].distance is None
    assert result[0].score == pytest.approx(
        search_text(index, query, 1, SearchOptions(method="cosine"))[0].score
    )
    like = search_item(index, "plain:003", 5, SearchOptions(method="funnel"))
    assert "plain:003" not in [hit.id for hit in like]
    assert len(like) == 5


def test_hamming_is_rescored_by_features_or_by_bits(index: Index) -> None:
    query = "some 7 thing"
    all_of_them: dict[str, Any] = {"oversampling": 100}
    assert ids(index, query, rescore="features", **all_of_them) == ids(index, query, method="cosine")
    by_bits = search_text(index, query, 8, SearchOptions(rescore="bits", oversampling=2, bits=64))
    assert by_bits.note == "60 pictures → 16 by 64 bits → 8 by float query against bits"
    assert by_bits.cutoff is None
    near = search_text(index, query, 16, SearchOptions(bits=64))
    assert {hit.id for hit in by_bits} <= {hit.id for hit in near}
    assert [hit.score for hit in by_bits] == sorted((hit.score for hit in by_bits), reverse=True)
    named = search_text(index, "thing 7", 3, SearchOptions(rescore="bits"))
    assert {hit.id for hit in named[:2]} == {"plain:007", "framed:007"}  # those first, in any method


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "cosine", "rescore": "features"}, "method=cosine compares none"),
        ({"method": "funnel", "rescore": "none"}, "leave out rescore=none"),
        ({"survivors": [10]}, "survivors are those of a funnel; the method is hamming"),
        ({"method": "funnel", "survivors": [10, 20, 5]}, "must not grow"),
        ({"method": "funnel", "survivors": [10, 5, 0]}, "greater than or equal to 1"),
        ({"method": "funnel", "oversampling": 0.5}, "greater than or equal to 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SearchOptions.model_validate(options)


def test_as_many_survivors_as_stages_are_needed(index: Index) -> None:
    with pytest.raises(
        wb.BadInput, match="must be 2 numbers, one for each of the stages of 8, 16 bits, got 1"
    ):
        ids(index, "x", method="funnel", bits=16, survivors=[30])


def test_the_model_of_the_folder_is_not_needed(tmp_path: Path) -> None:
    """Rescoring by bits reads no features of the items."""
    prefixes, _, queries = made(4)
    nothing = np.empty((0, DIM), np.float32)
    found = funnel_search(prefixes, nothing, queries[0], lengths=(128,), survivors=(20,), k=3, rescore="bits")
    assert found.rows[0] == 0
