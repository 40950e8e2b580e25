import base64
import json

import pytest
from pydantic import ValidationError

import workbench as wb
from workbench.adapter.options import check_options
from workbench.search.searcher import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS


def searcher() -> wb.Searcher:
    class Echo(wb.BaseAdapter):
        name = "echo"

        def options(self, task: str) -> type[wb.Options]:
            return wb.Options

        def search_by_text(self, index: object, query: str, k: int, options: object) -> wb.SearchResult:
            return wb.SearchResult([wb.Hit(query, 1.0)] * k)

        search_by_image = search_by_text  # type: ignore[assignment]

    return wb.Searcher(Echo(), None, "words")


def test_an_adapter_is_found_by_its_entry_point(toy: wb.BaseAdapter) -> None:
    assert "toy" in wb.adapters()
    assert wb.get_adapter("toy") is toy
    assert toy.job_types() == ["train", "eval", "index_build"]


def test_without_a_name_the_only_one_is_taken_and_several_are_asked_about(toy: wb.BaseAdapter) -> None:
    with pytest.raises(wb.BadInput, match=r"adapter is missing.*: toy, vlm_quantization"):
        wb.get_adapter()


def test_an_unknown_adapter_lists_the_known(toy: wb.BaseAdapter) -> None:
    with pytest.raises(wb.UnknownAdapter, match=r"did you mean 'toy'\?"):
        wb.get_adapter("toi")


@pytest.mark.parametrize(
    "method", ["train", "evaluate", "build_index", "load_model", "load_index", "search_by_text", "demo"]
)
def test_a_method_not_offered_names_adapter_and_method(method: str) -> None:
    class Bare(wb.BaseAdapter):
        name = "bare"

    adapter = Bare()
    assert not adapter.offers(method)
    assert adapter.job_types() == []
    arguments = {"demo": 0, "load_model": 1, "load_index": 1, "search_by_text": 4}.get(method, 2)
    with pytest.raises(wb.NotSupported, match=f"'bare' does not offer {method}"):
        getattr(adapter, method)(*[None] * arguments)


def test_options_are_filled_in_and_all_problems_are_named(toy: wb.BaseAdapter) -> None:
    assert check_options(toy, "eval", {"k": 5}).model_dump()["steps"] == 3
    with pytest.raises(wb.BadOptions) as raised:
        check_options(toy, "eval", {"k": "many", "kk": 1})
    assert [field for field, _ in raised.value.problems] == ["k", "kk"]
    assert "'many'" in raised.value.message
    assert "kk: unknown option; did you mean 'k'?" in raised.value.message


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", True, None])
def test_k_is_a_whole_number_of_at_least_one(k: int) -> None:
    with pytest.raises(wb.BadInput, match="k must be"):
        searcher().by_text("dog", k)


@pytest.mark.parametrize("query", ["", "   ", None, 3, "x" * (MAX_QUERY_CHARACTERS + 1)])
def test_a_query_is_a_text_that_is_not_too_long(query: str) -> None:
    with pytest.raises(wb.BadInput, match="query"):
        searcher().by_text(query)


def test_a_picture_is_neither_empty_nor_too_large() -> None:
    with pytest.raises(wb.BadInput, match="empty"):
        searcher().by_image(b"")
    with pytest.raises(wb.TooLarge, match="20 MiB"):
        searcher().by_image(bytes(MAX_IMAGE_BYTES + 1))


def test_a_searcher_hands_over_and_measures() -> None:
    result = searcher().by_text(" 강아지 ", 3)
    assert [hit.id for hit in result] == ["강아지"] * 3
    assert result.took_ms["total"] >= 0
    with pytest.raises(wb.BadOptions, match="unknown option"):
        searcher().by_text("dog", colour="red")
    with pytest.raises(wb.NotSupported, match="search_by_item"):
        searcher().by_item("x")


def test_hits_as_json() -> None:
    hit = wb.Hit("a", 0.5, 3.0, caption="개", thumbnail=b"\x89PNG")
    assert base64.b64decode(hit.to_json()["thumbnail"]) == b"\x89PNG"
    assert "thumbnail" not in hit.to_json(thumbnails=False)
    result = wb.SearchResult([hit], {"search": 1.0}, note="few")
    assert result.to_json()["hits"][0]["caption"] == "개"
    assert "개" in repr(result)
    assert result[0] is hit
    assert len(result[:1]) == 1


def test_samples_are_packed_in_json_and_read_back_from_both_forms() -> None:
    import numpy as np

    scores = np.array([0.25, np.nan, 1.0])
    result = wb.Result(
        metrics={"m": 0.625},
        samples=[wb.Samples(ids=["ko:강아지", "b", "c"], scores={"m": scores, "n": [None, 1, 0]})],
    )
    plain = json.loads(json.dumps(result.model_dump()))
    assert isinstance(plain["samples"][0]["scores"]["m"], str)
    assert wb.Result.model_validate(plain) == result
    assert result.samples[0].scores == {"m": [0.25, None, 1.0], "n": [None, 1.0, 0.0]}
    assert "강아지" not in repr(result)


def test_samples_of_many_questions_stay_small() -> None:
    import numpy as np

    hits = (np.random.default_rng(0).random(20_000) < 0.3).astype(float)
    samples = wb.Samples(ids=[str(number) for number in range(20_000)], scores={"R@10": hits})
    assert len(samples.model_dump()["scores"]["R@10"]) < 10_000


@pytest.mark.parametrize(
    ("ids", "scores", "said"),
    [
        (["a", "a"], {"m": [1, 2]}, "unique.*'a' is repeated"),
        (["a", "b"], {"m": [1]}, "'m' must have 2 scores.*got 1"),
        (["a"], {"m": [float("inf")]}, "'m' must not be infinite"),
        (["a"], {"m": "AAAA"}, "'m': invalid packed scores"),
        (["a"], {"m": "eJw="}, "'m': packed scores are truncated"),
        (["a"], {"m": "not base64!"}, "'m': invalid packed scores"),
        (["a"], {"m": 3}, "valid list"),
    ],
)
def test_samples_that_are_none_are_refused(ids: list[str], scores: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        wb.Samples.model_validate({"ids": ids, "scores": scores})


def test_packed_scores_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import workbench.results.result as module

    packed = wb.Samples(ids=list("abcdefgh"), scores={"m": [0.0] * 8}).model_dump()
    monkeypatch.setattr(module, "MAX_SAMPLES", 4)
    with pytest.raises(ValidationError, match=r"'m': packed scores .* more than 4"):
        wb.Samples.model_validate(packed)


def test_a_metric_has_its_scores_in_one_place() -> None:
    one = wb.Samples(ids=["a"], scores={"m": [1.0]})
    with pytest.raises(ValidationError, match="'m' must be in one entry only"):
        wb.Result(samples=[one, wb.Samples(ids=["b"], scores={"m": [1.0]})])
