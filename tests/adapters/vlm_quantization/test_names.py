"""The public names required by the brief, and the two metrics that return a single number."""

from __future__ import annotations

import importlib
import inspect
import math

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization import evaluator
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluator import mean_average_precision, precision_at_k
from adapters.vlm_quantization.model import DummyTextModel, DummyVisionModel

NAMES = {
    "model": ["CrossModalHashModel", "DummyTextModel", "DummyVisionModel"],
    "hash_layer": ["NestedHashLayer"],
    "index_builder": ["build_index", "load_index"],
    "search": ["PrefixCodes", "cosine_search", "hamming_search"],
    "evaluator": [
        *("evaluate_codes", "evaluate_scores", "mean_average_precision", "precision_at_k"),
        *("Graded", "Judged", "Relevance", "SameItem", "SharedLabel"),
    ],
    "data": ["CaptionedImages", "open_collection"],
    "dummy": ["main"],
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in NAMES[module]])
def test_a_name_of_the_brief_is_importable(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"adapters.vlm_quantization.{module}"), name)


@pytest.mark.parametrize("face", ["index_builder", "evaluator", "data", "search"])
def test_a_module_of_public_names_defines_nothing_and_is_sorted(face: str) -> None:
    module = importlib.import_module(f"adapters.vlm_quantization.{face}")
    constants = sorted(name for name in module.__all__ if name.isupper())
    classes = sorted(name for name in module.__all__ if name[0].isupper() and not name.isupper())
    assert module.__all__ == constants + classes + sorted(name for name in module.__all__ if name.islower())
    for name in set(module.__all__) - set(constants):
        assert getattr(getattr(module, name), "__module__", "") != module.__name__


def test_open_collection_has_the_signature_of_the_brief() -> None:
    from adapters.vlm_quantization.data import open_collection

    parameters = inspect.signature(open_collection).parameters
    assert [*parameters][:3] == ["source", "cache_dir", "progress"]
    assert parameters["cache_dir"].kind is inspect.Parameter.KEYWORD_ONLY
    with pytest.raises(wb.BadInput, match=r"'emojis'.*'emoji'.*file"):
        open_collection("emojis")


CODES = np.random.default_rng(0).integers(0, 256, (40, 16), dtype=np.uint8)
LABELS = evaluator.SharedLabel(
    np.eye(3, dtype=bool)[np.arange(12) % 3], np.eye(3, dtype=bool)[np.arange(28) % 3]
)


@pytest.mark.parametrize("bits", CODE_LENGTHS)
@pytest.mark.parametrize("k", [1, 5, 28])
def test_a_single_metric_equals_that_of_the_records(bits: int, k: int) -> None:
    queries, gallery = CODES[:12], CODES[12:]
    records = {
        record.name: record.value
        for record in evaluator.evaluate_codes(queries, gallery, LABELS, bits=[bits], ks=[k])
    }
    assert mean_average_precision(queries, gallery, LABELS, bits=bits) == records["mAP"]
    assert mean_average_precision(queries, gallery, LABELS, bits=bits, k=k) == records[f"mAP@{k}"]
    assert precision_at_k(queries, gallery, LABELS, bits=bits, k=k) == records[f"P@{k}"]


def test_metrics_of_a_ranking_without_ties_match_a_count_by_hand() -> None:
    query = np.zeros((1, 1), np.uint8)
    gallery = np.array([[0b0], [0b1], [0b11], [0b111]], np.uint8)
    relevance = evaluator.SharedLabel(np.eye(2, dtype=bool)[[0]], np.eye(2, dtype=bool)[[0, 1, 0, 1]])
    assert math.isclose(mean_average_precision(query, gallery, relevance, bits=8), (1 + 2 / 3) / 2)
    assert precision_at_k(query, gallery, relevance, bits=8, k=1) == 1.0
    assert precision_at_k(query, gallery, relevance, bits=8, k=4) == 0.5


@pytest.mark.parametrize("bits", [0, 12, 256])
def test_a_length_that_the_codes_do_not_have_is_refused(bits: int) -> None:
    with pytest.raises(wb.BadInput, match=f"code length.* {bits}$"):
        mean_average_precision(CODES[:12], CODES[12:], LABELS, bits=bits)


def test_the_dummy_text_model_knows_shared_words_and_nothing_else() -> None:
    model = DummyTextModel()
    red_dog, dog, airplane, wordless = model.features(["red dog", "dog", "airplane", "!?"])
    assert red_dog @ dog > 0.4 > abs(airplane @ dog)
    assert np.linalg.norm(dog) == pytest.approx(1.0)
    assert not wordless.any()
    assert DummyTextModel(seed=1).fingerprint != model.fingerprint
    assert np.array_equal(DummyTextModel().features(["dog"])[0], dog)
    assert DummyVisionModel().features([]).shape == (0, DummyVisionModel.dim)
    assert model.features([]).shape == (0, model.dim)
