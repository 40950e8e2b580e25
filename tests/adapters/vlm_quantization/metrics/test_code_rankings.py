"""The compiled count of a ranking and numpy's are the same numbers."""

import numpy as np
import pytest

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.metrics import code_rankings
from adapters.vlm_quantization.metrics.relevance import Graded, SharedLabel
from adapters.vlm_quantization.neighbours.by_numba import NumbaCounts


def counted(lengths, relevance, itself, codes):
    groups = code_rankings.code_groups(*codes, relevance, lengths, itself)
    return [(start, stop, length, counts.tolist()) for start, stop, length, _, counts in groups]


@pytest.mark.parametrize("lengths", [CODE_LENGTHS, (64,), (8, 128), (24, 40, 128)])
@pytest.mark.parametrize("relevance", [SharedLabel, Graded])
def test_compiled_counts_are_those_of_numpy(monkeypatch, relevance, lengths):
    random = np.random.default_rng(0)
    codes = [random.integers(0, 256, (n, 16), dtype=np.uint8) for n in (5, 8_200)]
    codes[1][:5] = codes[0]
    relevant = relevance(*(random.random((len(one), 30)) < 0.2 for one in codes))
    itself = np.array([0, 1, -1, 3, 8_199])
    monkeypatch.setattr(code_rankings, "is_ready", lambda: False)
    expected = counted(lengths, relevant, itself, codes)
    used = []
    count = NumbaCounts.count
    monkeypatch.setattr(NumbaCounts, "count", lambda self, *task: (used.append(1), count(self, *task))[1])
    monkeypatch.setattr(code_rankings, "is_ready", lambda: True)
    assert counted(lengths, relevant, itself, codes) == expected
    assert used


def test_a_large_evaluation_asks_for_compiled_code_and_a_small_one_does_not(monkeypatch):
    asked = []
    monkeypatch.setattr(code_rankings, "prepare", lambda: asked.append(1))
    monkeypatch.setattr(code_rankings, "is_ready", lambda: False)
    codes = [np.zeros((n, 16), np.uint8) for n in (3, 40)]
    relevant = SharedLabel(*(np.ones((len(one), 1), bool) for one in codes))
    counted((8,), relevant, None, codes)
    assert asked == []
    monkeypatch.setattr(code_rankings, "COMPILED_PAIRS", 120)
    counted((8,), relevant, None, codes)
    assert asked == [1]


def test_what_does_not_fit_is_left_to_numpy():
    assert NumbaCounts.can_count([[8, 16, 32], [64, 128]], 2)
    assert not NumbaCounts.can_count([[8], [256]], 2)
    assert not NumbaCounts.can_count([[64, 128]], 101)
