"""The optimiser is PyTorch's, without the import of its compiler."""

from __future__ import annotations

import sys

import pytest
import torch

from adapters.vlm_quantization.train.plain_adamw import PlainAdamW


def trained(optimiser_class: type[torch.optim.AdamW]) -> torch.Tensor:
    model = torch.nn.Linear(3, 3)
    model.weight.data = torch.arange(9.0).reshape(3, 3) / 9
    model.bias.data = torch.arange(3.0)
    optimiser = optimiser_class(model.parameters(), 1e-3, weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=8)
    for _ in range(6):
        optimiser.zero_grad(set_to_none=True)
        model(torch.ones(2, 3)).square().sum().backward()
        optimiser.step()
        schedule.step()
    return torch.cat([part.detach().flatten() for part in model.parameters()])


def test_its_steps_are_those_of_pytorch() -> None:
    assert torch.equal(trained(PlainAdamW), trained(torch.optim.AdamW))


def test_it_does_not_import_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    trained(PlainAdamW)
