"""How learning rates change over the steps of a training."""

from __future__ import annotations

import pytest
import torch

from adapters.vlm_quantization.train.optimiser import optimiser_of, restarting
from tests.adapters.vlm_quantization import shapes


def rates(steps: int, **changes: object) -> list[list[float]]:
    """Return the learning rates of two groups at every step."""
    one, other = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    groups = [{"params": [one], "lr": 1e-2}, {"params": [other], "lr": 1e-4, "weight_decay": 0.0}]
    optimiser, schedule = optimiser_of(groups, shapes.options(weight_decay=0.3, **changes), steps)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.3, 0.0]
    out = []
    for _ in range(steps):
        out.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return out


def test_each_group_rises_to_its_own_peak_and_falls() -> None:
    taken = rates(100)
    assert max(one for one, _ in taken) == pytest.approx(1e-2)
    assert max(other for _, other in taken) == pytest.approx(1e-4)
    assert [one for one, _ in taken].index(max(one for one, _ in taken)) in (9, 10)  # a warm-up of a tenth
    assert taken[-1][0] < 1e-4
    late = [one for one, _ in rates(100, warmup=0.5)]
    assert late.index(max(late)) in (49, 50)


def test_warm_restarts_repeat_the_rise_and_the_fall() -> None:
    taken = [one for one, _ in rates(90, schedule="warm_restarts", restarts=2)]
    assert taken[:30] == taken[30:60] == taken[60:]
    assert taken[0] < max(taken) == pytest.approx(1e-2)
    assert taken[29] < 0.01 * max(taken)
    factor = restarting(shapes.options(restarts=50), 3)  # more restarts than steps
    assert all(0 <= factor(step) <= 1 for step in range(9))
