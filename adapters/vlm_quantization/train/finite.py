"""Stop a training whose loss or gradient is not finite, and say which items are to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Ids that a message names; all of them are in :attr:`NotFinite.items`.
NAMED = 8


#: Steps in a row that float16 may skip because of its gradients, while their scale adapts.
MAX_SKIPPED = 20


class NotFinite(WorkbenchError):
    """A training that cannot go on; the checkpoints before it are kept.

    Attributes
    ----------
    step : int
        The step, from 1.
    items : tuple of str
        Ids of the batch's items.
    """

    def __init__(
        self, what: str, step: int, items: Sequence[str], *, suspects: Sequence[str] = (), hint: str = ""
    ) -> None:
        named = ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED:,} more" if len(items) > NAMED else "")
        message = f"step {step:,}: {what}; its batch of {len(items):,} items: {named}"
        if suspects:
            message += f". Not finite already before the loss: {', '.join(suspects[:NAMED])}"
        super().__init__(
            message,
            hint=hint
            or "Lower the learning rates, or look at these items. The run's last good checkpoint is kept.",
        )
        self.step = step
        self.items = tuple(items)


def gradient_norm(parameters: Iterable[torch.nn.Parameter]) -> float:
    """Return the length of the gradient of all parameters together; not finite if any entry is not."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
