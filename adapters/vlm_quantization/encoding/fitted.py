"""Codes without training: a frozen encoder, and a linear map fitted to a sample of a collection's pictures.

The map is a model file like a trained checkpoint, so an index holds it and opens it in the same way. With an
encoder whose two towers share one space (``aligned``) texts are encoded too, each side centred on its own
mean, as the baselines of an evaluation are. With any other encoder the index knows no words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.encoding.checkpoint import Config, format_of, read_model, write_model
from adapters.vlm_quantization.encoding.encoder import HashEncoder, opened_tower
from adapters.vlm_quantization.encoding.itq import nested_planes, principal_axes
from adapters.vlm_quantization.towers.registry import image_name, image_tower, text_name, text_tower
from workbench import BadInput, CorruptFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.towers.pair import EncoderPair
    from adapters.vlm_quantization.towers.tower import ImageTower

#: Format name in the file's metadata.
FORMAT = "fitted-code-model/1"


#: Maximum number of pictures that a map is fitted to; more change it little and take longer.
FIT_SAMPLE = 4_096


#: Width of the float features, if the encoder's own are wider and not of a space that texts share.
COMPONENTS = 256


#: Texts whose mean stands for that of all texts, if the collection has no captions.
EVERYDAY_TEXTS = (
    *(
        "a dog",
        "a cat",
        "a horse",
        "a bird",
        "a fish",
        "a flower",
        "a tree",
        "a forest",
        "a mountain",
        "a lake",
    ),
    *("the sea at sunset", "a beach", "a city street", "a house", "a church", "a bridge", "a car", "a train"),
    *("a bicycle", "an aeroplane", "a boat", "a portrait of a woman", "a man with a hat", "children playing"),
    *("a group of friends", "a wedding", "a birthday cake", "a plate of food", "a cup of coffee", "fruit"),
    *(
        "a kitchen",
        "a living room",
        "an office",
        "a book",
        "a computer",
        "a guitar",
        "a football match",
        "snow",
    ),
    *("a rainy day", "the night sky", "a red dress", "a black and white photo", "a map", "a sign", "a toy"),
    *("a statue", "a field", "a garden", "clouds", "a river"),
)


HINT = "Build the index again."


class FittedConfig(Config):
    """What determines the shape of a fitted map.

    Attributes
    ----------
    encoder : str
        Name of the encoder.
    method : {"itq", "sign"}
        See :func:`adapters.vlm_quantization.encoding.itq.nested_planes`.
    image_dim : int
        Width of the encoder's picture features.
    dim : int
        Width of the float features.
    reduced : bool
        Whether features are projected to ``dim`` principal components; else they are the encoder's own.
    texts : bool
        Whether the encoder's text tower maps into the same space.
    """

    encoder: str = Field(min_length=1)
    method: Literal["itq", "sign"]
    image_dim: int = Field(ge=1, le=65_536)
    dim: int = Field(ge=1, le=65_536)
    reduced: bool
    texts: bool
    bits: Literal[128] = CODE_BITS

    @model_validator(mode="after")
    def _check_width(self) -> FittedConfig:
        if self.texts and self.reduced:
            raise ValueError("features that texts share must not be reduced")
        if self.dim > self.image_dim or (not self.reduced and self.dim != self.image_dim):
            raise ValueError("dim must be image_dim, or less if features are reduced")
        return self

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor in the file, by name."""
        reduced = {"image.mean": (self.image_dim,), "image.projection": (self.image_dim, self.dim)}
        return {
            **(reduced if self.reduced else {}),
            "code.weight": (self.bits, self.dim),
            "image.threshold": (self.bits,),
            **({"text.threshold": (self.bits,)} if self.texts else {}),
        }


class FittedProvenance(BaseModel):
    """Where a fitted map comes from.

    Attributes
    ----------
    tower, text_tower : str
        Fingerprints of the encoder's towers; the second is empty if texts are not encoded.
    data : str
        Fingerprint of the collection.
    languages : tuple of str
        Languages that the text tower was trained on; empty if that is not known, or it has none.
    pictures : int
        Number of pictures that it was fitted to.
    seed : int
        Seed of the sample and of the first rotations.
    """

    model_config = ConfigDict(extra="forbid")

    tower: str
    text_tower: str = ""
    languages: tuple[str, ...] = ()
    data: str = ""
    pictures: int = 0
    seed: int = 0


