"""Two codes side by side: every number is that of a slow, obvious count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.index import thresholds
from adapters.vlm_quantization.index.opened import Index, load_index
from adapters.vlm_quantization.search.explain import explain
from adapters.vlm_quantization.search.options import SearchOptions
from tests.adapters.vlm_quantization.oracle import hamming
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build, picture
from workbench.panels.results.show import render_html


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "UNRELATED_PAIRS_MIN", 1_000)
        patch.setattr(thresholds, "UNRELATED_TAIL", 0.01)
        folder = tmp_path_factory.mktemp("explain")
        (model := folder / "model.safetensors").write_bytes(b"model")
        return load_index(build(folder / "indexes", model_file=model).path, lambda _: SmallEncoder())


def item(name: str) -> wb.Term:
    return wb.Term("item", name)


def test_the_codes_are_cut_where_the_lengths_end_and_every_distance_is_right(index: Index) -> None:
    explanation = explain(
        index, wb.Term("text", "thing 7"), item("plain:003"), SearchOptions.model_validate({"bits": 32})
    )
    query = SmallEncoder().encode_texts(["thing 7"])
    side = index.sides["images"]
    row = side.items.find("plain:003")
    distances = {n: hamming(query.codes[0][: n // 8], side.codes[row][: n // 8]) for n in CODE_LENGTHS}
    cosine = float(query.features[0] @ side.features[row])

    table, cells = explanation.views
    assert [one["name"] for one in cells.data["rows"]] == [
        *("Bits 1 to 8", "Bits 9 to 16", "Bits 17 to 32", "Bits 33 to 64", "Bits 65 to 128")
    ]
    left = "".join(one["left"] for one in cells.data["rows"])
    right = "".join(one["right"] for one in cells.data["rows"])
    assert left == "".join(f"{byte:08b}" for byte in query.codes[0])
    assert right == "".join(f"{byte:08b}" for byte in side.codes[row])
    for length, one in zip(CODE_LENGTHS, cells.data["rows"], strict=True):
        assert one["note"] == f"distance at {length} bits: {distances[length]}"
    limits = index.manifest.thresholds["captions-images"]
    for length, one in zip(CODE_LENGTHS, table.data["rows"], strict=False):
        assert one["value"].startswith(f"{distances[length]} differ")
        assert one["near"] == ("yes" if distances[length] <= limits[str(length)] else "no")
    assert table.data["rows"][-1]["value"] == f"{cosine:z.3f}"
    assert explanation.summary == f"{distances[32]} of 32 bits differ; the float cosine is {cosine:z.3f}"
    assert "Bits 65 to 128" in render_html(explanation)


def test_both_orders_agree_and_every_pair_of_kinds_is_compared(index: Index) -> None:
    terms = [wb.Term("text", "물건 5"), wb.Term("image", picture(5), "five.png"), item("plain:005")]
    caption = index.sides["captions"].items[0]["id"]
    for one in [*terms, item(caption)]:
        for other in [*terms, item(caption)]:
            there, back = (
                explain(index, one, other, SearchOptions()),
                explain(index, other, one, SearchOptions()),
            )
            assert there.views[0] == back.views[0]
            assert there.summary == back.summary
            assert (there.left, there.right) == (back.right, back.left)
    same = explain(index, terms[2], terms[2], SearchOptions())
    assert same.summary == "0 of 128 bits differ; the float cosine is 1.000"
    assert explain(index, terms[1], terms[2], SearchOptions()).left.caption == "five.png"


def test_symbols_are_named_as_in_a_search_and_nonsense_is_refused(index: Index) -> None:
    explanation = explain(index, wb.Term("text", "🐶"), wb.Term("text", "dog face"), SearchOptions())
    assert explanation.views[0].notes[0].startswith("Left: searched for “dog face”")
    assert explanation.summary.startswith("0 of 128")
    with pytest.raises(wb.BadInput, match="no letter or digit"):
        explain(index, wb.Term("text", "?!"), item("plain:003"), SearchOptions())
    with pytest.raises(wb.NotFound, match="no item 'plain:999'"):
        explain(index, item("plain:999"), item("plain:003"), SearchOptions())


def test_an_index_too_small_for_thresholds_says_nothing_of_near(index: Index, tmp_path: Path) -> None:
    (model := tmp_path / "model.safetensors").write_bytes(b"model")
    path = build(tmp_path / "indexes", model_file=model).path
    small = load_index(path, lambda _: SmallEncoder())
    table = explain(small, item("plain:001"), item("plain:002"), SearchOptions()).views[0]
    assert [column["key"] for column in table.data["columns"]] == ["way", "value"]
    assert np.isfinite(float(table.data["rows"][-1]["value"]))
