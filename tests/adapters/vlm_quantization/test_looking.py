"""What the job notebooks show between their steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization import looking
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.codes import Encoded
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.evaluate.tested import MeasuredOn, chosen_parts
from adapters.vlm_quantization.model import CrossModalHashModel, ModelConfig
from adapters.vlm_quantization.options import EvalOptions
from tests.adapters.vlm_quantization import shapes, small_index

SHAPES = shapes.collection()
SPLITS = make_splits(SHAPES, 0)


def titles(views: list[wb.View]) -> list[str]:
    wb.panels.render_html(wb.Result(views=views))  # each can be drawn
    return [view.title for view in views]


def rows(view: wb.View) -> dict[str, object]:
    return {row["name"]: row["value"] for row in view.data["rows"]}


def test_twelve_pictures_and_the_counts_of_a_collection() -> None:
    views = looking.look_at_data(SHAPES, SPLITS)
    assert titles(views) == ["12 of shapes", "What it holds"]
    pictures = views[0].data["items"]
    assert len({picture["image"] for picture in pictures}) == 12
    assert {picture["subtitle"] for picture in pictures} <= {part.replace("_", " ") for part in SPLITS.parts}
    assert (pictures[0]["caption"], pictures[0]["note"]) == ("red circle", "빨간 원")
    counts = {"Pictures": 48, "Concepts": 24, "Captions, en": 48, "Captions, ko": 48}
    assert rows(views[1]) == counts


def test_a_small_collection_is_shown_whole() -> None:
    few = CaptionedImages("few", SHAPES.items[:3])
    assert looking.look_at_data(few)[0].title == "3 of few"


def test_the_parts_and_the_leakage_check() -> None:
    views = looking.look_at_splits(SPLITS, check_leakage(SHAPES, SPLITS))
    assert titles(views) == ["Parts", "Leakage check: passed"]
    assert rows(views[0])["train"] == len(SPLITS.train)


def test_what_an_evaluation_asks() -> None:
    tested = MeasuredOn(SHAPES, chosen_parts(SHAPES, SPLITS, EvalOptions()))
    table, grid = looking.look_at_test(tested)
    asked = sum(row["queries"] for row in table.data["rows"])
    assert asked == sum(len(part.queries) for part in tested.parts)
    assert len(grid.data["items"]) == min(12, asked)


def test_a_model_by_its_parts() -> None:
    config = ModelConfig(
        image_tower="random", image_dim=8, image_components=8, hidden=4, dim=4, text_buckets=16, text_width=4
    )
    model = CrossModalHashModel(config)
    view = looking.look_at_model(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert titles([view]) == [f"Model: {total:,} trained values"]
    assert sum(row["values"] for row in view.data["rows"]) == total


class Named:
    """A model whose code of a picture or of a caption is its colour."""

    fingerprint = "named"

    def _encoded(self, names: list[str]) -> Encoded:
        places = [list(shapes.COLOURS).index(name.split()[0]) for name in names]
        codes = np.array([[2**place - 1] * 16 for place in places], dtype=np.uint8)
        return Encoded(codes, np.ones((len(names), 4), dtype=np.float32))

    def pictures(self, places: np.ndarray) -> Encoded:
        return self._encoded([SHAPES.items[row].caption("en") for row in places])

    def texts(self, texts: list[str]) -> Encoded:
        return self._encoded(texts)

    def margins(self, encoded: Encoded, side: str) -> None:
        return None


def test_the_nearest_pictures_of_a_text_come_first() -> None:
    (view,) = looking.look_at_neighbours(Named(), SHAPES, np.arange(48), ["green square"])
    assert titles([view]) == ["“green square”"]
    items = view.data["items"]
    assert len(items) == looking.FOUND
    assert all(item["caption"].startswith("green") for item in items)
    assert items[0]["subtitle"] == "distance 0"


def test_without_texts_captions_are_asked_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    korean = dict(zip((words[0] for words in shapes.COLOURS.values()), shapes.COLOURS, strict=True))
    monkeypatch.setattr(
        Named, "texts", lambda self, texts: self._encoded([korean.get(t.split()[0], t) for t in texts])
    )
    views = looking.look_at_neighbours(Named(), SHAPES, SPLITS.train)
    assert len(views) == 5
    assert [title.isascii() for title in (view.title.strip("“”") for view in views)] == [
        *(True, False, True, False, True)
    ]
    assert looking.look_at_neighbours(Named(), SHAPES, np.array([], dtype=np.int64)) == []


def test_an_index_is_tried_by_words_and_without_words_by_its_pictures(tmp_path: Path) -> None:
    encoder = small_index.SmallEncoder()
    report = small_index.build(tmp_path, encoder=encoder)
    views = looking.try_queries(VlmQuantization(), report.path, encoder)
    assert len(titles(views)) == looking.QUERIES
    assert all(view.title.startswith("“") and len(view.data["items"]) == looking.FOUND for view in views)
    blind = small_index.build(tmp_path, "blind", encoder=encoder, captions=False, provenance={"words": "not"})
    views = looking.try_queries(VlmQuantization(), blind.path, encoder)
    assert len(titles(views)) == looking.QUERIES
    assert all(view.title.startswith("Like thing") for view in views)
    # the drawing itself is left out, so its concept is found once more at most
    for view in views:
        found = [picture["caption"] for picture in view.data["items"]]
        assert found.count(view.title.removeprefix("Like ")) <= 1
