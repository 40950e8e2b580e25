"""The one loop that computes features: batches, memory, what is kept, and what happens at once."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.vlm_quantization.towers import encoding_pass
from adapters.vlm_quantization.towers.batch_size import BatchSize
from adapters.vlm_quantization.towers.encoding_pass import EncodingPass
from adapters.vlm_quantization.towers.feature_cache import FeatureCache, Shelf, key_of


class Split:
    """A tower in two steps whose memory holds some items only; a vector is an item and its square."""

    name, fingerprint, dim = "split", "split/1", 2

    def __init__(self, holds: int = 1_000, error: type[Exception] = MemoryError) -> None:
        self.holds, self.error = holds, error
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def inputs(self, items):
        self.threads.add(threading.get_ident())
        return {"x": np.array(items, np.float32)}

    def forward(self, inputs):
        x = inputs["x"]
        if len(x) > self.holds:
            raise self.error("CUDA out of memory")
        self.batches.append(len(x))
        return np.stack([x, x**2], axis=1)


class Whole(Split):
    """The same tower in one step."""

    inputs = forward = property()

    def features(self, items):
        return Split.forward(self, {"x": np.array(items, np.float32)})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return FeatureCache(tmp_path).shelf("pictures", {})


def encode(tower: Split, shelf: Shelf, size: BatchSize, count: int = 50) -> tuple[EncodingPass, np.ndarray]:
    out = np.zeros((count, 2), np.float32)
    rows = {key_of(str(number)): number for number in range(count)}
    with EncodingPass(
        tower, shelf, size, lambda keys, made: out.__setitem__([rows[key] for key in keys], made)
    ) as encoding:
        for key, number in rows.items():
            encoding.add(key, number)
    return encoding, out


EXPECTED = np.stack([np.arange(50.0), np.arange(50.0) ** 2], axis=1).astype(np.float32)


@pytest.mark.parametrize("kind", [Split, Whole])
@pytest.mark.parametrize(("size", "batches"), [(16, [16, 16, 16, 2]), (50, [50]), (64, [50]), (1, [1] * 50)])
def test_items_pass_in_batches_and_are_kept(
    shelf: Shelf, kind: type[Split], size: int, batches: list[int]
) -> None:
    tower = kind()
    encoding, out = encode(tower, shelf, BatchSize(size))
    assert tower.batches == batches
    assert np.array_equal(out, EXPECTED)
    assert encoding.count == 50
    records = shelf.get([key_of(str(number)) for number in range(50)])
    kept = [np.frombuffer(record, np.float32) for record in records.values()]
    assert np.array_equal(np.stack(kept), EXPECTED)


@pytest.mark.parametrize("kind", [Split, Whole])
@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits(
    shelf: Shelf, kind: type[Split], error: type[Exception]
) -> None:
    tower = kind(holds=5, error=error)
    encoding, out = encode(tower, shelf, BatchSize(32))
    assert np.array_equal(out, EXPECTED)
    assert encoding.size.now == 4
    assert encoding.size.halved == 3
    assert max(tower.batches) == 4


@pytest.mark.parametrize(("size", "group"), [(20, 8), (8, 8), (5, 8), (50, 3)])
def test_inputs_are_made_in_small_groups_and_joined(shelf: Shelf, size: int, group: int) -> None:
    made: list[int] = []

    class Grouped(Split):
        def inputs(self, items):
            made.append(len(items))
            return super().inputs(items)

    tower = Grouped()
    out: dict[bytes, float] = {}
    with EncodingPass(
        tower,
        shelf,
        BatchSize(size),
        lambda keys, rows: out.update(zip(keys, rows[:, 1].tolist(), strict=True)),
        group=group,
    ) as encoding:
        for number in range(50):
            encoding.add(key_of(str(number)), number)
    assert out == {key_of(str(number)): float(number**2) for number in range(50)}
    assert max(made) <= min(size, group)
    assert tower.batches[0] == size


def test_only_so_many_pixels_wait_for_their_inputs(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_pass, "WAITING_BYTES", 3 * 100 * 100 * 4)
    most = added = prepared = 0

    class Pictures(Split):
        def inputs(self, items):
            nonlocal most, prepared
            most = max(most, added - prepared)
            prepared += len(items)
            return {"x": np.zeros(len(items), np.float32)}

    with EncodingPass(Pictures(), shelf, BatchSize(64), group=2) as encoding:
        for number in range(64):
            added += 1
            encoding.add(key_of(str(number)), Image.new("RGB", (100, 100)))
    assert encoding.count == 64
    assert most <= 4 + 2 + 2  # those that wait, the group that is being made, and the one that is added


def test_an_item_too_large_for_the_memory_and_other_errors_are_raised(shelf: Shelf) -> None:
    with pytest.raises(MemoryError):
        encode(Split(holds=0), shelf, BatchSize(8))
    with pytest.raises(ValueError, match="CUDA out of memory"):
        encode(Split(holds=5, error=ValueError), shelf, BatchSize(8))


def test_inputs_are_prepared_in_another_thread(shelf: Shelf) -> None:
    tower = Split()
    encode(tower, shelf, BatchSize(8))
    assert threading.get_ident() not in tower.threads


def test_the_next_batch_is_prepared_while_one_is_encoded(shelf: Shelf) -> None:
    prepared = threading.Semaphore(0)

    class Waiting(Split):
        def inputs(self, items):
            prepared.release()
            return super().inputs(items)

        def forward(self, inputs):
            if not self.batches:
                # its own batch and the next one, though nobody has asked for that yet
                assert prepared.acquire(timeout=30)
                assert prepared.acquire(timeout=30)
            return super().forward(inputs)

    _, out = encode(Waiting(), shelf, BatchSize(8))
    assert np.array_equal(out, EXPECTED)


def test_what_was_encoded_is_kept_if_the_pass_is_stopped(shelf: Shelf) -> None:
    def stop(keys: object, features: object) -> None:
        raise KeyboardInterrupt

    def run() -> None:
        with EncodingPass(Split(), shelf, BatchSize(8), stop) as encoding:
            for number in range(50):
                encoding.add(key_of(str(number)), number)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(shelf.get([key_of(str(number)) for number in range(50)])) == 8
