"""Decode untrusted pictures safely and reproducibly."""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import workbench as wb
from adapters.vlm_quantization.data import decoder
from adapters.vlm_quantization.data.decoder import AT_ONCE
from adapters.vlm_quantization.data.stored import Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from PIL.Image import Image

__all__ = [
    "AT_ONCE",
    "MAX_PIXELS",
    "MEGAPIXELS",
    "decode_picture",
    "decode_with_digest",
    "max_pixels",
    "opened_ahead",
    "picture_file_digest",
]


Opened = TypeVar("Opened")


#: A picture with more pixels than this is refused before decoding (a 20 KB file can expand to 483 MB), unless
#: :data:`MEGAPIXELS` says otherwise.
MAX_PIXELS = 25_000_000


#: Environment variable: maximum size of a picture, in million pixels.
MEGAPIXELS = "WORKBENCH_MAX_MEGAPIXELS"


#: Largest value of :data:`MEGAPIXELS`: a picture of that size takes some 40 GB to decode.
MOST_MEGAPIXELS = 1_000


def max_pixels() -> int:
    """Return the maximum number of pixels of a picture: :data:`MAX_PIXELS`, or what the environment says.

    Raises
    ------
    BadInput
        The environment variable is not a number from 1 to :data:`MOST_MEGAPIXELS`.
    """
    text = os.environ.get(MEGAPIXELS, "").strip()
    if not text:
        return MAX_PIXELS
    try:
        millions = float(text)
    except ValueError:
        millions = -1.0
    if not 1 <= millions <= MOST_MEGAPIXELS:
        allowed = f"a number of million pixels from 1 to {MOST_MEGAPIXELS:,}"
        raise wb.BadInput(
            "pictures cannot be read: a setting of this installation is invalid",
            advice=f"${MEGAPIXELS} must be {allowed}, got {text!r}.",
        )
    return round(millions * 1e6)


_RAISE_WITH = f"The environment variable {MEGAPIXELS} raises the limit."


def decode_picture(data: Picture, *, name: str = "") -> Image:
    """Decode a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC picture to RGB, in a process of its own.

    Only the first frame is decoded. It is rotated by its EXIF orientation, composited on white, and stripped
    of metadata. A JPEG may have four times the pixels of :func:`max_pixels`, and so may a PNG or TIFF that
    can be decoded in parts; one of more than 25 million is decoded at a half, a quarter or an eighth of its
    size.

    Parameters
    ----------
    data : bytes, Path or StoredPicture
        The encoded picture, the file that holds it, or its place within a file.
    name : str, optional
        Name of the picture in error messages. Default: the path.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, with an empty ``info``.

    Raises
    ------
    BadInput
        The file is missing, not a picture, broken, over :func:`max_pixels`, or takes too much time or memory.
    """
    most = max_pixels()
    try:
        if not _APART:
            return decoder.decode(_bytes_of(data, most), most, _RAISE_WITH)
        from adapters.vlm_quantization.data.decoding import pixels_of_picture

        return pixels_of_picture(_outside(data, most), most, _RAISE_WITH)
    except decoder.Refused as reason:
        raise _bad_input(reason, data, name) from None


def picture_file_digest(data: Picture, *, name: str = "") -> str:
    """Return the SHA-256 (hex) of an encoded picture's size and RGB pixels, as of the decoded picture.

    Raises
    ------
    BadInput
        As :func:`decode_picture`.
    """
    most = max_pixels()
    try:
        if not _APART:
            picture = decoder.decode(_bytes_of(data, most), most, _RAISE_WITH)
            return decoder.digest_of(picture.size, picture.tobytes())
        from adapters.vlm_quantization.data.decoding import digest_of_picture

        return digest_of_picture(_outside(data, most), most, _RAISE_WITH)
    except decoder.Refused as reason:
        raise _bad_input(reason, data, name) from None


def decode_with_digest(data: Picture, *, name: str = "") -> tuple[Image, str]:
    """Return a picture as :func:`decode_picture` does, and the digest of its pixels, decoded once.

    Raises
    ------
    BadInput
        As :func:`decode_picture`.
    """
    most = max_pixels()
    try:
        if not _APART:
            picture = decoder.decode(_bytes_of(data, most), most, _RAISE_WITH)
            return picture, decoder.digest_of(picture.size, picture.tobytes())
        from adapters.vlm_quantization.data.decoding import picture_and_its_digest

        return picture_and_its_digest(_outside(data, most), most, _RAISE_WITH)
    except decoder.Refused as reason:
        raise _bad_input(reason, data, name) from None


def opened_ahead(
    open_one: Callable[[Any], Opened],
    sources: Iterable[Any],
    *,
    ahead: int = 8,
    at_once: int = AT_ONCE,
) -> Generator[Opened | Exception, None, None]:
    """Open pictures in order, some of them ahead in other threads: they are decoded while others are used.

    Parameters
    ----------
    open_one : callable
        Opens one picture.
    sources : iterable
        What it is called with, one after another.
    ahead : int
        Maximum number of pictures that are open and not yet used.
    at_once : int
        Number of threads.

    Yields
    ------
    PIL.Image.Image or Exception
        What ``open_one`` returned, or the error that it raised.
    """

    def opened(source: Any) -> Opened | Exception:
        try:
            return open_one(source)
        except Exception as error:  # decoders raise various types, from OSError to SyntaxError
            return error

    waiting: deque[Future[Opened | Exception]] = deque()
    with ThreadPoolExecutor(at_once) as threads:
        try:
            for source in sources:
                waiting.append(threads.submit(opened, source))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


#: Whether pictures are decoded apart. Windows cannot limit a process: there, only the parts are counted.
_APART = sys.platform != "win32"


def _outside(data: Picture, most: int) -> bytes | Path:
    """Return a picture as the decoder takes it: one within a file is read here."""
    return data if isinstance(data, (bytes, Path)) else data.read(decoder.FILE_BYTES_PER_PIXEL * most)


def _bytes_of(data: Picture, most: int) -> bytes:
    data = _outside(data, most)
    most_bytes = decoder.FILE_BYTES_PER_PIXEL * most
    return decoder.read_file(str(data), most_bytes) if isinstance(data, Path) else data


def _bad_input(reason: decoder.Refused, data: Picture, name: str) -> wb.BadInput:
    name = name or ("the picture" if isinstance(data, bytes) else str(data))
    return wb.BadInput(f"{name}: {reason}", hint=reason.hint, advice=reason.advice)
