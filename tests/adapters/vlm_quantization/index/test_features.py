import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.index.blocks import CheckedFile, CheckedRows
from adapters.vlm_quantization.index.features import KINDS, Features, check_kind, row_bytes, stored
from adapters.vlm_quantization.index.ranking import cosine_search

#: Share of the ten nearest by float32 that other features find among their ten nearest, at the least.
RECALL = {"float32": 1.0, "float16": 0.99, "int8": 0.95}


def unit_rows(n, d, seed=0):
    """Return vectors that are as crowded as features are: some hundred directions, and a little noise."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((100, d))
    rows = centres[random.integers(0, 100, n)] + 0.5 * random.standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def opened(tmp_path, rows, kind):
    """Store features, and open them."""
    values, scales = stored(rows, kind)
    parts = []
    for name, array in (("rows", values), ("scales", scales)):
        if array is not None:
            np.save(tmp_path / f"{name}.npy", array)
            path = tmp_path / f"{name}.npy"
            parts.append(CheckedRows(CheckedFile(path), np.lib.format.open_memmap(path, mode="r")))
    return Features(kind, parts[0], parts[1] if len(parts) > 1 else None, rows.shape, "small")


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_stored_features_find_what_float32_finds(tmp_path, kind):
    rows = unit_rows(2_000, 64)
    features = opened(tmp_path, rows, kind)
    assert (features.present, features.shape, features.dtype) == (True, (2_000, 64), np.float32)
    assert np.abs(np.linalg.norm(np.asarray(features), axis=1) - 1).max() < 1e-3
    assert np.abs(np.asarray(features) - rows).max() < {"float32": 1e-9, "float16": 1e-3, "int8": 5e-3}[kind]
    assert features[7].shape == (64,)
    assert features[[3, 5]].shape == (2, 64)
    assert np.array_equal(features[[3, 5]], features[3:6:2])
    kept = []
    for query in unit_rows(100, 64, seed=1):
        exact, scores = cosine_search(rows, query, k=10)
        found, near = cosine_search(features, query, k=10)
        kept.append(len(np.intersect1d(exact, found)) / 10)
        assert np.abs(near - scores).max() < 0.01
        # The order is that of the stored features themselves, with ties by row.
        every = (features[:].astype(np.float64) * query).sum(axis=1)
        assert np.array_equal(found, np.lexsort((np.arange(2_000), -every))[:10])
    assert np.mean(kept) >= RECALL[kind]


def test_without_features_there_is_no_cosine():
    features = Features("none", None, None, (5, 8), "photos")
    assert not features.present
    assert len(features) == 5
    for ask in (
        lambda: features[0],
        lambda: features.query(np.ones(8, np.float32)),
        lambda: features @ np.ones(8),
    ):
        with pytest.raises(
            wb.BadInput, match="index 'photos' was built without features, so it has no cosine"
        ) as no:
            ask()
        assert "build it again with features=float32, float16 or int8" in no.value.hint


def test_a_query_without_a_feature_is_refused(tmp_path):
    features = opened(tmp_path, unit_rows(3, 8), "float32")
    with pytest.raises(wb.BadInput, match="no cosine"):
        features.query(None)


def test_rows_that_are_not_finite_are_refused(tmp_path):
    rows = unit_rows(3, 8)
    rows[1, 2] = np.nan
    features = opened(tmp_path, rows, "float32")
    with pytest.raises(wb.CorruptFile, match=r"rows\.npy: some rows are not finite"):
        features[1]
    with pytest.raises(wb.CorruptFile, match="not finite"):
        cosine_search(features, unit_rows(1, 8)[0], k=1)
    assert features[2].shape == (8,)


def test_kinds_are_known_by_name():
    assert [check_kind(kind) for kind in KINDS] == ["float32", "float16", "int8", "none"]
    assert [row_bytes(kind, 512) for kind in KINDS] == [2_048, 1_024, 516, 0]
    with pytest.raises(wb.BadInput, match=r"unknown features 'int4'\. Allowed: float32, float16, int8, none"):
        check_kind("int4")
