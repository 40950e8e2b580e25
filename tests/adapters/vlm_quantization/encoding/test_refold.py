"""Separate codes become nested ones: what differs is counted by a slow loop, and the cost is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.vlm_quantization.encoding.lightning import read_lightning
from adapters.vlm_quantization.encoding.peer_head import signs
from adapters.vlm_quantization.encoding.refold import AGREEING, LONGEST, differing, fold, recall
from adapters.vlm_quantization.metrics.relevance import SameItem
from adapters.vlm_quantization.train.taken_over import Sample, refold_heads
from tests.adapters.vlm_quantization.encoding.lightning_files import peer, write


def outputs(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.3, (n, 128)).astype(np.float32)


def test_bits_that_differ_are_counted_position_by_position(tmp_path: Path) -> None:
    norms = read_lightning(write(tmp_path / "a.ckpt", peer())).heads["image"].norms
    x = outputs()
    for one in differing(x, norms, norms[128]):
        counts = []
        ever = set()
        for row in x:
            places = [
                bit
                for bit in range(one.length)
                if (row[bit] * norms[one.length][0][bit] + norms[one.length][1][bit] >= 0)
                != (row[bit] * norms[128][0][bit] + norms[128][1][bit] >= 0)
            ]
            counts.append(len(places))
            ever |= set(places)
        assert (one.mean, one.ever) == (pytest.approx(np.mean(counts)), len(ever))
    by_length = {one.length: one for one in differing(x, norms, norms[128])}
    assert by_length[128].ever == 0
    assert by_length[8].ever > 0


def test_each_threshold_is_that_of_one_length_and_the_agreeing_fold_differs_least(tmp_path: Path) -> None:
    norms = read_lightning(write(tmp_path / "a.ckpt", peer(apart=1.0))).heads["text"].norms
    x = outputs(400)
    longest, agreeing = fold(x, norms, LONGEST), fold(x, norms, AGREEING)
    np.testing.assert_array_equal(longest[0], norms[128][0])

    def loss(thresholds: tuple[np.ndarray, np.ndarray]) -> float:
        return sum(one.mean / one.length for one in differing(x, norms, thresholds))

    assert loss(agreeing) < loss(longest)
    for bit in range(128):
        pairs = {(norms[n][0][bit], norms[n][1][bit]) for n in norms if n > bit}
        assert (agreeing[0][bit], agreeing[1][bit]) in pairs
    np.testing.assert_array_equal(agreeing[0][64:], longest[0][64:])  # only the long code has these bits


def test_equal_thresholds_make_every_way_exact(tmp_path: Path) -> None:
    norms = read_lightning(write(tmp_path / "a.ckpt", peer(apart=0.0))).heads["image"].norms
    same = {length: tuple(part[:length] for part in norms[128]) for length in norms}
    for way in (LONGEST, AGREEING):
        folded = fold(outputs(), same, way)
        np.testing.assert_array_equal(folded[0], norms[128][0])
        assert [one.ever for one in differing(outputs(), same, folded)] == [0] * 5


def test_recall_by_separate_and_folded_codes_and_by_float(tmp_path: Path) -> None:
    read = read_lightning(write(tmp_path / "a.ckpt", peer(lengths=(16, 128))))
    norms = {side: head.norms for side, head in read.heads.items()}
    x = outputs(30)
    both = {"image": x, "text": x}
    features = x / np.linalg.norm(x, axis=1, keepdims=True)
    names = [str(row) for row in range(30)]
    folded = {LONGEST: {side: fold(x, norms[side], LONGEST) for side in norms}}
    same = {"image": norms["image"], "text": norms["image"]}
    folded[LONGEST]["text"] = folded[LONGEST]["image"]
    rows = recall(both, same, folded, {"image": features, "text": features}, SameItem(names, names), k=1)
    assert [one.length for one in rows] == [8, 16, 32, 64, 128, None]
    assert set(rows[0].ways) == {LONGEST}  # the model has no 8-bit code of its own
    assert set(rows[1].ways) == {"separate", LONGEST}
    assert rows[4].ways["separate"] == rows[4].ways[LONGEST] == 1.0
    assert rows[-1].ways == {"float": 1.0}


def test_the_better_way_is_chosen_on_one_half_and_measured_on_the_other(tmp_path: Path) -> None:
    read = read_lightning(write(tmp_path / "a.ckpt", peer()))
    random = np.random.default_rng(0)
    base = random.normal(0, 1, (40, 12)).astype(np.float32)
    names = [f"{row:02d}" for row in range(40)]
    sample = Sample(base, base + 0.01 * random.normal(0, 1, base.shape).astype(np.float32), names, names)
    refolded = refold_heads(read, sample)
    assert refolded.way in (LONGEST, AGREEING)
    assert [one.length for one in refolded.differing["image"]] == [8, 16, 32, 64, 128]
    assert not refolded.is_exact
    assert len(refolded.kept) == 6
    x = read.heads["image"].outputs(base)
    np.testing.assert_array_equal(signs(x, refolded.thresholds["image"]).shape, (40, 128))
