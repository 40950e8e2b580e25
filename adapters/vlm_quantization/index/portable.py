"""Shards that are encoded in another process: what they need, as values that can be sent."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.pictures import decode_picture
from adapters.vlm_quantization.towers.device import chosen_device

if TYPE_CHECKING:
    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.index.shards import ShardTask


@dataclass(frozen=True)
class EncoderFile:
    """A checkpoint that is opened where it is needed, once per process.

    Attributes
    ----------
    path : str
        The checkpoint.
    family : str
        Name of the adapter that opens it.
    fingerprint : str
        The encoder's, which is checked; empty: it is not.
    device : str
        What it computes on, see :mod:`adapters.vlm_quantization.towers.device`; empty: as it was opened.
    """

    path: str
    family: str
    fingerprint: str = ""
    device: str = ""

    def __call__(self) -> Encoder:
        """Open it.

        Raises
        ------
        workbench.BadInput
            It is another model than the build's, or there is no such device.
        """
        return _encoder(self)


@functools.lru_cache(maxsize=1)
def _encoder(file: EncoderFile) -> Encoder:
    from adapters.vlm_quantization.encoding.known_pictures import KnownPictures

    encoder: Any = wb.get_adapter(file.family).load_model(Path(file.path))
    if file.fingerprint and encoder.fingerprint != file.fingerprint:
        raise wb.BadInput(
            f"{file.path} is another model on a worker than in this build",
            hint="Let workers see the same folder under the same path, with the same packages installed.",
        )
    if file.device and hasattr(encoder, "device"):
        encoder.device = chosen_device(file.device)
    return KnownPictures(encoder) if hasattr(encoder, "encode_features") else encoder


@dataclass(frozen=True)
class StoredPictures:
    """Some pictures of a collection by where they are, numbered from 0.

    Attributes
    ----------
    pictures : sequence
        The encoded picture, the file that holds it, its place within a file, or what is known of it.
    names : sequence of str
        Their names in messages.
    """

    pictures: Sequence[Any]
    names: Sequence[str]

    def open(self, i: int) -> Any:
        """Return picture ``i`` in mode RGB, or what is known of it."""
        picture = self.pictures[i]
        if hasattr(picture, "encoded_thumbnail"):
            return picture
        return decode_picture(picture, name=self.names[i])


def portable(task: ShardTask, encoder: EncoderFile) -> ShardTask:
    """Return a shard that can be sent to another process, which sees the same files.

    Raises
    ------
    workbench.BadInput
        The pictures of the collection have no place outside this process.
    """
    if task.pictures is None:
        return replace(task, encoder=encoder)
    stored = getattr(task.pictures, "stored", None)
    if stored is None:
        raise wb.BadInput(
            f"the pictures of a {type(task.pictures).__name__} cannot be opened by another process",
            hint="Build this index without an engine.",
        )
    places = range(len(task.sources))
    pictures = [None if place in task.made else stored(task.sources[place]) for place in places]
    # A file is named by its path in messages, as in this process.
    names = ["" if isinstance(one, Path) else name for one, name in zip(pictures, task.ids, strict=True)]
    opener = StoredPictures(tuple(pictures), tuple(names))
    return replace(task, encoder=encoder, sources=tuple(places), pictures=opener)
