"""A model under evaluation: the codes and features that it gives the pictures and texts of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, margins_of
from adapters.vlm_quantization.data.pictures import opened_ahead
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.encoding.encoder import HashEncoder


#: Pictures encoded at a time; bounds the decoded pictures in memory.
BATCH = 64


#: Picture towers that encode some hundred pictures per second on one core.
QUICK_TOWERS = frozenset({"efficientnet-lite0", "random"})


class Origin(NamedTuple):
    """Where a model under evaluation comes from.

    Attributes
    ----------
    fingerprint : str
        SHA-256 (hex) of its weights.
    split : str
        Fingerprint of the part that it was trained on.
    seed : int
        Seed of its training.
    words : str
        Step and seed, for the report.
    rows : list of (name, value)
        What else the report says of the model.
    taken_from : str
        Where it was taken over from, if what it was trained on is unknown.
    """

    fingerprint: str
    split: str
    seed: int
    words: str
    rows: list[tuple[str, Any]]
    taken_from: str = ""


class Subject(Protocol):
    """A model under evaluation."""

    fingerprint: str

    @property
    def quick(self) -> bool:
        """Whether a hundred pictures are encoded in a second or so on one core."""

    def images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures that the collection need not have."""

    def pictures(self, rows: NDArray[np.int64]) -> Encoded:
        """Encode pictures of the collection, by row."""

    def texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts."""

    def margins(self, encoded: Encoded, side: str) -> NDArray[np.float32] | None:
        """Return how far each value is from the threshold of its bit, float32 (n, bits), if that is known."""


class FromFeatures:
    """A model whose frozen picture features are known.

    Parameters
    ----------
    encoder : HashEncoder
    features : ndarray, float32, shape (n, d)
        Frozen features of all pictures of the collection.
    encode_texts : callable, optional
        Encodes texts in place of the encoder, such as one that knows the features of the collection's.
    """

    def __init__(
        self,
        encoder: HashEncoder,
        features: NDArray[np.float32],
        encode_texts: Callable[[Sequence[str]], Encoded] | None = None,
    ) -> None:
        self.fingerprint = encoder.fingerprint
        self.texts: Callable[[Sequence[str]], Encoded] = encode_texts or encoder.encode_texts
        self._encoder = encoder
        self._features = features

    @property
    def quick(self) -> bool:
        """Whether a hundred pictures are encoded in a second or so on one core."""
        return self._encoder.name in QUICK_TOWERS

    def images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures that the collection need not have."""
        return self._encoder.encode_images(images)

    def pictures(self, rows: NDArray[np.int64]) -> Encoded:
        """Encode pictures of the collection, by row."""
        return self._encoder.encode_features(self._features[rows])

    def margins(self, encoded: Encoded, side: str) -> NDArray[np.float32] | None:
        """Return the distance of each bit from its threshold, float32 (n, bits); the code is their signs."""
        return margins_of(self._encoder, encoded, side)


class FromPictures:
    """Any encoder: each picture is decoded and encoded once, when it is first asked for.

    Parameters
    ----------
    encoder : Encoder
    collection : CaptionedImages
    progress : callable, optional
        ``progress(done, total, message)``.

    Raises
    ------
    BadInput
        The encoder has other code lengths than an evaluation reports.
    """

    def __init__(
        self, encoder: Encoder, collection: CaptionedImages, progress: OnProgress | None = None
    ) -> None:
        if tuple(encoder.bits) != CODE_LENGTHS:
            raise BadInput(
                f"{encoder.name!r} has codes of {list(encoder.bits)} bits; "
                f"an evaluation reports {list(CODE_LENGTHS)}"
            )
        self.fingerprint = encoder.fingerprint
        self.texts = encoder.encode_texts
        self.quick = False  # nothing is known of it
        self._encoder = encoder
        self._collection = collection
        self._progress = progress
        self._known: dict[int, tuple[Any, Any]] = {}

    def images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures that the collection need not have."""
        return self._encoder.encode_images(images)

    def pictures(self, rows: NDArray[np.int64]) -> Encoded:
        """Encode pictures of the collection, by row."""
        new = [row for row in rows.tolist() if row not in self._known]
        opened = opened_ahead(self._collection.open, new)
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            pictures = []
            for _, picture in zip(part, opened, strict=False):
                if isinstance(picture, Exception):  # it could be read when the collection was opened
                    raise picture
                pictures.append(picture)
            encoded = self._encoder.encode_images(pictures)
            self._known |= dict(zip(part, zip(encoded.codes, encoded.features, strict=True), strict=True))
            if self._progress:
                self._progress(start + len(part), len(new), "encoding pictures")
        codes, features = zip(*(self._known[row] for row in rows.tolist()), strict=True)
        return Encoded(np.stack(codes), np.stack(features))

    def margins(self, encoded: Encoded, side: str) -> None:
        """Return nothing: only the codes are known."""
