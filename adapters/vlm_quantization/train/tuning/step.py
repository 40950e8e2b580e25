"""One step in which the towers are trained too, in as many parts as memory needs.

The loss compares every text of a batch with every picture of it, so the sum of the losses of two halves is
another loss: it lacks the comparisons between the halves. A batch is therefore split as in GradCache (Gao et
al., RepL4NLP 2021): the vectors of all parts are computed without a graph, then the loss of the whole batch
and its gradient for each vector, then each part once more with a graph, through which its vectors' gradient
flows on. The gradients are those of the undivided batch, for one forward pass more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adapters.vlm_quantization.train.losses import batch_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.model import CrossModalHashModel
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.train.batches import Batches, TrainingBatch
    from adapters.vlm_quantization.train.tuning.inputs import PictureInputs
    from adapters.vlm_quantization.train.tuning.towers import TrainableTowers

#: Side of the towers and inputs of one part.
_Part = tuple[str, "Callable[[], Mapping[str, NDArray[Any]]]"]


class TunedStep:
    """Trains towers and heads together: on one picture of each concept, or a view of it.

    Mixing two drawings and adding the style of a third need features that do not change; they are left out.
    Noise is added as in a training of the heads.

    Parameters
    ----------
    model : CrossModalHashModel
    towers : TrainableTowers
    batches : Batches
    pictures : PictureInputs
    text_components : Tensor or None
        Of the texts of ``batches`` if their tower is frozen.
    ids : sequence of str
        Of the collection's items.
    options : TrainOptions
    """

    def __init__(
        self,
        model: CrossModalHashModel,
        towers: TrainableTowers,
        batches: Batches,
        pictures: PictureInputs,
        text_components: Tensor | None,
        ids: Sequence[str],
        options: TrainOptions,
    ) -> None:
        self._model, self._towers, self._options = model, towers, options
        self._batches, self._pictures, self._ids = batches, pictures, ids
        self._text_components = text_components
        self._last: dict[str, Tensor] = {}

    def backward(self, batch: TrainingBatch, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
        """Add the gradients of a batch's scaled loss to heads and towers; return the loss and its terms."""
        parts = self._parts(batch)
        if self._options.accumulate == 1:
            vectors = [self._towers.vectors(side, inputs()) for side, inputs in parts]
            loss, terms = self._loss(batch, *self._joined(parts, vectors))
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return terms
        states = []
        vectors = []
        with torch.no_grad():
            for side, inputs in parts:
                states.append(_random_state(self._towers.device))
                vectors.append(self._towers.vectors(side, inputs()))
        leaves = [one.requires_grad_(True) for one in vectors]
        loss, terms = self._loss(batch, *self._joined(parts, leaves))
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        after = _random_state(self._towers.device)
        for (side, inputs), state, leaf in zip(parts, states, leaves, strict=True):
            _set_random_state(state, self._towers.device)  # the same dropout as before
            torch.autograd.backward(self._towers.vectors(side, inputs()), leaf.grad)
        _set_random_state(after, self._towers.device)
        return terms

    def suspects(self, batch: TrainingBatch) -> Sequence[str]:
        """Return which pictures and texts of the last batch had vectors that are not finite."""
        broken = [
            f"picture {self._ids[row]}"
            for row, vector in zip(batch.pictures[:, 0].tolist(), self._last["image"], strict=True)
            if not vector.isfinite().all()
        ]
        if "text" in self._last:
            numbers = np.unique(batch.texts).tolist()
            broken += [
                f"text {self._batches.texts.texts[number]!r}"
                for number, vector in zip(numbers, self._last["text"], strict=True)
                if not vector.isfinite().all()
            ]
        return broken

    def _parts(self, batch: TrainingBatch) -> list[_Part]:
        """Return the inputs of a batch by side, split into parts; each is prepared when it is needed."""
        count = self._options.accumulate
        parts: list[_Part] = []
        shown = np.stack([batch.pictures[:, 0], batch.views[:, 0]])
        for columns in np.array_split(shown, count, axis=1):
            if columns.shape[1]:
                parts.append(("image", lambda columns=columns: self._pictures(*columns.tolist())))  # type: ignore[misc]
        if (tower := self._towers.text) is not None:
            texts = [self._batches.texts.texts[number] for number in np.unique(batch.texts).tolist()]
            size = -(-len(texts) // count)
            for start in range(0, len(texts), size):
                some = texts[start : start + size]
                parts.append(("text", lambda some=some: tower.inputs(some)))  # type: ignore[misc]
        return parts

    def _joined(self, parts: Sequence[_Part], vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        sides = {
            side: torch.cat([one for (own, _), one in zip(parts, vectors, strict=True) if own == side])
            for side in dict.fromkeys(side for side, _ in parts)
        }
        self._last = {side: joined.detach() for side, joined in sides.items()}
        return sides["image"], sides.get("text")

    def _loss(
        self, batch: TrainingBatch, images: Tensor, texts: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        options = self._options
        numbers, places = np.unique(batch.texts, return_inverse=True)

        def drawn_images() -> Tensor:
            return _noisy(self._model.components(images), options.noise)

        def drawn_texts() -> Tensor:
            if texts is not None:
                components = self._model.text_components(texts)
            else:
                assert self._text_components is not None  # noqa: S101
                components = self._text_components[torch.from_numpy(numbers)]
            two = components[torch.from_numpy(places.reshape(batch.texts.shape))]
            return _noisy((two[:, 0] + two[:, 1]) / 2, options.text_noise)

        has_texts = bool(self._model.config.text_tower)
        return batch_loss(self._model, batch, drawn_images, drawn_texts if has_texts else None, options)


def _noisy(x: Tensor, noise: float) -> Tensor:
    return x + torch.randn_like(x) * noise


def _random_state(device: str) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: str) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