class FittedEncoder:
    """A frozen encoder with fitted codes, for inference.

    Attributes
    ----------
    name : str
        Name of the encoder.
    bits : tuple of int
        Supported code lengths.
    dim : int
        Width of the float features.
    languages : tuple of str
        Languages of its texts; empty if that is not known, or it reads pictures only.
    fingerprint : str
        SHA-256 of the map.
    """

    bits = CODE_LENGTHS

    def __init__(
        self,
        config: FittedConfig,
        provenance: FittedProvenance,
        tensors: dict[str, Any],
        fingerprint: str,
    ) -> None:
        self.config = config
        self.provenance = provenance
        self.name = config.encoder
        self.dim = config.dim
        self.languages = provenance.languages
        self.fingerprint = fingerprint
        self._tensors: dict[str, NDArray[np.float32]] = tensors

    @classmethod
    def load(cls, path: Path) -> FittedEncoder:
        """Open a file that :func:`fit_codes` wrote.

        Raises
        ------
        CorruptFile
            The file is not a complete map of this format.
        """
        return cls(*read_model(path, (FORMAT,), FittedConfig, FittedProvenance, hint=HINT))

    @property
    def knows_words(self) -> bool:
        """Whether texts can be encoded."""
        return self.config.texts

    @property
    def tower(self) -> ImageTower:
        """The picture tower of the encoder.

        Raises
        ------
        CorruptFile
            The encoder is gone, or is not the one that the map was fitted to.
        """
        tower = opened_tower(image_tower, image_name(self.name))
        self._check(tower.fingerprint, self.provenance.tower)
        return tower

    def open_text_tower(self) -> None:
        """Load the text tower now, if there is one, so that the first query does not wait for it."""
        if self.config.texts:
            self.encode_texts(["a"])

    def encode_images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures."""
        return self.encode_features(self.tower.features(images))

    def encode_features(self, features: NDArray[np.float32]) -> Encoded:
        """Encode picture features of the encoder, float32, shape (n, image_dim)."""
        if self.config.reduced:
            centred: NDArray[np.float32] = features - self._tensors["image.mean"]
            features = centred @ self._tensors["image.projection"]
        return self._encode("image", features)

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in the languages of the encoder.

        Raises
        ------
        BadInput
            The encoder has no text tower in the space of the pictures.
        CorruptFile
            It is gone, or is not the one that the map was fitted to.
        """
        if not self.config.texts:
            raise BadInput(f"encoder {self.name!r} has no texts in the space of its pictures")
        tower = opened_tower(text_tower, text_name(self.name))
        self._check(tower.fingerprint, self.provenance.text_tower)
        return self._encode("text", tower.features(texts))

    def margins_of(self, features: NDArray[np.float32], side: str) -> NDArray[np.float32]:
        """Return the distance of each bit from its threshold, float32 (n, 128); the code is their signs.

        Parameters
        ----------
        features : ndarray, float32, shape (n, dim)
            As this encoder returned them.
        side : {"image", "text"}
        """
        margins: NDArray[np.float32] = features @ self._tensors["code.weight"].T
        margins -= self._tensors[f"{side}.threshold"]
        return margins

    def _encode(self, side: str, features: NDArray[np.float32]) -> Encoded:
        vectors = _unit(features)
        return Encoded(
            pack_codes(vectors @ self._tensors["code.weight"].T >= self._tensors[f"{side}.threshold"]),
            vectors,
        )

    def _check(self, installed: str, fitted: str) -> None:
        if installed != fitted:
            raise CorruptFile(
                self.name,
                "the encoder's files or settings have changed since the codes were made "
                f"({installed} now, {fitted} then)",
                hint="Put back the files the codes were made with, or build the index again.",
            )


