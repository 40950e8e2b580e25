"""Files that are written part by part are those that the library reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from adapters.vlm_quantization.encoding.tensor_file import write_tensors


def test_what_is_written_is_read_by_the_library_and_equal_in_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "b": rng.standard_normal((3, 5)).astype(np.float32).T,  # not contiguous
        "a": np.array(7, np.int64),
        "mask": np.array([True, False, True]),
        "none": np.empty((0, 4), np.float32),
        "random": rng.integers(0, 255, 11, dtype=np.uint8),
        "wide": rng.standard_normal(3),
    }
    write_tensors(tmp_path / "one", tensors, {"format": "x/1"})
    write_tensors(tmp_path / "other", dict(reversed(tensors.items())), {"format": "x/1"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    with safe_open(tmp_path / "one", framework="numpy") as file:
        assert file.metadata() == {"format": "x/1"}
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            assert file.get_tensor(name).dtype == tensor.dtype
            assert np.array_equal(file.get_tensor(name), tensor)


def test_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half is float16; known types: float32"):
        write_tensors(tmp_path / "file", {"half": np.zeros(2, np.float16)}, {})
