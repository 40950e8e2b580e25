"""Decode one untrusted picture after another, in a process of its own.

Run by its path, with the number of a shared file: it then imports Pillow and nothing of this project, so it
starts in a tenth of a second. Each line of standard input is a request, and gets one line on standard output,
both JSON; a request says where the picture is (``path``, or the first ``bytes`` of the shared file), and what
to return: its ``pixels`` (written to the shared file), only their ``digest``, or ``both``.

:mod:`adapters.vlm_quantization.data.decoding` starts it, and replaces it where a picture takes too long.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import stat
import struct
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

#: Supported file formats. Naming them keeps Pillow from trying its other decoders on hostile bytes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")


#: The same for people.
SUPPORTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC"


#: A picture that can be decoded at a part of its size may have this many times the pixels of others: a JPEG,
#: and most PNG and TIFF files, see :mod:`adapters.vlm_quantization.data.strips`.
LARGE_TIMES = 4


#: How HEIC files name themselves, after ``ftyp``.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


#: Maximum number of pictures that are decoded at the same time, each in a process of its own: half of the
#: processors, so that a GPU need not wait, and at most 8, since each may take the memory of a large picture.
AT_ONCE = min(max((os.cpu_count() or 1) // 2, 2), 8)


#: A picture's file may have at most this many bytes per pixel of the largest picture that is decoded whole:
#: what RGBA of four times as many takes uncompressed.
FILE_BYTES_PER_PIXEL = 16


#: Larger pictures, where they are allowed, are decoded at a half, a quarter or an eighth of their size.
DRAFT_ABOVE = 25_000_000


#: Maximum number of scans, and of other segments, in a JPEG file. Cameras and editors write up to some twenty
#: scans and a few hundred segments; each further scan costs a pass over all pixels.
MOST_SCANS, MOST_SEGMENTS = 100, 2_000


#: Maximum number of data chunks, and of other chunks, in a PNG or WebP file.
MOST_DATA_CHUNKS, MOST_CHUNKS = 100_000, 2_000


class Refused(Exception):
    """A picture cannot be used; the message is the reason, without the picture's name.

    ``advice`` is for those who own the machine, see :class:`workbench.WorkbenchError`.
    """

    def __init__(self, message: str, hint: str = "", advice: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.advice = advice


# --- the parts of a file, counted before anything is decoded ------------------------------------------------


def check_parts(data: bytes) -> None:
    """Refuse a file with absurdly many parts, each of which costs a decoder time.

    Raises
    ------
    Refused
        It has more scans, segments or chunks than pictures have.
    """
    if data[:2] == b"\xff\xd8":
        _check_jpeg(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        _check_chunks(data, 8, ">I4s", b"IDAT", 12)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_chunks(data, 12, "<4sI", b"", 8)


#: A marker within the data of a scan: not a stuffed zero, a restart, or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


#: Markers without a length: TEM, restarts, and the start of an image.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


_SCAN, _END = 0xDA, 0xD9


def _check_jpeg(data: bytes) -> None:
    scans = segments = 0
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker = data[found.start() + 1]
        if marker == _END:
            return
        at = found.end()
        if marker in _BARE:
            continue
        scans, segments = scans + (marker == _SCAN), segments + (marker != _SCAN)
        if scans > MOST_SCANS:
            raise Refused(f"more than {MOST_SCANS:,} scans in a JPEG file", "Save it again and retry.")
        if segments > MOST_SEGMENTS:
            raise Refused(f"more than {MOST_SEGMENTS:,} segments in a JPEG file", "Save it again and retry.")
        at += max(int.from_bytes(data[at : at + 2]), 2)


def _check_chunks(data: bytes, at: int, head: str, pixels: bytes, around: int) -> None:
    count = data_count = 0
    while at + 8 <= len(data):
        first, second = struct.unpack_from(head, data, at)
        name, size = (second, first) if isinstance(first, int) else (first, second)
        count, data_count = count + (name != pixels), data_count + (name == pixels)
        if count > MOST_CHUNKS or data_count > MOST_DATA_CHUNKS:
            most = MOST_CHUNKS if count > MOST_CHUNKS else MOST_DATA_CHUNKS
            raise Refused(f"more than {most:,} chunks in the file", "Save it again and retry.")
        at += size + around
        if pixels == b"":
            at += size % 2


# --- decoding -----------------------------------------------------------------------------------------------


def decode(data: bytes, max_pixels: int, raise_with: str = "") -> Image.Image:
    """Decode a picture of one of the supported formats to RGB.

    Only the first frame is decoded. It is rotated by its EXIF orientation, composited on white, and stripped
    of metadata. A JPEG, PNG or TIFF of more than :data:`DRAFT_ABOVE` pixels is decoded at a half, a
    quarter or an eighth of its size, if its file allows that.

    Parameters
    ----------
    data : bytes
        The encoded picture.
    max_pixels : int
        Maximum number of pixels.
    raise_with : str
        How the user can raise that, for the error.

    Raises
    ------
    Refused
        The data is not a picture, broken, too large, or made of too many parts.
    """
    check_parts(data)
    try:
        return _decoded(data, max_pixels, raise_with)
    except Refused:
        raise
    except UnidentifiedImageError:
        raise _unknown(data) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("too many pixels", max_pixels, raise_with) from None
    except MemoryError:
        raise
    except Exception as error:
        # Broken files make Pillow raise OSError, SyntaxError, ValueError, struct.error, IndexError, ...
        again = _mended(data, error, max_pixels, raise_with)
        if again is None:
            raise Refused(f"broken picture ({type(error).__name__}: {error})") from None
        return again


def _unknown(data: bytes) -> Refused:
    """Return the error of a file that no decoder takes."""
    if _is_heic(data) and "HEIF" not in Image.OPEN:
        return Refused(
            "a HEIC picture, and its decoder is not installed",
            "Save it as JPEG.",
            'To read HEIC: pip install "notebook-workbench[data]"',
        )
    return Refused(f"not a picture; supported formats: {SUPPORTED}")


def _is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC


def _open_heic() -> None:
    """Let Pillow open HEIC, where the package for it is installed."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)