def fit_codes(
    path: Path,
    pair: EncoderPair,
    features: NDArray[np.float32],
    *,
    method: Literal["itq", "sign"] = "itq",
    texts: Sequence[str] = (),
    data: str = "",
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> FittedEncoder:
    """Fit a map to features of pictures, write it to a file, and return it opened.

    Parameters
    ----------
    path : Path
        The file to write; the same arguments write the same bytes.
    pair : EncoderPair
        The encoder.
    features : ndarray, float32, shape (n, d)
        Features of a sample of the pictures by the encoder's picture tower, at least one row.
    method : {"itq", "sign"}
        See :func:`adapters.vlm_quantization.encoding.itq.nested_planes`.
    texts : sequence of str
        Captions whose mean the texts are centred on; :data:`EVERYDAY_TEXTS` if there are none. Used only with
        an encoder whose towers share one space.
    data : str
        Fingerprint of the collection, to record.
    seed : int
    progress : callable, optional
        ``progress(done, total)``.

    Raises
    ------
    BadInput
        There are no features.
    """
    if not len(features):
        raise BadInput("codes cannot be fitted without pictures")
    rng = np.random.Generator(np.random.PCG64(seed))
    tower = pair.text if pair.aligned else None
    tensors: dict[str, NDArray[np.float32]] = {}
    vectors: NDArray[Any] = np.asarray(features, np.float32)
    if reduced := tower is None and vectors.shape[1] > COMPONENTS:
        tensors |= _components(vectors)
        projected: NDArray[np.float32] = (vectors - tensors["image.mean"]) @ tensors["image.projection"]
        vectors = projected
    vectors = _unit(vectors)
    mean = vectors.astype(np.float64).mean(axis=0)
    planes = nested_planes(vectors - mean, method, rng, progress=progress)
    tensors["code.weight"] = planes.T.astype(np.float32)
    tensors["image.threshold"] = (mean @ planes).astype(np.float32)
    if tower is not None:
        middle = _unit(tower.features(list(texts) or list(EVERYDAY_TEXTS))).astype(np.float64).mean(axis=0)
        tensors["text.threshold"] = (middle @ planes).astype(np.float32)
    config = FittedConfig(
        encoder=pair.name,
        method=method,
        image_dim=features.shape[1],
        dim=vectors.shape[1],
        reduced=reduced,
        texts=tower is not None,
    )
    provenance = FittedProvenance(
        tower=pair.image.fingerprint,
        text_tower="" if tower is None else tower.fingerprint,
        languages=() if tower is None else tuple(tower.languages),
        data=data,
        pictures=len(features),
        seed=seed,
    )
    write_model(path, FORMAT, config, provenance, tensors)
    return FittedEncoder.load(path)


def _components(features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the mean, and the projection to principal components, of features on scales of their own.

    Each feature is divided by the root of its deviation, half-way between leaving the scales as they are and
    making them equal. On drawings of emoji, half of them fitted, that finds the drawing in the other style
    best by code (.47 of the queries; .44 and .45 for the two ends); by cosine it is .55, as .56 and .52.
    """
    mean = features.mean(axis=0)
    scale = 1 / np.sqrt(features.std(axis=0) + 1e-3)
    scaled = ((features - mean) * scale).astype(np.float64)
    axes = principal_axes(scaled)[:, :COMPONENTS]
    # the sign of an axis is arbitrary: fix it, so that every machine gets the same
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return {
        "image.mean": mean.astype(np.float32),
        "image.projection": (axes * scale[:, None]).astype(np.float32),
    }


def _unit(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows of unit norm, float32; a row of zeros, which has no direction, gets the first axis."""
    rows = np.asarray(x, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    unit: NDArray[np.float32] = rows / np.maximum(norms, np.float32(1e-12))
    unit[norms[:, 0] < 1e-12] = np.eye(1, rows.shape[1], dtype=np.float32)
    return unit


def open_model(path: Path) -> HashEncoder | FittedEncoder:
    """Open a model file: a trained checkpoint, or a fitted map.

    Raises
    ------
    CorruptFile
        The file is neither, or not complete.
    """
    return FittedEncoder.load(path) if format_of(path) == FORMAT else HashEncoder.load(path)
