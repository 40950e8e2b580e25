"""A pass reports what it needs, after a timed sample and at its end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters.vlm_quantization.towers import estimates
from adapters.vlm_quantization.towers.batch_size import BatchSize
from adapters.vlm_quantization.towers.estimates import Estimate, duration, size_in_words
from adapters.vlm_quantization.towers.feature_cache import FeatureCache

TOWER = SimpleNamespace(name="toy", dim=1000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stop the clock of estimates, and the memory of this process."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(estimates, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(estimates, "resident_bytes", lambda: 100_000_000)
    monkeypatch.setattr(estimates, "free_bytes", lambda: 10**10)
    return clock


def test_the_rest_is_estimated_once_from_a_sample(tmp_path: Path, clock: SimpleNamespace) -> None:
    said: list[str] = []
    shelf = FeatureCache(tmp_path).shelf("pictures", {})
    estimate = Estimate("picture", 10_000, 2_000, TOWER, shelf, said.append)
    clock.now = 1.0
    estimate.measured(20)  # the first batch, with the time to load the network
    clock.now = 2.0
    estimate.measured(40)  # too short a sample
    assert said == []
    clock.now = 4.0
    estimate.measured(80)
    clock.now = 9.0
    estimate.measured(90)
    assert said == [
        "8,000 pictures to encode by toy (2,000 encoded before): about 7 min more (20.0 per second, timed on "
        "60 of them). The features take 32 MB of the cache; this process takes about 140 MB of memory."
    ]


def test_too_little_memory_is_said(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(estimates, "free_bytes", lambda: 10**9)
    estimate = Estimate("picture", 10**6, 0, TOWER, FeatureCache(tmp_path).shelf("pictures", {}), said.append)
    estimate.measured(20)
    clock.now = 4.0
    estimate.measured(80)
    assert said[0].endswith("about 4.1 GB of memory. Only 1.0 GB of memory are free.")


def test_nothing_to_encode_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    Estimate("text", 1, 1, TOWER, FeatureCache(tmp_path).shelf("texts", {}), said.append)
    assert said == ["1 text: all encoded before by toy, nothing to encode."]


def test_the_end_says_the_batch_size_and_what_went_otherwise(tmp_path: Path, clock: SimpleNamespace) -> None:
    said: list[str] = []
    shelf = FeatureCache(tmp_path).shelf("pictures", {})
    estimate = Estimate("picture", 100, 0, TOWER, shelf, said.append)
    size = BatchSize(64)
    size.too_large(64)
    shelf.full = True
    clock.now = 4.0
    estimate.finished(SimpleNamespace(count=100, size=size))  # type: ignore[arg-type]
    assert said == [
        "100 pictures encoded by toy, 32 at a time, 25.0 per second. The memory was too small for larger "
        "batches: halved once. The cache has no room for all of them, so a later job encodes some again."
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.1, "1 s"), (40.4, "40 s"), (300, "5 min"), (5300, "88 min"), (9000, "2.5 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("size", "words"), [(0, "1 MB"), (31e6, "31 MB"), (3.07e9, "3.1 GB")])
def test_sizes(size: float, words: str) -> None:
    assert size_in_words(size) == words
