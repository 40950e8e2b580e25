"""The optimiser of a training, and how its learning rates change over the steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from adapters.vlm_quantization.train.plain_adamw import PlainAdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from adapters.vlm_quantization.options import TrainOptions


def optimiser_of(
    groups: Iterable[dict[str, Any]], options: TrainOptions, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW over parameter groups, and the schedule of its learning rates.

    Parameters
    ----------
    groups : iterable of dict
        Each with ``params`` and ``lr``, its peak; ``weight_decay`` if it is not that of the options.
    options : TrainOptions
    steps : int
        Steps that will be taken.
    """
    groups = list(groups)
    rates = [float(group["lr"]) for group in groups]
    optimiser = PlainAdamW(groups, weight_decay=options.weight_decay, fused=True)
    if options.schedule == "warm_restarts":
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, restarting(options, steps))
        return optimiser, schedule
    # the schedule divides by the warm-up steps minus one, so the warm-up takes at least two
    total = max(steps, 4)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=total, pct_start=max(options.warmup, 2 / total)
    )


def restarting(options: TrainOptions, steps: int) -> Callable[[int], float]:
    """Return the factor of a learning rate by step, from 0: cosines that each begin with a warm-up.

    As in SGDR (Loshchilov & Hutter, ICLR 2017), with periods of equal length.
    """
    period = max(2, math.ceil(steps / (options.restarts + 1)))
    warm = max(1, round(options.warmup * period))

    def factor(step: int) -> float:
        place = step % period
        if place < warm:
            return (place + 1) / warm
        return (1 + math.cos(math.pi * (place - warm) / (period - warm))) / 2

    return factor