def _decoded(data: bytes, max_pixels: int, raise_with: str) -> Image.Image:
    if _is_heic(data):
        _open_heic()
    known = [name for name in FORMATS if name != "HEIF" or name in Image.OPEN]
    with Image.open(io.BytesIO(data), formats=known) as opened:
        # Nothing is decoded yet. Pillow's own warning comes later than this limit, and cannot be turned into
        # an error for a single thread.
        width, height = opened.size
        pixels, whole = width * height, min(DRAFT_ABOVE, max_pixels)
        size = f"{width} × {height} is {pixels / 1e6:.0f} million pixels"
        jpeg = opened.format in ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it
        large = jpeg or opened.format in ("PNG", "TIFF")
        if pixels > max_pixels * (LARGE_TIMES if large else 1):
            raise _too_large(size, max_pixels * (LARGE_TIMES if large else 1), raise_with)
        if large and pixels > whole:
            scale = next((one for one in (2, 4, 8) if pixels <= one * one * whole), 8)
            if jpeg:
                opened.draft(None, (max(width // scale, 1), max(height // scale, 1)))
            elif (small := _in_strips(data, opened, scale)) is not None:
                return small
            elif pixels > max_pixels:
                kind = f"{size} in a {opened.format} file that cannot be decoded in parts"
                raise _too_large(kind, max_pixels, raise_with)
        return _on_white(ImageOps.exif_transpose(opened))


def _in_strips(data: bytes, opened: Image.Image, scale: int) -> Image.Image | None:
    """Return a picture at a part of its size, upright; None if its file must be decoded whole."""
    small: Image.Image | None = _strips().shrunk(data, opened, scale, _on_white)
    if small is None:
        return None
    if (turned := _strips().orientation(data, opened)) == 1:
        return small
    small.getexif()[_ORIENTATION] = turned
    ImageOps.exif_transpose(small, in_place=True)
    small.info.clear()
    return small


def _strips() -> Any:
    """Return the module that only large pictures need; a process that is run by its path has no package."""
    name = "adapters.vlm_quantization.data.strips"
    if __name__ != "__main__":
        return importlib.import_module(name)
    if name not in sys.modules:
        file = __file__.replace("decoder.py", "strips.py")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None  # noqa: S101  # for the type checker
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


#: Where a picture says which way is up.
_ORIENTATION = 0x0112


def _too_large(problem: str, max_pixels: int, raise_with: str) -> Refused:
    allowed = f"at most {max_pixels / 1e6:g} million are allowed"
    return Refused(f"{problem}; {allowed}", "Resize it and try again.", raise_with)


def _on_white(picture: Image.Image) -> Image.Image:
    """Return an RGB copy without metadata, transparent parts white."""
    if picture.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255, which makes nearly everything white.
        picture = picture.point(lambda value: value / 256).convert("L")
    elif picture.mode in ("I", "F"):
        extrema: Any = picture.getextrema()  # typed as those of several bands too
        low, high = extrema
        scale = 255 / (high - low) if high > low else 0.0
        picture = picture.convert("F").point(lambda value: value * scale - low * scale).convert("L")
    if picture.has_transparency_data:
        overlay = picture.convert("RGBA")
        flat = Image.new("RGBA", overlay.size, "white")
        flat.alpha_composite(overlay)
        picture = flat
    rgb = picture.convert("RGB")
    out = rgb.copy() if rgb is picture else rgb
    out.info.clear()
    return out


# --- files with a harmless fault ----------------------------------------------------------------------------


def _mended(data: bytes, error: Exception, max_pixels: int, raise_with: str) -> Image.Image | None:
    """Decode a file whose pixels are whole although Pillow refuses it; None if they are not."""
    try:
        if data[:2] == b"\xff\xd8" and isinstance(error, OSError):
            return _without_end(data, max_pixels, raise_with)
        if data[:4] == b"\x89PNG" and isinstance(error, ValueError):
            return _decoded(_without_texts(data), max_pixels, raise_with)
    except MemoryError:
        raise
    except Exception:
        return None
    return None


def _without_end(data: bytes, max_pixels: int, raise_with: str) -> Image.Image | None:
    """Decode a JPEG that lacks its end marker only; None if pixels are missing too.

    Where the data of the last scan is complete, what follows it is ignored. Where it is not, the decoder
    makes up the missing pixels from what follows, so that different fillings give different pixels.
    """
    body = data.rstrip(b"\xff")
    one = _decoded(body + b"\xff\xd9", max_pixels, raise_with)
    other = _decoded(body + b"\x5a\xc3" * 512 + b"\xff\xd9", max_pixels, raise_with)
    return one if one.tobytes() == other.tobytes() else None


def _without_texts(data: bytes) -> bytes:
    """Return a PNG without texts and colour profile: Pillow refuses large ones, and no pixel needs them."""
    out, at = [data[:8]], 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            out.append(data[at : at + size + 12])
        at += size + 12
    return b"".join(out)


# --- the process --------------------------------------------------------------------------------------------


def digest_of(size: tuple[int, int], pixels: bytes) -> str:
    """Return the SHA-256 (hex) of a picture: its size and its RGB pixels, row by row."""
    digest = hashlib.sha256(f"{size[0]}x{size[1]}:".encode())
    digest.update(pixels)
    return digest.hexdigest()


def read_file(path: str, max_bytes: int) -> bytes:
    """Read a picture's file.

    Raises
    ------
    Refused
        It is not a file, cannot be read, or is larger than ``max_bytes``.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:  # paths are slow to import
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Refused("cannot be read (not a file)")
            if status.st_size > max_bytes:
                size, most = status.st_size / 1e6, max_bytes / 1e6
                raise Refused(f"a file of {size:,.0f} MB; at most {most:,.0f} MB are allowed")
            return file.read(max_bytes)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror or type(error).__name__})") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for its writer


def _limit(request: Mapping[str, Any]) -> None:
    """Limit the memory of this process, and the time of its processor for the next picture."""
    import resource

    memory, seconds = int(request["memory"]), int(request["seconds"])
    with contextlib.suppress(OSError, ValueError):  # not every system limits memory
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory if hard < 0 else min(memory, hard), hard))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard < 0 else min(until, hard), hard))


def _answer(request: Mapping[str, Any], shared: int) -> dict[str, Any]:
    max_pixels = int(request["max_pixels"])
    if request.get("path") is not None:
        data = read_file(os.fsdecode(bytes.fromhex(request["path"])), int(request["max_bytes"]))
    else:
        data = os.pread(shared, int(request["bytes"]), 0)
    picture = decode(data, max_pixels, str(request.get("raise_with", "")))
    pixels = picture.tobytes()
    digest = {} if request["wanted"] == "pixels" else {"digest": digest_of(picture.size, pixels)}
    if request["wanted"] == "digest":
        return digest
    done = 0
    while done < len(pixels):
        done += os.pwrite(shared, memoryview(pixels)[done:], done)
    return {"size": picture.size, **digest}


def main() -> int:
    """Answer requests until standard input is closed."""
    shared = int(sys.argv[1])
    Image.MAX_IMAGE_PIXELS = None  # the request has a limit
    warnings.simplefilter("ignore")  # nobody reads them, and a broken file may give thousands
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _limit(request)
            answer = _answer(request, shared)
        except Refused as reason:
            answer = {"refused": str(reason), "hint": reason.hint, "advice": reason.advice}
        except MemoryError:
            answer = {"memory": True}
        print(json.dumps(answer), flush=True)
        if "memory" in answer:
            return 0  # memory may be in pieces now: the next picture gets a fresh process
    return 0


if __name__ == "__main__":
    sys.exit(main())
