"""Inference with a trained model: texts and pictures to codes, in numpy alone.

A search page opens one encoder per visitor, so opening costs only a file read and needs no training library.
The frozen networks are loaded when they are needed: that of pictures on the first query by picture, that of
texts on the first text or by :meth:`HashEncoder.open_text_tower`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.encoding.checkpoint import Checkpoint, read_checkpoint, tuned_weights
from adapters.vlm_quantization.encoding.peer_head import head_outputs, signs
from adapters.vlm_quantization.towers.device import place
from adapters.vlm_quantization.towers.ngrams import ngram_rows
from adapters.vlm_quantization.towers.registry import about_encoder, fresh_pair, image_tower, text_tower
from adapters.vlm_quantization.towers.tuned import tuned_pair
from adapters.vlm_quantization.towers.unscaled import unscaled
from workbench import BadInput, CorruptFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.towers.pair import EncoderPair
    from adapters.vlm_quantization.towers.tower import ImageTower, TextTower

Opened = TypeVar("Opened")


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
    languages : tuple of str
        Languages of the texts it was trained on and of those its frozen text network was trained on; empty if
        not known.
    device : str
        Where its towers compute: ``cpu``, which is the default, ``cuda`` or ``mps``.
    """

    bits = CODE_LENGTHS

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.config.image_tower
        self.dim = checkpoint.config.dim
        self.fingerprint = checkpoint.fingerprint
        origin = checkpoint.provenance
        known = origin.languages and (origin.text_languages or not checkpoint.config.text_tower)
        self.languages = tuple(dict.fromkeys(origin.languages + origin.text_languages)) if known else ()
        self.device = "cpu"
        self._tensors: dict[str, NDArray[np.float32]] = checkpoint.tensors
        self._tuned: EncoderPair | None = None

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
        tower: ImageTower = opened_tower(image_tower, self.name)
        if self._takes_unscaled:
            tower = unscaled(tower)
        origin = self.checkpoint.provenance
        if before := origin.tuned.get("image"):
            self._check(self.name, "network", tower.fingerprint, before)
            tower = self._tuned_pair().image
        self._check(self.name, "network", tower.fingerprint, origin.tower)
        return cast("ImageTower", place(tower, self.device))

    @property
    def text_tower(self) -> TextTower | None:
        """The frozen text network of this model, or None if its texts are n-grams alone.

        Raises
        ------
        CorruptFile
            The installed network is not the one the model was trained with, so features would not match.
        """
        name = self.checkpoint.config.text_tower
        if not name:
            return None
        tower: TextTower = opened_tower(text_tower, name)
        if self._takes_unscaled:
            tower = unscaled(tower)
        origin = self.checkpoint.provenance
        if before := origin.tuned.get("text"):
            self._check(name, "text network", tower.fingerprint, before)
            tower = cast("TextTower", self._tuned_pair().text)
        self._check(name, "text network", tower.fingerprint, origin.text_tower)
        return cast("TextTower", place(tower, self.device))

    def _tuned_pair(self) -> EncoderPair:
        """Return the encoder with this checkpoint's own weights in it; they are read at its first use."""
        if self._tuned is None:
            weights = self.checkpoint.provenance.tuned["weights"]
            pair = opened_tower(fresh_pair, self.name)
            self._tuned = tuned_pair(pair, weights, lambda: tuned_weights(self.checkpoint))
        return self._tuned

    def _check(self, name: str, kind: str, installed: str, trained_on: str) -> None:
        """Refuse a tower with another fingerprint, and name the files that differ."""
        if not trained_on or installed == trained_on:
            return
        reason = f"the installed {kind} is {installed}, but the model was trained with {trained_on}"
        hint = "Install the packages the model was trained with, or train again."
        if was := self.checkpoint.provenance.encoder.get("files"):
            now = about_encoder(name).get("files", {})
            changed = sorted(file for file in {*was, *now} if was.get(file) != now.get(file))
            if changed:
                reason += f"; other files: {', '.join(changed)}"
            hint = "Put back the files the model was trained with, or train again."
        raise CorruptFile(name, reason, hint=hint)

    def count_cut_texts(self, texts: Sequence[str]) -> tuple[int, int]:
        """Return how many texts are too long for the frozen text network, and the tokens that it reads.

        ``(0, 0)`` without such a network, or with one that reads texts of any length.
        """
        tower = self.text_tower
        count = getattr(tower, "cut_texts", None)
        return (count(texts), getattr(tower, "most_tokens", 0)) if count else (0, 0)

    def open_text_tower(self) -> None:
        """Load the frozen text network now, if there is one, so that the first query does not wait for it.

        Raises
        ------
        CorruptFile, MissingExtra
            As for :attr:`text_tower`.
        """
        if self.checkpoint.config.text_tower:
            self.encode_texts(["a"])

    def encode_features(self, features: NDArray[np.float32]) -> Encoded:
        """Encode frozen picture features, float32, shape (n, image_dim)."""
        if self._takes_unscaled:
            return self._encode_unscaled("image", features)
        centred: NDArray[np.float32] = features - self._tensors["image.mean"]
        return self._encode("image", centred @ self._tensors["image.projection"])

    def encode_texts(self, texts: Sequence[str], tower: TextTower | None = None) -> Encoded:
        """Encode texts in any language the model was trained on.

        A text without a letter or digit gets the code of an empty text.

        Parameters
        ----------
        texts : sequence of str
        tower : TextTower, optional
            Use this instead of the model's own text tower, for example one that remembers the features of a
            collection's texts. It must have the same fingerprint.

        Raises
        ------
        CorruptFile
            The installed text network is not the one the model was trained with.
        """
        config = self.checkpoint.config
        if self._takes_unscaled:
            if (own := tower or self.text_tower) is None:
                raise BadInput("this model has no text network")  # a checkpoint of this head always has one
            return self._encode_unscaled("text", own.features(texts))
        parts = []
        if config.ngrams:
            table = self._tensors["text.embedding"]
            bags = np.zeros((len(texts), config.text_width), np.float32)
            for place, text in enumerate(texts):
                rows = ngram_rows(text, len(table))
                if rows:
                    bags[place] = table[rows].sum(0)
            length = config.ngram_softness * config.text_width + np.square(bags).sum(1, keepdims=True)
            bags /= np.sqrt(np.maximum(length, 1e-24))
            parts.append(bags * np.float32(config.text_width**0.5))
        if frozen := (tower or self.text_tower) if config.text_tower else None:
            features: NDArray[np.float32] = frozen.features(texts) - self._tensors["text.mean"]
            parts.append(features @ self._tensors["text.projection"])
        return self._encode("text", np.concatenate(parts, axis=1))

    def margins_of(self, features: NDArray[np.float32], side: str) -> NDArray[np.float32] | None:
        """Return the distance of each bit from its threshold, float32 (n, 128); the code is their signs.

        None if features of unit norm do not determine them.

        Parameters
        ----------
        features : ndarray, float32, shape (n, dim)
            As this encoder returned them.
        side : {"image", "text"}
        """
        if self._takes_unscaled:
            return None
        margins: NDArray[np.float32] = features @ self._tensors[f"{side}.code.weight"].T
        margins -= self._tensors[f"{side}.code.threshold"]
        return margins

    @property
    def separate(self) -> tuple[int, ...]:
        """Code lengths with thresholds of their own, whose codes are not prefixes; empty for nested codes."""
        return self.checkpoint.config.separate

    def separate_codes(self, side: str, features: NDArray[np.float32]) -> dict[int, NDArray[np.uint8]]:
        """Return the packed code of each length of :attr:`separate`, uint8 (n, length // 8).

        Parameters
        ----------
        side : {"image", "text"}
        features : ndarray, float32, shape (n, dim)
            Of that side's tower, not normalised.
        """
        outputs = head_outputs(self._part(side), features)
        return {
            length: pack_codes(signs(outputs, self._threshold(side, f"code.{length}")))
            for length in self.separate
        }

    @property
    def _takes_unscaled(self) -> bool:
        return self.checkpoint.config.head == "layernorm-gelu"

    def _encode_unscaled(self, side: str, features: NDArray[np.float32]) -> Encoded:
        if self.separate:
            raise BadInput("this model has a code of its own for each length", hint="Use separate_codes.")
        scale, shift = self._threshold(side, "code")
        margins: NDArray[np.float32] = head_outputs(self._part(side), features) * scale + shift
        return Encoded(pack_codes(margins >= 0), _unit(features), margins)

    def _threshold(self, side: str, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._tensors[f"{side}.{name}.scale"], self._tensors[f"{side}.{name}.shift"]

    def _part(self, side: str) -> dict[str, NDArray[np.float32]]:
        return {
            name.removeprefix(f"{side}."): tensor
            for name, tensor in self._tensors.items()
            if name.startswith(f"{side}.")
        }

    def _encode(self, side: str, x: NDArray[np.float32]) -> Encoded:
        part = self._part(side)
        hidden = np.maximum(x @ part["in.weight"].T + part["in.bias"], 0)
        vectors = _unit(hidden @ part["out.weight"].T + part["out.bias"] + x @ part["skip.weight"].T)
        # a value at the threshold gives a one: sign(0) is +1, as in training
        bits = vectors @ part["code.weight"].T >= part["code.threshold"]
        return Encoded(pack_codes(bits), vectors.astype(np.float32, copy=False))


def opened_tower(open_tower: Callable[[str], Opened], name: str) -> Opened:
    """Return a tower; where it cannot be used, that is the model's fault and not the input's."""
    try:
        return open_tower(name)
    except BadInput as error:
        reason = f"the frozen network cannot be used: {error.message}"
        raise CorruptFile(name, reason, hint=error.hint) from None


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit
