"""AdamW without PyTorch's compiler, whose import takes longer than a short training."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

_step = inspect.unwrap(AdamW.step)


class PlainAdamW(AdamW):
    """:class:`torch.optim.AdamW` as it is inside, with equal results.

    PyTorch wraps its methods to keep its compiler out of them, and imports that compiler to do so.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        return _step(self, closure)
