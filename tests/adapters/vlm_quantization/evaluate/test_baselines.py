import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, pack_codes
from adapters.vlm_quantization.encoding.itq import itq_rotation, principal_axes
from adapters.vlm_quantization.evaluate import baselines
from adapters.vlm_quantization.evaluate.baselines import (
    evaluate_float_query,
    evaluate_rescored,
    fit_baselines,
    retention,
)
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.relevance import SameItem

NAMES = ["sign of the float", "random hyperplanes", "PCA-sign", "ITQ", "ITQ, one centre"]


def sides(n=300, width=160, gap=0.0, seed=0):
    """Pictures and texts of the same things: equal directions with noise, one side shifted by a gap."""
    random = np.random.default_rng(seed)
    things = random.standard_normal((n, 24)) @ random.standard_normal((24, width))
    noise = [4 * random.standard_normal((n, width)) for _ in range(2)]
    away = np.zeros(width)
    away[0] = gap
    pair = (things + noise[0] + away, things + noise[1])
    return [(side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32) for side in pair]


@pytest.fixture(scope="module")
def fitted():
    return {one.name: one for one in fit_baselines(*sides())}


def value(records, bits, name="R@10"):
    return next(record.value for record in records if record.name == name and record.bits == bits)


def test_every_baseline_is_present_and_described(fitted):
    assert list(fitted) == NAMES
    assert all(one.words for one in fitted.values())
    assert {one.lengths for one in fitted.values()} == {CODE_LENGTHS}
    assert "own mean" in fitted["ITQ"].words
    assert "one mean" in fitted["ITQ, one centre"].words


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_makes_packed_codes_and_ranks_better_than_chance(fitted, name):
    images, texts = sides(seed=1)[0][:200], sides(seed=1)[1][:200]
    codes = fitted[name].codes(images, "image", 32)
    assert (codes.dtype, codes.shape) == (np.uint8, (200, 4))
    relevance = SameItem(range(200), range(200))
    records = fitted[name].evaluate(texts, images, ("text", "image"), relevance)
    assert {record.bits for record in records} == set(CODE_LENGTHS)
    assert value(records, 128) > 5 * 10 / 200
    assert value(records, 128) > value(records, 8)


@pytest.mark.parametrize("name", ["sign of the float", "random hyperplanes", "PCA-sign"])
def test_nested_baselines_are_prefixes_and_itq_is_fitted_per_length(fitted, name):
    images = sides(seed=1)[0]
    long = fitted[name].codes(images, "image", 128)
    assert np.array_equal(fitted[name].codes(images, "image", 16), long[:, :2])
    assert fitted[name].nested
    assert not fitted["ITQ"].nested


def test_itq_is_closer_to_its_signs_than_the_components_it_rotates():
    images, texts = sides()
    centred = np.concatenate([images - images.mean(0), texts - texts.mean(0)]).astype(np.float64)
    axes = principal_axes(centred)[:, :32]
    rotation = itq_rotation(centred @ axes, np.random.default_rng(0))
    assert np.allclose(rotation @ rotation.T, np.eye(32), atol=1e-5)

    def error(components):
        return float(((np.sign(components) - components / components.std()) ** 2).mean())

    assert error(centred @ axes @ rotation) < 0.9 * error(centred @ axes)


def test_centring_each_modality_matters_if_they_are_apart():
    images, texts = sides(gap=60.0)
    fitted = {one.name: one for one in fit_baselines(images, texts)}
    relevance = SameItem(range(300), range(300))
    apart, together = (
        value(fitted[name].evaluate(texts, images, ("text", "image"), relevance), 64)
        for name in ("ITQ", "ITQ, one centre")
    )
    assert apart > together


