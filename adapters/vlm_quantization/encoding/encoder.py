"""Inference with a trained model: texts and pictures to codes, in numpy alone.

A search page opens one encoder per visitor, so opening costs only a file read and needs no training library.
The frozen picture network is loaded on the first query by picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.encoding.checkpoint import Checkpoint, read_checkpoint
from adapters.vlm_quantization.towers.ngrams import ngram_rows
from adapters.vlm_quantization.towers.registry import image_tower
from workbench import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.towers.tower import ImageTower


class HashEncoder:
    """Both towers of a checkpoint, for inference.

    Attributes
    ----------
    name : str
        Name of the picture tower.
    bits : tuple of int
        Supported code lengths.
    dim : int
        Width of the float features.
    fingerprint : str
        SHA-256 of the weights.
    """

    bits = CODE_LENGTHS

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.config.image_tower
        self.dim = checkpoint.config.dim
        self.fingerprint = checkpoint.fingerprint
        self._tensors: dict[str, NDArray[np.float32]] = checkpoint.tensors

    @classmethod
    def load(cls, path: Path) -> HashEncoder:
        """Open a checkpoint.

        Raises
        ------
        CorruptFile
            The file is not a complete checkpoint of this format.
        """
        return cls(read_checkpoint(path))

    def encode_images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures.

        Raises
        ------
        CorruptFile
            The installed picture network is not the one the model was trained with.
        """
        return self.encode_features(self.tower.features(images))

    @property
    def tower(self) -> ImageTower:
        """The frozen picture network of this model.

        Raises
        ------
        CorruptFile
            The installed network is not the one the model was trained with, so features would not match.
        """
        tower = image_tower(self.name)
        trained_on = self.checkpoint.provenance.tower
        if trained_on and tower.fingerprint != trained_on:
            raise CorruptFile(
                self.name,
                f"the installed network is {tower.fingerprint}, but the model was trained with {trained_on}",
                hint="Install the packages the model was trained with, or train again.",
            )
        return tower

    def encode_features(self, features: NDArray[np.float32]) -> Encoded:
        """Encode frozen picture features, float32, shape (n, image_dim)."""
        centred: NDArray[np.float32] = features - self._tensors["image.mean"]
        return self._encode("image", centred @ self._tensors["image.projection"])

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in any language the model was trained on.

        A text without a letter or digit gets the code of an empty text.
        """
        width = self.checkpoint.config.text_width
        table = self._tensors["text.embedding"]
        bags = np.zeros((len(texts), width), np.float32)
        for place, text in enumerate(texts):
            rows = ngram_rows(text, len(table))
            if rows:
                bags[place] = table[rows].sum(0)
        return self._encode("text", _unit(bags) * np.float32(width**0.5))

    def _encode(self, side: str, x: NDArray[np.float32]) -> Encoded:
        part = {
            name.removeprefix(f"{side}."): t for name, t in self._tensors.items() if name.startswith(side)
        }
        hidden = np.maximum(x @ part["in.weight"].T + part["in.bias"], 0)
        vectors = _unit(hidden @ part["out.weight"].T + part["out.bias"] + x @ part["skip.weight"].T)
        # a value at the threshold gives a one: sign(0) is +1, as in training
        bits = vectors @ part["code.weight"].T >= part["code.threshold"]
        return Encoded(pack_codes(bits), vectors.astype(np.float32, copy=False))


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit
