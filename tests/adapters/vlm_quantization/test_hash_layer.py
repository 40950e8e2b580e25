import numpy as np
import pytest
import torch

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.hash_layer import NestedHashLayer, pack_codes, sign_straight_through, signs


def test_zero_counts_as_one() -> None:
    assert signs(torch.tensor([-1e-9, 0.0, -0.0, 2.0])).tolist() == [-1, 1, 1, 1]


def test_the_gradient_is_that_of_a_clamp() -> None:
    x = torch.tensor([-1.5, -0.5, 0.0, 1.0, 1.5], requires_grad=True)
    sign_straight_through(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_packing_is_row_by_row_with_the_first_bit_highest() -> None:
    bits = np.zeros((2, 16), bool)
    bits[0, 0] = bits[1, 15] = True
    assert pack_codes(bits).tolist() == [[128, 0], [0, 1]]


@pytest.mark.parametrize("shape", [(3, 12), (3, 7), (16,), (2, 2, 8)])
def test_widths_that_are_not_whole_bytes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        pack_codes(np.zeros(shape, bool))


def test_short_codes_are_prefixes_of_the_long_one_for_any_weights() -> None:
    torch.manual_seed(0)
    layer = NestedHashLayer(16)
    layer.train()
    for _ in range(20):
        layer(torch.randn(64, 16) + 0.5)  # moves the thresholds away from zero
    layer.eval()
    assert layer.norm.running_mean.abs().max() > 0.05
    x = torch.randn(50, 16)
    whole = layer.codes(x)
    for length in CODE_LENGTHS:
        # a layer that only ever had its first `length` rows
        short = NestedHashLayer(16, length)
        with torch.no_grad():
            short.linear.weight.copy_(layer.linear.weight[:length])
            short.norm.running_mean.copy_(layer.norm.running_mean[:length])
            short.norm.running_var.copy_(layer.norm.running_var[:length])
        assert np.array_equal(short.eval().codes(x), whole[:, : length // 8])


def test_thresholds_balance_the_bits() -> None:
    torch.manual_seed(0)
    layer = NestedHashLayer(16).train()
    x = torch.randn(512, 16) + 3  # far from zero: without thresholds most bits would never change
    for _ in range(200):
        layer(x)
    share = np.unpackbits(layer.eval().codes(x), axis=1).mean(0)
    assert np.abs(share - 0.5).max() < 0.1
