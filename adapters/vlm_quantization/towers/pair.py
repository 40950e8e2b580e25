"""What an encoder is: a picture tower, and where the encoder has one, a text tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.vlm_quantization.towers.tower import ImageTower, TextTower


@dataclass(frozen=True)
class EncoderPair:
    """The two towers of an encoder.

    Attributes
    ----------
    name : str
        The name that the options and checkpoints hold.
    image : ImageTower
    text : TextTower or None
        None: the encoder has no text tower of its own.
    aligned : bool
        Whether both towers map into one space, so that the cosine of a text and a picture says how well they
        fit before anything is trained.
    about : mapping
        JSON data for the run's settings and the checkpoint: library, revision, SHA-256 of the files, settings
        of the processor. Empty for encoders whose packages are pinned.
    """

    name: str
    image: ImageTower
    text: TextTower | None = None
    aligned: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
