"""Devices for networks, and the error for one that is not available."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from adapters.vlm_quantization.options import EvalOptions, IndexOptions, TrainOptions
from adapters.vlm_quantization.towers import device
from adapters.vlm_quantization.towers.dummy import DummyVisionModel
from adapters.vlm_quantization.towers.torch_tower import TorchTower


class Doubling(TorchTower[float]):
    """A network that only a test has."""

    name, dim, fingerprint, batch = "doubling", 2, "doubling/1", 2

    def inputs(self, items: Any) -> dict[str, Any]:
        return {"x": np.array([[item, -item] for item in items], np.float32)}

    def network(self) -> Any:
        class Double(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                return 2 * x

        return Double()


def test_a_device_that_is_missing_is_named_with_those_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.available_devices() == ("cpu",)
    assert device.chosen_device("auto") == device.chosen_device("cpu") == "cpu"
    for name in ("cuda", "mps"):
        with pytest.raises(
            wb.BadInput, match=f"device='{name}' is not available here; available: cpu"
        ) as caught:
            device.chosen_device(name)
        assert "device=auto" in caught.value.hint
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.chosen_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.chosen_device("auto") == "cuda"
    assert device.chosen_device("mps") == "mps"


def test_every_job_takes_a_device_and_refuses_others() -> None:
    for schema in (TrainOptions, EvalOptions, IndexOptions):
        assert schema().device == "auto"
        with pytest.raises(ValueError, match="'auto', 'cpu', 'cuda' or 'mps'"):
            schema.model_validate({"device": "tpu"})


def test_a_tower_computes_where_it_is_placed() -> None:
    tower = device.place(Doubling(), "cpu")
    assert tower.features([1.0, 2.0, 3.0]).tolist() == [[2, -2], [4, -4], [6, -6]]
    device.place(tower, "meta")  # a device without values: nothing can come back from it
    with pytest.raises(NotImplementedError):
        tower.features([1.0])
    plain = DummyVisionModel()
    assert device.place(plain, "cuda") is plain
    assert not hasattr(plain, "device")

    class Opened:
        device = "meta"

    assert device.use_device(Opened(), TrainOptions(device="cpu")).device == "cpu"
    assert device.use_device(plain, TrainOptions(device="cpu")) is plain
