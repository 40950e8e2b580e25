"""What each loader of collections declares, and what it is handed; the table of them is in ``sources``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import workbench as wb

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress


class Onlooker(Protocol):
    """Is shown the pictures that are decoded while a collection is opened; none is decoded again then."""

    def begin(self, pictures: int) -> None:
        """Take the number of pictures in the collection; an exception stops the opening."""

    def wants(self, digest: str) -> bool:
        """Return whether to be shown a picture that need not be decoded: its digest is known."""

    def show(self, digest: str, picture: Image) -> None:
        """Take a decoded picture, in mode RGB, with the digest of its pixels."""


@dataclass(frozen=True)
class Opening:
    """How a collection is opened.

    Attributes
    ----------
    options : mapping of str to str
        The options of the source, such as ``{"caption": "title"}``; only names that the loader declares.
    cache_dir : Path or None
        Folder that caches what takes long; None for no cache.
    progress : callable or None
        Called as ``progress(done, total, message)``.
    decode : bool or Onlooker
        Whether to decode every picture once, which finds broken ones and gives each item its digest; an
        onlooker is shown the pictures then.
    spill : Path or None
        An existing folder for files, so that the collection need not be in memory; loaders that cannot read
        like this do without.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    cache_dir: Path | None = None
    progress: OnProgress | None = None
    decode: bool | Onlooker = True
    spill: Path | None = None

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return the value of an option with a few allowed values, the first of which is the default.

        Raises
        ------
        BadInput
            It has another value.
        """
        value = self.options.get(name, allowed[0])
        if value not in allowed:
            raise wb.BadInput(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        return value


@dataclass(frozen=True)
class Loader:
    """One form of collections.

    Attributes
    ----------
    form : str
        Its name, such as ``"coco"``.
    about : str
        What it reads, in one line.
    recognises : callable
        Whether a path is of this form, by names and first bytes only; it never raises for a readable path.
    read : callable
        Reads the collection, as ``read(path, opening)``.
    options : mapping of str to str
        The options it has, each with one line of description.
    """

    form: str
    about: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Opening], CaptionedImages]
    options: Mapping[str, str] = field(default_factory=dict)


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """Return how a file starts; empty if it is not a file or cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""
