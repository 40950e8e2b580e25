"""One step of a training on frozen features: the loss of a batch, and its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from adapters.vlm_quantization.train.batches import drawn_rows, drawn_texts, versions_of
from adapters.vlm_quantization.train.losses import batch_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from adapters.vlm_quantization.model import CrossModalHashModel
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.train.batches import Batches, TrainingBatch


class Step(Protocol):
    """The part of a training that depends on what is trained: heads alone, or the towers too."""

    def backward(self, batch: TrainingBatch, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
        """Add the gradients of a batch's scaled loss, and return the loss and its terms by name."""

    def suspects(self, batch: TrainingBatch) -> Sequence[str]:
        """Return which pictures and texts of a batch have vectors that are not finite, in words."""


class FrozenStep:
    """Trains the heads on frozen features.

    Parameters
    ----------
    model : CrossModalHashModel
    batches : Batches
    components : Tensor, float32, shape (n, image_components)
        Of all pictures of the collection.
    views : Tensor or None, float32, shape (2 V, n, image_components)
        Of their weak views, then of their strong ones; None without views.
    text_components : Tensor or None, float32, shape (len(batches.texts), text_components)
        Of the texts of ``batches``; None without a frozen text tower.
    ids : sequence of str
        Of the collection's items.
    options : TrainOptions
    """

    def __init__(
        self,
        model: CrossModalHashModel,
        batches: Batches,
        components: Tensor,
        views: Tensor | None,
        text_components: Tensor | None,
        ids: Sequence[str],
        options: TrainOptions,
    ) -> None:
        self._model, self._options, self._ids = model, options, ids
        self._batches, self._components, self._views = batches, components, views
        self._text_components = text_components
        self._pairs = torch.from_numpy(batches.pairs).to(components.device)

    def backward(self, batch: TrainingBatch, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
        """Add the gradients of a batch's loss, and return the loss and its terms by name."""
        texts = self._text_components
        loss, parts = batch_loss(
            self._model,
            batch,
            lambda: drawn_rows(batch, self._components, self._pairs, self._options, self._views),
            None if texts is None else lambda: drawn_texts(batch, texts, self._options),
            self._options,
            lambda: self._compared(batch),
        )
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return parts

    def _compared(self, batch: TrainingBatch) -> Tensor:
        """Return a weak view of each picture, then a strong one."""
        sides = (
            versions_of(batch.pictures[:, 0], batch.compared[:, side], self._components, self._views)
            for side in (0, 1)
        )
        return torch.cat(list(sides))

    def suspects(self, batch: TrainingBatch) -> Sequence[str]:
        """Return which pictures and texts of a batch have features that are not finite."""
        rows = sorted({*batch.pictures.flatten().tolist()})
        broken = [f"picture {self._ids[row]}" for row in rows if not self._components[row].isfinite().all()]
        if (texts := self._text_components) is not None:
            numbers = sorted({*batch.texts.flatten().tolist()})
            whole = self._batches.texts.texts
            broken += [f"text {whole[one]!r}" for one in numbers if not texts[one].isfinite().all()]
        return broken
