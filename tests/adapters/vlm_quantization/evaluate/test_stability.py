"""How stable codes are: counted by hand, on a model of one's own, and where pictures are gone."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.evaluate import stability
from adapters.vlm_quantization.evaluate.report.stability import TITLE, stability_views
from adapters.vlm_quantization.evaluate.stability import chance_in_top, flipped, measure_stability
from adapters.vlm_quantization.evaluate.subject import FromPictures
from adapters.vlm_quantization.evaluate.tasks import Part, Task, tasks
from adapters.vlm_quantization.options import EvalOptions
from tests.adapters.vlm_quantization import shapes
from workbench.panels.results.show import render_html


class Colours:
    """An encoder whose code is a picture's mean colour, and a text's words: grey pictures flip bits."""

    name, dim, fingerprint, bits = "colours", 4, "colours/1", CODE_LENGTHS

    def __init__(self) -> None:
        self.pictures = 0

    def encode_images(self, images: Sequence[Image.Image]) -> Encoded:
        self.pictures += len(images)
        means = np.array([np.asarray(image, np.float32).mean((0, 1)) for image in images])
        return self._encoded(np.column_stack([means - means.mean(1, keepdims=True), np.full(len(images), 9)]))

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        return self._encoded(np.array([[len(text), text.count(" ") * 9, 1, 1] for text in texts], np.float32))

    def _encoded(self, rows: np.ndarray) -> Encoded:
        planes = np.random.default_rng(0).standard_normal((rows.shape[1], 128))
        units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return Encoded(pack_codes(units @ planes >= 0), units)


def measured_tasks(collection: CaptionedImages, subject: FromPictures, options: EvalOptions) -> list[Task]:
    rows = np.arange(0, len(collection), 2)
    return list(tasks(collection, [Part("test", "test split", rows, rows, "f")], subject, options))


def measured(collection: CaptionedImages | None = None, **options: Any) -> stability.Stability:
    collection = collection or shapes.collection()
    subject = FromPictures(Colours(), collection)
    chosen = EvalOptions(**{"stability": 10, **options})
    return measure_stability(collection, measured_tasks(collection, subject, chosen), subject, chosen)


def test_flips_are_counted_at_every_length() -> None:
    before = np.zeros((2, 16), np.uint8)
    after = before.copy()
    after[0, 0] = 0b10000001  # two of the first 8 bits
    after[1, 15] = 0xFF  # eight of the last 64
    assert flipped(before, after) == {8: 1 / 8, 16: 1 / 16, 32: 1 / 32, 64: 1 / 64, 128: 5 / 128}


@pytest.mark.parametrize("top", [1, 2, 3, 5])
def test_the_chance_of_a_right_answer_is_that_over_all_orders_of_ties(top: int) -> None:
    distances = np.array([2, 1, 2, 2, 1])
    for right in itertools.product([False, True], repeat=5):
        marks = np.array(right)
        orders = [
            order
            for order in itertools.permutations(range(5))
            if all(distances[a] <= distances[b] for a, b in itertools.pairwise(order))
        ]
        expected = np.mean([marks[list(order[:top])].any() for order in orders])
        assert chance_in_top(distances, marks, top) == pytest.approx(expected)


def test_every_change_is_measured_and_those_that_change_more_flip_more() -> None:
    out = measured()
    assert [change.name for change in out.changes] == list(stability.NAMES)
    by_name = {change.name: change for change in out.changes}
    assert by_name["flip"].flips == dict.fromkeys(CODE_LENGTHS, 0.0), "a mean colour has no sides"
    assert by_name["flip"].kept == dict.fromkeys(CODE_LENGTHS, 1.0)
    assert by_name["grey"].flips[128] > by_name["jpeg"].flips[128]
    assert by_name["grey"].cosine < by_name["jpeg"].cosine <= 1
    assert {change.n for change in out.changes} == {10}
    assert all(0 <= value <= 1 for value in out.metrics.values())
    assert set(out.metrics) <= set(stability.possible_names(EvalOptions()))
    assert measured().metrics == out.metrics, "the same changes every time"


def test_pictures_without_a_question_flip_bits_and_keep_nothing() -> None:
    out = measured(directions=("t2i",))
    assert out.metrics["stability/grey/flips@128"] > 0
    assert not any(name.startswith("stability/grey/kept") for name in out.metrics)
    assert all(math.isnan(value) for value in out.changes[0].kept.values())
    assert any(name.startswith("stability/token-dropout/") for name in out.metrics)


def test_pictures_that_are_gone_are_named_and_the_others_measured() -> None:
    class Gone(CaptionedImages):
        missing = True
        few = False

        def open(self, index: int) -> Image.Image:
            if self.missing and (not self.few or index < 8):
                raise wb.BadInput(f"{self.items[index].id}: the file is missing")
            return super().open(index)

    whole = shapes.collection()
    collection = Gone(whole.name, whole.items)
    subject = FromPictures(Colours(), collection)
    options = EvalOptions(stability=24)
    collection.missing = False
    asked = measured_tasks(collection, subject, options)
    collection.missing = True
    out = measure_stability(collection, asked, subject, options)
    assert [change.name for change in out.changes] == [stability.TEXTS]
    assert "cannot be read any more" in out.notes[0]
    assert "the file is missing" in out.notes[0]
    collection.few = True
    out = measure_stability(collection, asked, subject, options)
    assert out.changes[0].n == 20
    assert out.notes[0].startswith("4 of 24 pictures cannot be read any more")


@pytest.mark.parametrize(
    ("options", "words"), [({"stability": 0}, "stability=0"), ({"stability": None}, "stability=100")]
)
def test_where_nothing_is_measured_the_report_says_why(options: dict[str, Any], words: str) -> None:
    out = measured(**options)
    assert out.metrics == {}
    html = render_html(wb.Result(summary="", views=stability_views(out)))
    assert TITLE in html
    assert "not measured" in html
    assert words in html


def test_captions_of_single_words_are_not_measured_and_that_is_said() -> None:
    import dataclasses

    whole = shapes.collection()
    items = [dataclasses.replace(item, captions={"en": (item.labels[0],)}) for item in whole.items]
    out = measured(CaptionedImages("words", items))
    assert out.notes == ["Token dropout not measured: no caption has several words."]
    assert stability.TEXTS not in {change.name for change in out.changes}


def test_the_report_has_a_table_a_plot_and_the_changed_picture() -> None:
    views = stability_views(measured())
    assert [view.kind for view in views] == ["retrieval_table", "curve", "image_grid"]
    table, plot, grid = views
    assert len(table.data["rows"]) == len(stability.NAMES)
    assert [one["name"] for one in plot.data["series"]][-1] == "token dropout"
    assert len(grid.data["items"]) == 1 + len(stability.CHANGES)
    assert all(view.title.startswith(TITLE) for view in views)
    assert "saved as JPEG of quality 50" in render_html(wb.Result(summary="", views=views))
