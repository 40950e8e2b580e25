import base64

import pytest

import workbench as wb
from workbench.adapter import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS, check_options


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
    with pytest.raises(wb.BadInput, match=r"which adapter\? Installed: toy, vlm_quantization"):
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
    assert "allowed: steps, k" in raised.value.message


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
