import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, pack_codes
from adapters.vlm_quantization.metrics.code_health import agreement, shares_of_ones, side_health, tie_health


def random_bits(n=400, seed=0):
    return np.random.default_rng(seed).random((n, 128)) < 0.5


def test_random_codes_are_healthy():
    for one in side_health(pack_codes(random_bits(4000))):
        assert one.balance == pytest.approx(0.5, abs=0.02)
        assert one.entropy == pytest.approx(1, abs=0.001)
        assert one.correlation < 0.03
        assert one.n == 4000
    assert [one.bits for one in side_health(pack_codes(random_bits()))] == list(CODE_LENGTHS)


def test_a_bit_that_never_changes_has_no_entropy_and_no_correlation():
    bits = random_bits()
    bits[:, :8] = True
    first = side_health(pack_codes(bits))[0]
    assert (first.balance, first.correlation, first.highest_correlation) == (0, 0, 0)
    assert first.entropy == pytest.approx(0, abs=1e-6)
    assert first.distinct == 1 / 400


def test_two_redundant_bits_are_detected():
    bits = random_bits()
    bits[:, 5] = ~bits[:, 3]
    assert side_health(pack_codes(bits))[0].highest_correlation == pytest.approx(1)


def test_entropy_of_a_lopsided_bit():
    bits = random_bits(4)
    bits[:, :8] = False
    bits[0, :8] = True
    first = side_health(pack_codes(bits))[0]
    assert first.balance == 0.25
    assert first.entropy == pytest.approx(-(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)))


def test_rounding_loses_nothing_of_signs_and_something_of_margins():
    bits = random_bits()
    signs = np.where(bits, 1, -1).astype(np.float32)
    assert side_health(pack_codes(bits), 3 * signs)[2].rounding == pytest.approx(0, abs=1e-6)
    margins = np.random.default_rng(1).standard_normal((400, 128)).astype(np.float32)
    # the cosine of a normal variable with its sign is the square root of 2 / pi
    assert side_health(pack_codes(margins >= 0), margins)[-1].rounding == pytest.approx(
        1 - np.sqrt(2 / np.pi), abs=0.01
    )
    assert np.isnan(side_health(pack_codes(bits))[0].rounding)


def test_shares_of_ones_by_bit():
    bits = random_bits(50)
    assert shares_of_ones(pack_codes(bits)) == pytest.approx(bits.mean(axis=0))


def test_ties_are_counted_where_a_ranking_is_cut():
    queries, gallery = pack_codes(random_bits(7)), pack_codes(random_bits(90, 1))
    for one in tie_health(queries, gallery):
        first, tenth = [], []
        for query in queries[:, : one.bits // 8]:
            distance = np.bitwise_count(query ^ gallery[:, : one.bits // 8]).sum(axis=1)
            ranked = np.sort(distance)
            first.append((distance == ranked[0]).sum())
            tenth.append((distance == ranked[9]).sum())
        assert one.tied_first == pytest.approx(np.mean(first))
        assert one.tied_tenth == pytest.approx(np.mean(tenth))


def test_ties_in_a_gallery_of_fewer_than_ten():
    codes = pack_codes(random_bits(3))
    assert tie_health(codes, codes)[-1].tied_first == 1


def test_agreement_with_the_own_text_and_with_others():
    images, texts = random_bits(6), random_bits(4, 1)
    pairs = np.array([0, 1, 2, 3, -1, 0])
    own, others = agreement(pack_codes(images), pack_codes(texts), pairs)
    rows = [row for row in range(6) if pairs[row] >= 0]
    assert own == pytest.approx(np.mean([images[row] == texts[pairs[row]] for row in rows], axis=0))
    different = [images[row] == texts[other] for row in rows for other in range(4) if other != pairs[row]]
    assert others == pytest.approx(np.mean(different, axis=0))


def test_without_a_pair_there_is_no_agreement():
    codes = pack_codes(random_bits(3))
    assert all(np.isnan(part).all() for part in agreement(codes, codes, np.full(3, -1)))


def test_no_codes_are_refused():
    with pytest.raises(wb.BadInput, match="no codes"):
        side_health(np.empty((0, 16), np.uint8))
