"""Validation during training: the metric that selects the best model, and how it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.relevance import SameItem
from adapters.vlm_quantization.model import CrossModalHashModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.towers.tower import TextTower


#: The selection metric: mean R@10 of text→image over lengths, languages and both kinds of held-out pictures.
DECIDING = "val/R@10"


class Validation:
    """Measures a model on the validation parts: text to picture, per language and length.

    Parameters
    ----------
    collection, splits
        What to measure on.
    components : Tensor, float32, shape (n, image_components), or callable
        Of all pictures of the collection; or what computes those of some rows, at every measurement.
    lengths : sequence of int
        Code lengths that decide.
    tower : TextTower, optional
        The frozen text tower, if the model has one; one that remembers the captions is asked every time.
    languages : sequence of str
        Languages of the captions that decide; all if empty.
    """

    def __init__(
        self,
        collection: CaptionedImages,
        splits: Splits,
        components: Tensor | Callable[[NDArray[np.int64]], Tensor],
        lengths: Sequence[int] = CODE_LENGTHS,
        tower: TextTower | None = None,
        languages: Sequence[str] = (),
    ) -> None:
        self._tower = tower
        self._lengths = tuple(lengths)
        self._components = components
        self._sides = []
        for part in ("val_drawings", "val_concepts", "val"):
            rows = getattr(splits, part)
            if len(rows):
                queries = {
                    language: caption_queries(collection, rows, language, each_item=part == "val")
                    for language in languages or collection.languages
                }
                gallery = [collection.items[row].concept for row in rows]
                self._sides.append((rows, gallery, queries))

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure on."""
        return bool(self._sides)

    @torch.no_grad()
    def measure(self, model: CrossModalHashModel) -> dict[str, float]:
        """Return ``val/R@10@64``, ``val/mAP@64``, ``val/R@10@float``: means over parts and languages."""
        values: dict[str, list[float]] = {}
        for side, gallery, queries in self._sides:
            whole = self._components
            components = whole(side) if callable(whole) else whole[torch.from_numpy(side)]
            pictures = _encoded(model.image_vectors(components), model.image_code)
            for captions, concepts in queries.values():
                if not captions:
                    continue
                texts = _encoded(self._text_vectors(model, captions), model.text_code)
                relevance = SameItem(concepts, gallery)
                records = evaluate_codes(texts.codes, pictures.codes, relevance, ks=(10,))
                records += evaluate_scores(texts.features, pictures.features, relevance, ks=(10,))
                for record in records:
                    if record.name in ("mAP", "R@10"):
                        length = "float" if record.bits is None else record.bits
                        values.setdefault(f"val/{record.name}@{length}", []).append(record.value)
        means = {name: float(np.mean(each)) for name, each in values.items()}
        coded = [means[f"val/R@10@{length}"] for length in self._lengths] if means else [0.0]
        return {**means, DECIDING: float(np.mean(coded))}

    def _text_vectors(self, model: CrossModalHashModel, texts: Sequence[str]) -> Tensor:
        device = model.image_mean.device
        rows, offsets = model.text_rows(texts) if model.config.ngrams else (None, None)
        if rows is not None and offsets is not None:
            rows, offsets = rows.to(device), offsets.to(device)
        if self._tower is None:
            return model.text_vectors(rows, offsets)
        components = model.text_components(torch.from_numpy(self._tower.features(texts)).to(device))
        return model.text_vectors(rows, offsets, components)


def caption_queries(
    collection: CaptionedImages, rows: NDArray[np.int64], language: str, *, each_item: bool = False
) -> tuple[list[str], list[str]]:
    """Return every caption in a language of the pictures of ``rows``, and the concept of each."""
    captions = collection.captions(rows.tolist(), language, each_item=each_item)
    return [caption.text for caption in captions], [caption.concept for caption in captions]


def _encoded(vectors: Tensor, layer: Callable[[Tensor], Tensor]) -> Encoded:
    from adapters.vlm_quantization.codes import pack_codes

    return Encoded(pack_codes((layer(vectors) >= 0).cpu().numpy()), vectors.cpu().numpy())
