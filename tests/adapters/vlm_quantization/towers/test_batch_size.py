"""The batch size is found: it grows while that is faster and fits, and is halved where it does not."""

from __future__ import annotations

import pytest

from adapters.vlm_quantization.towers import batch_size
from adapters.vlm_quantization.towers.batch_size import BatchSize, free_bytes, is_out_of_memory


def run(size: BatchSize, seconds_of, passes: int = 60) -> list[int]:  # type: ignore[no-untyped-def]
    """Let passes take what a function of their size says; return the sizes in their order."""
    sizes = []
    for _ in range(passes):
        sizes.append(size.now)
        size.took(size.now, seconds_of(size.now))
    return list(dict.fromkeys(sizes))


def test_it_grows_while_larger_batches_are_faster() -> None:
    size = BatchSize(start=16, device="cuda")
    assert run(size, lambda n: 1.0 + 0.001 * n) == [16, 32, 64, 128, 256, 512]
    assert (size.now, size.settled) == (512, True)


def test_it_goes_back_to_the_last_size_that_was_worth_it() -> None:
    size = BatchSize(start=16, device="cuda")
    # up to 64 a pass takes the same time whatever its size; beyond, each item its own
    assert run(size, lambda n: max(1.0, n / 64)) == [16, 32, 64, 128]
    assert (size.now, size.settled) == (64, True)


def test_one_slow_pass_does_not_decide() -> None:
    size = BatchSize(start=16, device="cuda")
    times = iter([9.0, 1.0, 1.0, 9.0, 1.0, 1.0, 9.0, 3.0, 3.0, 9.0, 9.0, 9.0])
    for _ in range(9):
        size.took(size.now, next(times))
    assert (size.now, size.settled) == (32, True)


def test_a_cpu_stops_early_and_before_its_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    size = BatchSize(start=16)
    monkeypatch.setattr(batch_size, "free_bytes", lambda: 2**40)
    run(size, lambda n: 1.0)
    assert size.now == batch_size.MOST_ON_CPU
    resident = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(batch_size, "resident_bytes", lambda: next(resident))
    monkeypatch.setattr(batch_size, "free_bytes", lambda: 5 * 10**9)
    size = BatchSize(start=16)  # a batch of 16 then takes 1 GB, one of 32 two, one of 64 four
    run(size, lambda n: 1.0)
    assert (size.now, size.settled) == (32, True)


def test_a_fixed_size_stays() -> None:
    size = BatchSize(24)
    assert run(size, lambda n: 1 / n) == [24]


def test_too_little_memory_halves_it_down_to_one() -> None:
    size = BatchSize(20)
    assert size.too_large(20)
    assert size.now == 10
    assert size.too_large(20)  # one that was prepared before
    assert size.now == 10
    for expected in (5, 2, 1):
        assert size.too_large(size.now)
        assert size.now == expected
    assert not size.too_large(1)
    assert size.settled


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_recognised(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


def test_a_gpu_s_own_error_is_recognised() -> None:
    import torch

    assert is_out_of_memory(torch.cuda.OutOfMemoryError("allocation failed"))


def test_free_memory_is_a_plausible_number_of_bytes() -> None:
    assert 2**20 < free_bytes() < 2**50
