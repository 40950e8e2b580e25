"""Hyperplanes of nested codes that need no training."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.encoding.itq import NESTED_COMPONENTS, nested_planes, principal_axes


def rows(n: int = 400, width: int = 160, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = random.standard_normal((n, width)) * np.linspace(3, 0.05, width)
    return made - made.mean(axis=0)


@pytest.mark.parametrize("method", ["itq", "sign"])
def test_a_prefix_uses_only_the_components_of_its_length(method: str) -> None:
    centred = rows()
    planes = nested_planes(centred, method, np.random.default_rng(1))
    assert planes.shape == (160, CODE_LENGTHS[-1])
    loadings = principal_axes(centred).T @ planes  # how much of each component is in each plane
    for length in (8, 16, 32, 64):
        assert np.abs(loadings[length:, :length]).max() < 1e-9
        kept = planes[:, :length]
        assert np.allclose(kept.T @ kept, np.eye(length), atol=1e-6)  # all of them, in a rotation
    if method == "itq":
        assert np.abs(loadings[NESTED_COMPONENTS:]).max() < 1e-9
    else:
        assert np.allclose(np.abs(loadings), np.eye(160)[:, :128], atol=1e-6)


def test_the_rotations_of_itq_bring_signs_nearer_to_the_components() -> None:
    centred = rows()

    def loss(method: str) -> float:
        values = centred @ nested_planes(centred, method, np.random.default_rng(1))[:, :64]
        return float(np.square(values - np.sign(values)).sum())

    assert loss("itq") < loss("sign")


@pytest.mark.parametrize("method", ["itq", "sign"])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_few_rows_still_give_a_whole_code(method: str, n: int) -> None:
    random = np.random.default_rng(0)
    few = random.standard_normal((n, 40))
    planes = nested_planes(few - few.mean(axis=0), method, np.random.default_rng(1))
    assert planes.shape == (40, 128)
    assert np.isfinite(planes).all()
    assert (np.linalg.norm(planes, axis=0) > 0).all()


def test_the_same_seed_gives_the_same_planes() -> None:
    one, other, third = (nested_planes(rows(), "itq", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)