def test_the_same_seed_makes_the_same_codes():
    images, texts = sides()
    one, again, other = (
        fit_baselines(images, texts, lengths=(16,), seed=seed)[1].codes(images, "image", 16)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_length_that_cannot_be_made_is_left_out():
    images, texts = sides(width=20)
    lengths = {one.name: one.lengths for one in fit_baselines(images, texts)}
    assert lengths == dict.fromkeys(NAMES, (8, 16)) | {"random hyperplanes": CODE_LENGTHS}


def test_progress_is_reported():
    reports = []
    fit_baselines(*sides(n=40), lengths=(8, 16), progress=lambda done, total: reports.append((done, total)))
    assert reports == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_a_shortlist_of_everything_is_the_float_ranking():
    images, texts = sides(n=90)
    relevance = SameItem(range(90), range(90))
    codes = np.random.default_rng(0).integers(0, 256, (2, 90, 16), dtype=np.uint8)
    rescored = evaluate_rescored(*codes, texts, images, relevance, lengths=(8, 128))
    cosine = evaluate_scores(texts, images, relevance, ks=(10,))
    assert baselines.SHORTLIST >= 90
    for bits in (8, 128):
        assert value(rescored, bits) == value(cosine, None)
    assert {record.method for record in rescored} == {"rescored"}


def test_rescoring_orders_the_shortlist_and_keeps_the_rest_by_distance(monkeypatch):
    monkeypatch.setattr(baselines, "SHORTLIST", 3)
    gallery_codes = np.array([[0], [0], [1], [1], [3], [7]], np.uint8)  # distances 0 0 1 1 2 3
    scorer = baselines._rescored(
        np.zeros((1, 1), np.uint8), gallery_codes, lambda start, stop: np.array([[0.1, 0.9, 0.5, 1, 1, 1]])
    )
    # rows 0, 1 and 2 are the shortlist: at equal distances, lower rows come first
    assert scorer(0, 1)[0].argsort()[::-1].tolist() == [1, 2, 0, 3, 4, 5]


def test_a_float_query_of_plain_signs_ranks_as_hamming_does():
    random = np.random.default_rng(0)
    bits = random.random((120, 128)) < 0.5
    codes = pack_codes(bits)
    relevance = SameItem(range(20), [item % 20 for item in range(100)])
    signs = np.where(bits[:20], 1, -1).astype(np.float32)
    actual = evaluate_float_query(signs, codes[20:], relevance)
    expected = evaluate_codes(codes[:20], codes[20:], relevance, ks=(10,))
    for length in CODE_LENGTHS:
        for name in ("mAP", "R@10"):
            assert value(actual, length, name) == pytest.approx(value(expected, length, name))


def test_margins_break_the_ties_that_bits_leave():
    random = np.random.default_rng(1)
    margins = random.standard_normal((200, 128)).astype(np.float32)
    codes = pack_codes(margins >= 0)
    noisy = margins[:50] + random.standard_normal((50, 128)).astype(np.float32)
    relevance = SameItem(range(50), range(200))
    rounded = evaluate_codes(pack_codes(noisy >= 0), codes, relevance, ks=(10,))
    unrounded = evaluate_float_query(noisy, codes, relevance)
    assert value(unrounded, 16) > value(rounded, 16)


def test_retention_is_a_share_of_the_float():
    images, texts = sides(n=60)
    relevance = SameItem(range(60), range(60))
    floats = evaluate_scores(texts, images, relevance, ks=(10,))
    codes = fit_baselines(images, texts)[0].evaluate(texts, images, ("text", "image"), relevance)
    kept = retention(codes, floats, "R@10")
    assert list(kept) == list(CODE_LENGTHS)
    assert kept[64] == pytest.approx(value(codes, 64) / value(floats, None))
    assert np.isnan(retention(codes, [], "R@10")[64])


def test_features_of_unequal_width_or_not_finite_are_refused():
    with pytest.raises(wb.BadInput, match=r"width.*\(3, 4\).*\(3, 5\)"):
        fit_baselines(np.ones((3, 4)), np.ones((3, 5)))
    with pytest.raises(wb.BadInput, match="3 of 3 rows are not finite"):
        fit_baselines(np.full((3, 4), np.nan), np.ones((3, 4)))
